"""`python -m local up|down|clean`: run a system in the foreground, stop what a crash left, forget the data."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path

import psutil

from local.process import MARK
from local.system import LocalSystem, SystemRunning

STOP_SECONDS = 20.0


async def up(state: Path) -> None:
    """Run until Ctrl-C or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print("starting ...", flush=True)
    async with LocalSystem(state) as system:
        for name in ("SUBMIT_URL", "MONITOR_URL", "ORDS_INBOX_URL"):
            print(f"{name:16} {system.env[name]}")
        print(f"all addresses    {state / 'env'}\nlogs             {state / 'log'}\nready; Ctrl-C stops it", flush=True)
        await stop.wait()
        print("stopping ...", flush=True)


def down(state: Path) -> None:
    """Stop a system, or what a crash left of it."""
    with contextlib.suppress(OSError, ValueError, psutil.Error):
        supervisor = psutil.Process(int((state / "lock").read_text()))
        if "local" in supervisor.cmdline() or "demo" in supervisor.cmdline():
            supervisor.terminate()
            supervisor.wait(STOP_SECONDS)
    left = [process for process in psutil.process_iter() if _is_ours(process, state)]
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, STOP_SECONDS)
    print("nothing runs")


def _is_ours(process: psutil.Process, state: Path) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.pid != os.getpid() and process.environ().get(MARK) == str(state.resolve())
    return False


def main() -> int:
    """Do what the command says."""
    state = Path(os.environ.get("RPA_LOCAL", ".local"))
    match sys.argv[1:]:
        case ["up"]:
            try:
                asyncio.run(up(state))
            except SystemRunning as running:
                print(f"Error: {running}", file=sys.stderr)
                return 1
        case ["down"]:
            down(state)
        case ["clean"]:
            down(state)
            shutil.rmtree(state, ignore_errors=True)
        case _:
            print("usage: python -m local up|down|clean", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
