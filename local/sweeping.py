"""Finding and killing the processes of browsers, whatever session, group or parent they moved to."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from local.process import MARK

BROWSER_MARK = "RPA_BROWSER"
"""Every process of a browser has the browser's name in its environment under this name, beside the system's mark."""
SWEEP_SECONDS = 5.0
LOOKS = 2
"""A process that is just becoming another program shows no environment, and so is overlooked."""
PAUSE_SECONDS = 0.02


def browser_processes(state: Path, name: str | None = None) -> Iterator[psutil.Process]:
    """The processes of one browser of a system, or of all its browsers; zombies run no more and do not count."""
    system = str(state.resolve())
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            environment = process.environ()
            marked = environment.get(BROWSER_MARK)
            if environment.get(MARK) != system or marked is None or name not in (None, marked):
                continue
            if process.status() != psutil.STATUS_ZOMBIE:
                yield process


def kill_browsers(state: Path, name: str | None = None) -> None:
    """Kill until none is left: a process may start another one while we look."""
    deadline = time.monotonic() + SWEEP_SECONDS
    looks_without_any = 0
    while looks_without_any < LOOKS:
        found = list(browser_processes(state, name))
        looks_without_any = 0 if found else looks_without_any + 1
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        if time.monotonic() > deadline:
            return
        # Not psutil's own wait: it would take our children's exit codes away from asyncio.
        time.sleep(PAUSE_SECONDS)
