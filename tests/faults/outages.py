"""Killing, stopping and emptying whole processes, and what else is taken away for a while."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from random import Random

import psutil
import psycopg

from kn_rpa.doctor.expected import FUNCTIONS
from local.system import NODE
from tests.faults.drawing import Lots
from tests.faults.system import FaultySystem

CLOCK_SECONDS = 90
PAUSE_SECONDS = (0.5, 4.0)

DISK_FULL = """
CREATE OR REPLACE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';
END $$;
CREATE OR REPLACE TRIGGER disk_full BEFORE INSERT ON evidence FOR EACH ROW EXECUTE FUNCTION disk_full();
"""
DISK_FREE = "DROP TRIGGER IF EXISTS disk_full ON evidence"

Outage = Callable[[FaultySystem, Random], Awaitable[None]]


async def _kill_function(name: str, system: FaultySystem, _: Random) -> None:
    _kill(system, name)


async def _kill_postgres(system: FaultySystem, _: Random) -> None:
    _kill(system, "postgres")


async def _restart_postgres(system: FaultySystem, _: Random) -> None:
    _send(system, "postgres", signal.SIGINT)


async def _pause_postgres(system: FaultySystem, draw: Random) -> None:
    async with _stopped(system, "postgres"):
        await asyncio.sleep(draw.uniform(*PAUSE_SECONDS))


async def _kill_valkey(system: FaultySystem, _: Random) -> None:
    _kill(system, "valkey")


async def _empty_valkey(system: FaultySystem, _: Random) -> None:
    # Stopped first, so that it comes back to nothing.
    _send(system, "valkey", signal.SIGSTOP)
    await asyncio.to_thread(shutil.rmtree, system.state / "valkey" / "appendonlydir", True)
    _kill(system, "valkey")


async def _pause_valkey(system: FaultySystem, draw: Random) -> None:
    async with _stopped(system, "valkey"):
        await asyncio.sleep(draw.uniform(*PAUSE_SECONDS))


async def _kill_node(system: FaultySystem, _: Random) -> None:
    _kill(system, NODE)


async def _pause_node(system: FaultySystem, draw: Random) -> None:
    async with _stopped(system, NODE):
        await asyncio.sleep(draw.uniform(3.0, 5.0))


async def _deafen(system: FaultySystem, draw: Random) -> None:
    system.weather.deaf = True
    try:
        await asyncio.sleep(draw.uniform(*PAUSE_SECONDS))
    finally:
        system.weather.deaf = False


async def _take_ords_away(system: FaultySystem, draw: Random) -> None:
    system.ords.down = True
    try:
        await asyncio.sleep(draw.uniform(2.0, 6.0))
    finally:
        system.ords.down = False


async def _fill_disk(system: FaultySystem, draw: Random) -> None:
    await _sql(system, DISK_FULL)
    try:
        await asyncio.sleep(draw.uniform(*PAUSE_SECONDS))
    finally:
        await _sql(system, DISK_FREE)


async def _shift_clock(seconds: int, system: FaultySystem, draw: Random) -> None:
    name = draw.choice(FUNCTIONS)
    file = system.faults / "clock" / name
    file.write_text(str(seconds))
    _kill(system, name)
    try:
        await asyncio.sleep(draw.uniform(6.0, 10.0))
    finally:
        file.unlink()
        _kill(system, name)


OUTAGES: dict[str, list[tuple[str, Outage]]] = {
    "kills": [(f"{name} killed", partial(_kill_function, name)) for name in FUNCTIONS],
    "postgres": [
        ("PostgreSQL killed", _kill_postgres),
        ("PostgreSQL restarted", _restart_postgres),
        ("PostgreSQL paused", _pause_postgres),
    ],
    "valkey": [
        ("Valkey killed", _kill_valkey),
        ("Valkey restarted empty", _empty_valkey),
        ("Valkey paused", _pause_valkey),
    ],
    "browsers": [
        ("browser node killed with all its browsers", _kill_node),
        *[("browser node paused", _pause_node)] * 2,
    ],
    "events": [("every event lost for a while", _deafen)],
    "ords": [("ORDS down", _take_ords_away)],
    "disk": [("disk full for evidence", _fill_disk)],
    "clock": [(f"clock off by {s:+d} s", partial(_shift_clock, s)) for s in (-CLOCK_SECONDS, CLOCK_SECONDS)],
}


class Outages:
    """One after the other and again each, in an order that the seed decides, until they are stopped."""

    def __init__(self, system: FaultySystem, lots: Lots, pause: float) -> None:
        self.counts: Counter[str] = Counter()
        self._deck = [outage for name, outages in OUTAGES.items() if name in lots.classes for outage in outages]
        self.left = len(self._deck)
        """How many have not come to pass yet."""
        self._system = system
        self._lots = lots
        self._pause = pause

    async def run(self) -> None:
        """For ever; what is under way when it is stopped is set right again."""
        number = 0
        while self._deck:
            self._lots.of("deck", number).shuffle(self._deck)
            for name, outage in self._deck:
                number += 1
                draw = self._lots.of("outage", number)
                await outage(self._system, draw)
                self.counts[name] += 1
                self.left = max(self.left - 1, 0)
                await asyncio.sleep(draw.uniform(0.5, 1.5) * self._pause)


def _kill(system: FaultySystem, name: str) -> None:
    _send(system, name, signal.SIGKILL)


def _send(system: FaultySystem, name: str, number: signal.Signals) -> None:
    pid = system.children[name].pid
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@contextlib.asynccontextmanager
async def _stopped(system: FaultySystem, name: str) -> AsyncIterator[None]:
    pid = system.children[name].pid or 0
    stopped = []
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        # The parent first: then it makes no more of them.
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                each.suspend()
                stopped.append(each)
    try:
        yield
    finally:
        for each in reversed(stopped):
            with contextlib.suppress(psutil.Error):
                each.resume()


async def _sql(system: FaultySystem, statement: str) -> None:
    while True:
        with contextlib.suppress(psycopg.Error):
            async with await psycopg.AsyncConnection.connect(
                system.env["DATABASE_URL"], autocommit=True, connect_timeout=3
            ) as connection:
                await connection.execute(statement)  # type: ignore[arg-type]
                return
        await asyncio.sleep(0.2)
