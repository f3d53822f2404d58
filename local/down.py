"""Stopping a system from outside, or what a crash left of one."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from local.browsers import browsers_folder
from local.process import MARK
from local.running import SystemRunning, sole

STOP_SECONDS = 30.0


def down(state: Path) -> None:
    """Stop every system in a state folder or just below it, and say what was stopped."""
    stopped = [folder for folder in _folders(state.resolve()) if _down(folder)]
    for folder in stopped:
        print(f"stopped what ran in {folder}")
    if not stopped:
        print("nothing runs")


def _folders(state: Path) -> list[Path]:
    return [state, *(lock.parent for lock in sorted(state.glob("*/lock")))]


def _down(state: Path) -> bool:
    asked = _ask(state)
    left = list(_processes(state))
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, STOP_SECONDS)
    shutil.rmtree(browsers_folder(state), ignore_errors=True)
    return asked or bool(left)


def _ask(state: Path) -> bool:
    """Let the one who runs the system stop it in order; whether there was one."""
    if not (state / "lock").exists():
        return False
    try:
        with sole(state):
            return False
    except SystemRunning as running:
        with contextlib.suppress(psutil.Error):
            supervisor = psutil.Process(running.pid)
            supervisor.terminate()
            supervisor.wait(STOP_SECONDS)
        return True


def _processes(state: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == str(state):
                yield process
