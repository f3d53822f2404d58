"""One run: load and faults at once, then peace, then the audit."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg

from local.sweeping import BROWSER_MARK, browser_processes
from tests.faults import broker, node, ords, worker
from tests.faults.auditor import Violation, audit
from tests.faults.configuration import MAX_WORKERS, entries
from tests.faults.delays import longest
from tests.faults.drawing import Lots
from tests.faults.evidence import Evidence
from tests.faults.load import Load
from tests.faults.outages import OUTAGES, Outages
from tests.faults.points import Points
from tests.faults.system import FaultySystem

CLASSES = (
    "events", "kills", "points", "postgres", "commits", "valkey", "workers", "browsers", "ords", "disk", "clock",
)  # fmt: skip
KINDS: dict[str, set[str]] = {name: {kind for kind, _ in outages} for name, outages in OUTAGES.items()}
"""What each class injects, besides faults at statements."""
KINDS["events"].update(broker.KINDS)
KINDS["workers"] = {f"worker {kind}" for kind in worker.BAD if kind}
KINDS["browsers"].update(f"browser {kind}" for kind in node.KINDS if kind)
KINDS["ords"].update(f"ORDS {kind}" for kind in ords.KINDS if kind)
REST_SECONDS = 90.0
"""Longer than anything waits for a lease that runs out: where nothing has changed for so long, nothing will."""
MOST = 0.95
POINTS_SECONDS = 20.0
"""How long after the load the remaining faults may still wait for their statement."""

PROGRESS = """
SELECT count(*) FILTER (WHERE finished_at IS NOT NULL AND retry_of IS NULL),
    count(*) FILTER (WHERE finished_at IS NULL OR reported_at IS NULL),
    (SELECT count(*) FROM browsers WHERE job_id IS NOT NULL), (SELECT count(*) FROM outbox),
    count(*) FILTER (WHERE finished_at IS NULL), extract(epoch FROM now() - min(lease_expires_at))::float
FROM jobs
"""
STATES = "SELECT state || CASE WHEN attempt > 1 THEN ' after retries' ELSE '' END, count(*) FROM jobs GROUP BY 1"


@dataclass(frozen=True)
class Order:
    """What is asked for."""

    seed: int
    jobs: int
    classes: frozenset[str] = frozenset(CLASSES)
    window: int = 60
    """Jobs under way at once."""
    pause: float = 2.0
    """Seconds between two outages, about, and twice those between two deaths at a statement."""
    scale: int = 1
    """How many times the limits of a short run hold."""
    dropped: float | None = None
    """The share of all events that is dropped, 0 to 1; without it a few are, where the class `events` is drawn."""
    first_lost: bool = False
    """Lose every event the first time that it comes."""


@dataclass
class Outcome:
    """What became of it."""

    order: Order
    seconds: float = 0.0
    injected: Counter[str] = field(default_factory=Counter)
    observed: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    unmet: list[str] = field(default_factory=list)
    """Faults at statements that were planned and never came to pass."""
    unexpected: list[str] = field(default_factory=list)
    """Statements that a function executed and was not expected to."""
    reaping_seconds: float = 0.0
    """The longest time between two rounds of reaping."""
    overdue_seconds: float = 0.0
    """The longest time that a lease had run out and was not reaped."""
    delays: dict[str, float] = field(default_factory=dict)
    """The longest wait for an event of each kind, in seconds."""

    @property
    def ok(self) -> bool:
        """Whether every promise was kept, under every fault that was planned."""
        return not self.violations and not self.unmet and not self.unexpected

    @property
    def missing(self) -> set[str]:
        """Kinds of faults that were not injected; a short run does not come to all."""
        return {kind for name in self.order.classes for kind in KINDS.get(name, ())} - set(+self.injected)


async def run(order: Order, state: Path) -> Outcome:
    """Run it in this folder."""
    outcome = Outcome(order)
    lots = Lots(order.seed, order.classes)
    started = time.monotonic()
    async with FaultySystem(state, lots, order.scale) as system:
        (system.faults / "database").write_text(system.env["DATABASE_URL"])
        system.weather.dropped = order.dropped
        system.weather.first_lost = order.first_lost
        watch = Watch(system.env["DATABASE_URL"])
        points = Points(system.faults, lots, order.pause / 2)
        outages = Outages(system, lots, order.pause)
        load = Load(
            system,
            lots,
            order.jobs,
            order.window,
            lambda: (watch.looks, watch.under_way),
            lambda: points.left or outages.left,
        )
        async with _meanwhile(watch.run()):
            with _at_ctrl_c(load.enough):
                await _suffer(load, points, outages, watch)
            await _until(lambda: watch.at_rest or watch.stuck_since < time.monotonic() - REST_SECONDS)
        evidence = _evidence(system, load, watch, order.scale)
        outcome.reaping_seconds = evidence.reaping_seconds
        outcome.overdue_seconds = evidence.overdue_seconds
        outcome.violations = await asyncio.to_thread(audit, evidence)
        outcome.delays = await asyncio.to_thread(longest, evidence.database_url)
        outcome.states = await asyncio.to_thread(_states, evidence.database_url)
        outcome.injected = points.counts + outages.counts + system.weather.counts + _browsers(system)
        bad = Counter({name: count for name, count in system.workers.counts.items() if name.startswith("worker ")})
        outcome.injected += bad + system.ords.counts
        outcome.observed = load.counts + (system.workers.counts - bad)
        outcome.unmet, outcome.unexpected = points.left, points.unknown()
        await load.aclose()
    outcome.seconds = time.monotonic() - started
    return outcome


async def _suffer(load: Load, points: Points, outages: Outages, watch: Watch) -> None:
    async with _meanwhile(outages.run()), _meanwhile(load.operate()):
        arming = asyncio.create_task(points.run())
        await load.run()
        # The last jobs suffer as the first did; and a few statements are rare.
        await _until(lambda: watch.ended > MOST * load.offered, POINTS_SECONDS)
        await asyncio.wait({arming}, timeout=POINTS_SECONDS)
        arming.cancel()
        await asyncio.gather(arming, return_exceptions=True)
        points.disarm()


async def _until(condition: Callable[[], bool], seconds: float | None = None) -> None:
    """Until it is so, or for so long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - the database says so, nobody else
                await asyncio.sleep(0.2)


@contextlib.contextmanager
def _at_ctrl_c(act: Callable[[], None]) -> Iterator[None]:
    """The first one ends the load, and what there was is audited."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, act)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


@contextlib.asynccontextmanager
async def _meanwhile(work: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        if task.done():
            task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Watch:
    """How far the jobs are, as the database says while it answers."""

    def __init__(self, database_url: str) -> None:
        self.ended = 0
        self.under_way = 0
        self.looks = 0
        self.overdue_seconds = 0.0
        """The longest time that a lease was seen to have run out and was not reaped."""
        self.at_rest = False
        self.stuck_since = time.monotonic()
        self._open: object = None
        self._url = database_url

    async def run(self) -> None:
        """For ever."""
        while True:
            with contextlib.suppress(psycopg.Error, TimeoutError):
                async with (
                    asyncio.timeout(5),
                    await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection,
                ):
                    while True:
                        await self._look(connection)
                        await asyncio.sleep(0.3)
            await asyncio.sleep(0.2)

    async def _look(self, connection: psycopg.AsyncConnection[Any]) -> None:
        row = await (await connection.execute(PROGRESS)).fetchone()
        assert row is not None
        *progress, overdue = row
        self.ended, open_jobs, browsers, events, self.under_way = progress
        self.overdue_seconds = max(self.overdue_seconds, overdue or 0.0)
        self.looks += 1
        self.at_rest = not (open_jobs or browsers or events)
        if progress != self._open:
            self._open, self.stuck_since = progress, time.monotonic()


def _states(database_url: str) -> Counter[str]:
    with psycopg.connect(database_url) as connection:
        return Counter(dict(connection.execute(STATES).fetchall()))


def _evidence(system: FaultySystem, load: Load, watch: Watch, scale: int) -> Evidence:
    return Evidence(
        database_url=system.env["DATABASE_URL"],
        providers=entries(scale),
        max_workers=MAX_WORKERS * scale,
        submitted=load.submitted,
        portal=system.portals.visits,
        ords=system.ords.reports,
        processes=running_browsers(system.state),
        reaping_seconds=_longest_between((system.faults / "rounds").read_text().split()),
        overdue_seconds=watch.overdue_seconds,
        issued=system.workers.issued,
        poison=frozenset(load.poison),
    )


def running_browsers(state: Path) -> list[str]:
    """Names of the browsers that have a process."""
    return sorted({process.environ()[BROWSER_MARK] for process in browser_processes(state)})


def _longest_between(times: Sequence[str]) -> float:
    return max((later - earlier for earlier, later in pairwise(sorted(map(float, times)))), default=float("inf"))


def _browsers(system: FaultySystem) -> Counter[str]:
    return Counter((system.faults / "browsers").read_text().splitlines())
