"""The demo: a whole system on this machine, a dozen jobs of all kinds, and what became of them."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from rich.console import Console

from demo.cases import CASES
from demo.checks import all_checks
from demo.footprint import Footprint
from demo.play import play
from demo.report import show, write
from local.system import CANNOT_START, LocalSystem

FOLDER = Path(".local")
EVIDENCE = FOLDER / "evidence"
REPORT = FOLDER / "demo-report.json"
FILE_WIDTH = 118

INTRODUCTION = f"""{len(CASES) + 1} jobs at four portals.
Login codes change every 30 s, as real ones do, and no job gets another one's: at Octotel the second job waits.
One worker dies at its work; it is started again, and the job too."""


async def demonstrate(console: Console) -> bool:
    """Run the demo; whether all became as it should."""
    started = time.monotonic()
    footprint = Footprint()
    console.print("Starting PostgreSQL, Valkey, the functions and the demo's portals ...")
    async with LocalSystem(FOLDER / "demo") as system:
        console.print(f"Ready after {time.monotonic() - started:.1f} s. {INTRODUCTION}\n", highlight=False)
        run = await play(system.env, console, footprint, EVIDENCE)
    checks = all_checks(run, EVIDENCE, footprint.left(), len(footprint))
    featured = next(iter(run.cases))
    show(console, run, checks, featured, EVIDENCE)
    run.seconds = time.monotonic() - started
    write(REPORT, run, checks, featured, EVIDENCE)
    ok = all(check.ok for check in checks)
    verdict = "[bold green]All is well[/]" if ok else "[bold red]Not all is well[/]"
    console.print(f"{verdict} after {run.seconds:.0f} s. The same as JSON: {REPORT}")
    return ok


def main() -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=FILE_WIDTH)
    try:
        sys.exit(0 if asyncio.run(demonstrate(console)) else 1)
    except CANNOT_START as error:
        sys.exit(f"Error: {error}")
    except KeyboardInterrupt:
        sys.exit("Stopped.")


if __name__ == "__main__":
    main()
