"""Deaths and lost connections exactly before and after each statement that changes state."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

from tests.faults.drawing import Lots
from tests.faults.statements import EXECUTED_BY, points

SAME_FUNCTION_SECONDS = 3.0
POLL_SECONDS = 0.1
CAUSES = {"reap-idle.WARM": "provision-browser.WARM.before"}
"""Statements that are executed only where another was not: who should execute that dies before it once more."""


class Points:
    """Arms each fault once, with `pause` seconds between two deaths; a function that comes by one meets it."""

    def __init__(self, folder: Path, lots: Lots, pause: float) -> None:
        self._folder = folder
        self._pause = pause
        kinds = [kind for kind, name in (("kill", "points"), ("cut", "commits")) if name in lots.classes]
        self.planned = [f"{kind}.{point}" for kind in kinds for point in points()]
        self._waiting = list(self.planned)
        lots.of("points").shuffle(self._waiting)
        self._killed: dict[str, float] = {}

    @property
    def fired(self) -> list[str]:
        """Those that came to pass, in order."""
        return (self._folder / "fired").read_text().split()

    @property
    def left(self) -> list[str]:
        """Those that no function has come by."""
        return sorted(set(self.planned) - set(self.fired))

    @property
    def counts(self) -> Counter[str]:
        """By kind."""
        names = {"kill": "killed at a statement", "cut": "connection lost at a statement"}
        return Counter(f"{names[kind]}, {side}" for kind, _, _, side in (f.split(".") for f in self.fired))

    def unknown(self) -> list[str]:
        """What functions executed that EXECUTED_BY does not have."""
        known = {f"{function}.{name}" for function, names in EXECUTED_BY.items() for name in names}
        return sorted({file.name for file in (self._folder / "met").iterdir()} - known)

    async def run(self) -> None:
        """Until all have come to pass."""
        while self.left:
            armed = {file.name for file in (self._folder / "armed").iterdir()}
            self._help(armed)
            if fault := self._next(armed):
                self._waiting.remove(fault)
                (self._folder / "armed" / fault).touch()
                if fault.startswith("kill."):
                    await asyncio.sleep(self._pause)
            await asyncio.sleep(POLL_SECONDS)

    def _help(self, armed: set[str]) -> None:
        for statement, cause in CAUSES.items():
            function = cause.split(".")[0]
            if any(f".{statement}." in fault for fault in armed) and self._has_lived(function):
                self._killed[function] = time.time()
                (self._folder / "armed" / f"kill.{cause}").touch()

    def _next(self, armed: set[str]) -> str | None:
        for fault in self._waiting:
            kind, function, name, _ = fault.split(".")
            # One after the other at each statement, and no function dies again before it has begun to live.
            if any(other.split(".")[1:3] == [function, name] for other in armed):
                continue
            if kind == "cut":
                return fault
            if self._has_lived(function):
                self._killed[function] = time.time()
                return fault
        return None

    def _has_lived(self, function: str) -> bool:
        """It has answered again since it was to die; and everybody depends on reaping, so that had a whole round."""
        died = self._killed.get(function, 0.0)
        return not died or (
            self._last(f"../log/{function}.log") > died + SAME_FUNCTION_SECONDS
            and (function != "reap-idle" or self._last("rounds") > died)
        )

    def _last(self, name: str) -> float:
        file = self._folder / name
        return file.stat().st_mtime if file.exists() else 0.0

    def disarm(self) -> None:
        """Let everybody live."""
        for file in (self._folder / "armed").iterdir():
            file.unlink(missing_ok=True)
