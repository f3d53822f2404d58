"""`python -m local up|down|clean`: run a system in the foreground, stop what a crash left, forget the data."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from local.down import down
from local.overlay import own_providers
from local.system import CANNOT_START, LOGINS, LocalSystem

USAGE = "usage: python -m local up|down|clean"


async def up(state: Path) -> None:
    """Run until Ctrl-C or SIGTERM, which may come while it starts."""
    running = asyncio.create_task(_run(state))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, _once(running.cancel))
    try:
        await running
    except asyncio.CancelledError:
        print("stopped")


def _once(stop: Callable[[], object]) -> Callable[[], None]:
    """An impatient second Ctrl-C must not stop the stopping."""
    first = [stop]

    def act() -> None:
        if first:
            print("stopping ...", flush=True)
            first.pop()()

    return act


async def _run(state: Path) -> None:
    print("starting ...", flush=True)
    async with LocalSystem(state, overrides=own_providers(state / "providers")) as system:
        for name in ("SUBMIT_URL", "MONITOR_URL", "ORDS_INBOX_URL"):
            print(f"{name:16} {system.env[name]}")
        for what, file in (("all addresses", "env"), ("portals' logins", LOGINS), ("logs", "log")):
            print(f"{what:16} {state / file}")
        print("ready; Ctrl-C stops it", flush=True)
        await asyncio.Event().wait()


def main() -> int:
    """Do what the command says."""
    state = Path(os.environ.get("RPA_LOCAL", ".local"))
    match sys.argv[1:]:
        case ["up"]:
            try:
                asyncio.run(up(state))
            except CANNOT_START as error:
                print(f"Error: {error}", file=sys.stderr)
                return 1
        case ["down"]:
            down(state)
        case ["clean"]:
            down(state)
            shutil.rmtree(state, ignore_errors=True)
        case _:
            print(USAGE, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
