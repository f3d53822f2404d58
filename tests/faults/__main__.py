"""`make faults SEED=... JOBS=... FAULTS=... DROPPED=...`: a system under load and faults, and the auditor's verdict."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import sys
from pathlib import Path

from rich.console import Console

from local.system import CANNOT_START
from tests.faults.report import replay, show, write
from tests.faults.run import CLASSES, Order, run

LONG = 2000
"""A run of more jobs has more of them under way, and more time between two outages."""
FOLDER = Path(os.environ.get("RPA_LOCAL", ".local")) / "faults"


def ordered(environment: dict[str, str]) -> Order:
    """What the environment asks for. Raises ValueError."""
    classes = frozenset(environment.get("FAULTS", "").replace(",", " ").split()) or frozenset(CLASSES)
    if unknown := classes - set(CLASSES):
        raise ValueError(f"FAULTS: no class {', '.join(sorted(unknown))}; there are {', '.join(CLASSES)}")
    seed = int(environment.get("SEED") or secrets.randbelow(10**9))
    jobs = int(environment.get("JOBS") or 500)
    dropped = float(environment["DROPPED"]) if environment.get("DROPPED") else None
    if dropped is not None and not 0 <= dropped <= 1:
        raise ValueError("DROPPED: a share of all events, 0 to 1")
    if jobs <= LONG:
        return Order(seed, jobs, classes, dropped=dropped)
    return Order(seed, jobs, classes, window=120, pause=6.0, scale=2, dropped=dropped)


def main() -> int:
    """Run what is asked for; 1 where a promise was broken."""
    try:
        order = ordered(dict(os.environ))
    except ValueError as error:
        sys.exit(f"Error: {error}")
    console = Console()
    console.print(f"seed {order.seed}: {replay(order)}", highlight=False)
    # Half answers are what some workers give here; the server that they ask for it complains.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    shutil.rmtree(FOLDER, ignore_errors=True)
    try:
        outcome = asyncio.run(run(order, FOLDER))
    except CANNOT_START as error:
        sys.exit(f"Error: {error}")
    show(console, outcome)
    write(FOLDER / "report.json", outcome)
    return 0 if outcome.ok else 1


if __name__ == "__main__":
    sys.exit(main())
