"""The figures as a table for people, as JSON, and as Markdown."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Comparison

HEADINGS = ("case", "measure", "here", "reference", "ratio", "from – to", "compared with")
TEXTS = {"case", "measure", "compared with"}


@dataclass(frozen=True)
class Run:
    """A benchmark's figures: when and where they were taken."""

    at: str
    cores: int
    load_before: float
    """The machine's load average; more than 0 means that it had other work too."""
    seconds: float
    figures: Sequence[Comparison]

    def json(self) -> dict[str, Any]:
        """As it is kept."""
        return {**dataclasses.asdict(self), "figures": [figure.json() for figure in self.figures]}


def run_of(figures: Sequence[Comparison], load_before: float, seconds: float) -> Run:
    """What a benchmark found just now."""
    return Run(datetime.now(UTC).isoformat(timespec="seconds"), os.cpu_count() or 1, load_before, seconds, figures)


def keep(file: Path, name: str, run: Run) -> None:
    """Put a run in the place of the benchmark's last one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    runs = load(file) | {name: run}
    file.write_text(json.dumps({known: run.json() for known, run in runs.items()}, indent=1) + "\n")


def load(file: Path) -> dict[str, Run]:
    """The last run of each benchmark."""
    kept = json.loads(file.read_text()) if file.exists() else {}
    return {name: _run(entry) for name, entry in kept.items()}


def _run(entry: dict[str, Any]) -> Run:
    names = [field.name for field in dataclasses.fields(Comparison)]
    figures = [Comparison(*(figure[name] for name in names)) for figure in entry["figures"]]
    return Run(**{**entry, "figures": figures})


def show(console: Console, name: str, run: Run) -> None:
    """A table for people."""
    table = Table(
        title=f"\n{name}", caption=_circumstances(run), title_justify="left", caption_justify="left", box=None
    )
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in TEXTS else "right")
    before = ""
    for figure in run.figures:
        case, *rest = _row(figure)
        table.add_row("" if case == before else case, *rest)
        before = case
    console.print(table)


def _circumstances(run: Run) -> str:
    return f"{run.at}, {run.seconds:.0f} s on {run.cores} cores, load {run.load_before:.1f} before"


def markdown(runs: Iterable[Run]) -> str:
    """All figures as one table."""
    aligned = ["---" if heading in TEXTS else "---:" for heading in HEADINGS]
    rows = [HEADINGS, aligned, *(_row(figure) for run in runs for figure in run.figures)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(figure: Comparison) -> Sequence[str]:
    here, reference = (f"{short(value)} {figure.unit}" for value in (figure.measured, figure.of_reference))
    spread = f"{short(figure.ratios[0])} – {short(figure.ratios[-1])}"
    return figure.case, figure.measure, here, reference, short(figure.ratio), spread, figure.reference


def short(value: float) -> str:
    """Three digits that count, never with an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
