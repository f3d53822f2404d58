"""The browser processes that a run starts, and those that it leaves behind."""

from __future__ import annotations

import contextlib

import psutil

NAMES = ("firefox", "chrom", "launch-server")


class Footprint:
    """Every browser process that was seen under this one."""

    def __init__(self) -> None:
        self._seen: set[psutil.Process] = set()

    def __len__(self) -> int:
        return len(self._seen)

    def look(self) -> None:
        """Note the browsers that run now."""
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process not in self._seen and _is_browser(process):
                    self._seen.add(process)

    def left(self) -> list[int]:
        """Ids of the processes that still run; a zombie runs no more."""
        return sorted(process.pid for process in self._seen if _runs(process))


def _is_browser(process: psutil.Process) -> bool:
    words = [process.name(), *process.cmdline()[:4]]
    return any(name in word for word in words for name in NAMES)


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
