"""Python loads this in each function's process before anything else: it dies, or loses its connection, as planned.

RPA_FAULTS names the run's folder:

    statements.json  the SQL of each statement that changes state, and its name
    times.json       constants of the product that are shortened, by function and module
    clock/FUNCTION   seconds that this function's clock is off
    armed/           one empty file for each fault to come; who removes it has it
    fired            a line for each fault that came to pass
    rounds           when reap_idle had done a round, by a clock that is right
    met/             one empty file for each function and statement that was ever executed
"""

from __future__ import annotations

import datetime
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

FUNCTION = os.environ.get("K_SERVICE", "")
LAST_OF_A_ROUND = "FORGET_STEPS"
right_time = time.time


class Folder:
    """What is planned for this process, and what came of it."""

    def __init__(self, path: Path) -> None:
        self.statements: dict[str, str] = json.loads((path / "statements.json").read_text())
        self.times: dict[str, dict[str, float]] = json.loads((path / "times.json").read_text()).get(FUNCTION, {})
        clock = path / "clock" / FUNCTION
        self.offset = float(clock.read_text()) if clock.exists() else 0.0
        self._path = path
        self._met: set[str] = set()

    def at(self, connection: Any, statement: str, side: str) -> None:
        """Die here or lose the connection here, if that is planned."""
        point = f"{FUNCTION}.{statement}.{side}"
        if self._take(f"kill.{point}"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._take(f"cut.{point}"):
            from psycopg import OperationalError

            connection.pgconn.finish()
            raise OperationalError("the connection was cut")

    def meet(self, statement: str) -> None:
        """This function executes this statement."""
        if statement not in self._met:
            self._met.add(statement)
            (self._path / "met" / f"{FUNCTION}.{statement}").touch()

    def _take(self, fault: str) -> bool:
        try:
            os.unlink(self._path / "armed" / fault)  # noqa: PTH108 - at each statement, so the cheapest way
        except FileNotFoundError:
            return False
        # Before the signal, or nobody would know of it.
        self._note("fired", fault)
        return True

    def done(self, statement: str) -> None:
        """It was executed."""
        if statement == LAST_OF_A_ROUND:
            self._note("rounds", str(right_time()))

    def _note(self, name: str, line: str) -> None:
        file = os.open(self._path / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(file, f"{line}\n".encode())
        os.close(file)


def lie_in_wait(folder: Folder) -> None:
    """Wrap what executes statements and commits."""
    from psycopg import AsyncConnection, AsyncCursor

    execute, command = AsyncCursor.execute, AsyncConnection._exec_command

    async def watched(self: Any, query: Any, *args: Any, **options: Any) -> Any:
        name = folder.statements.get(query) if isinstance(query, str) else None
        if name is None:
            return await execute(self, query, *args, **options)
        folder.meet(name)
        folder.at(self.connection, name, "before")
        answer = await execute(self, query, *args, **options)
        folder.at(self.connection, name, "after")
        folder.done(name)
        return answer

    def commanded(self: Any, words: Any, *args: Any, **options: Any) -> Generator[Any, Any, Any]:
        if words != b"COMMIT":
            return (yield from command(self, words, *args, **options))
        folder.meet("COMMIT")
        folder.at(self, "COMMIT", "before")
        answer = yield from command(self, words, *args, **options)
        folder.at(self, "COMMIT", "after")
        return answer

    AsyncCursor.execute = watched  # type: ignore[method-assign]
    AsyncConnection._exec_command = commanded  # type: ignore[method-assign]


def shift_clock(seconds: float) -> None:
    """This process believes that it is so much later."""
    real = datetime.datetime

    class Whenever(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real)

    class Shifted(real, metaclass=Whenever):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
            return real.now(tz) + datetime.timedelta(seconds=seconds)

    datetime.datetime = Shifted  # type: ignore[misc]
    time.time = lambda: right_time() + seconds


def shorten(times: dict[str, dict[str, float]]) -> None:
    """Make constants of the product smaller, before anybody has read them."""
    for module, constants in times.items():
        for name, value in constants.items():
            setattr(importlib.import_module(module), name, value)


if "RPA_FAULTS" in os.environ and "uvicorn" in " ".join(sys.orig_argv):
    planned = Folder(Path(os.environ["RPA_FAULTS"]))
    if planned.offset:
        shift_clock(planned.offset)
    lie_in_wait(planned)
    shorten(planned.times)
