"""`python -m benchmarks [NAME ...]`: measure; `--markdown` prints the last figures instead."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import codes, dispatch, imports, knative, submissions
from benchmarks.figures import Comparison
from benchmarks.report import keep, load, markdown, run_of, show

FOLDER = Path(".local")
FILE = FOLDER / "benchmarks.json"
FILE_WIDTH = 160
CLUSTER = "knative"
"""Needs the cluster of KUBECONFIG, so it must be asked for."""
BENCHMARKS: dict[str, Callable[[Path], Awaitable[list[Comparison]]]] = {
    "submissions": submissions.measure,
    "dispatch": dispatch.measure,
    "totp": codes.measure,
    "imports": imports.measure,
    "knative": knative.measure,
}
EXPLANATION = """Each figure stands beside a reference that was taken in turns with it, round by round, on the same
machine. The ratio is the median of the rounds' ratios: more is better for rates, less for times."""


async def measure(names: Sequence[str], console: Console) -> None:
    """Run benchmarks, each on a new system."""
    console.print(EXPLANATION, highlight=False)
    for name in names:
        before, begun = os.getloadavg()[0], time.monotonic()
        # Not the system of `make up`: nothing that is kept there may count.
        with tempfile.TemporaryDirectory(prefix="benchmark-", dir=FOLDER) as folder:
            figures = await BENCHMARKS[name](Path(folder))
        run = run_of(figures, before, time.monotonic() - begun)
        keep(FILE, name, run)
        show(console, name, run)
    console.print(f"\nThe same as JSON, with every round: {FILE}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=EXPLANATION)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one or more of {', '.join(BENCHMARKS)}; none: all but {CLUSTER}"
    )
    parser.add_argument("--markdown", action="store_true", help="print the last figures as Markdown; measure nothing")
    wish = parser.parse_args()
    if unknown := [name for name in wish.names if name not in BENCHMARKS]:
        parser.error(f"{unknown[0]}: unknown; one or more of {', '.join(BENCHMARKS)}")
    names = wish.names or [name for name in BENCHMARKS if wish.markdown or name != CLUSTER]
    if wish.markdown:
        runs = load(FILE)
        print(markdown(runs[name] for name in names if name in runs))
        return
    FOLDER.mkdir(exist_ok=True)
    console = Console()
    try:
        asyncio.run(measure(names, console if console.is_terminal else Console(width=FILE_WIDTH)))
    except KeyboardInterrupt:
        sys.exit("Stopped.")


if __name__ == "__main__":
    main()
