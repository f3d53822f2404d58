"""Who runs the system of a state folder: one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


class SystemRunning(Exception):
    """Another process runs a system in this state folder."""

    def __init__(self, state: Path, pid: int) -> None:
        super().__init__(
            f"process {pid} runs a system in {state} already; `make down` stops it, RPA_LOCAL names another"
        )
        self.pid = pid


@contextlib.contextmanager
def sole(state: Path) -> Iterator[None]:
    """Be the one who runs the system of a folder; the kernel ends this with the process. Raises SystemRunning."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise SystemRunning(state, int(file.read() or 0)) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
