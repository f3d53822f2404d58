"""What a run was and what became of it: tables for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults.run import CLASSES, Order, Outcome

SHOWN = 40


def replay(order: Order) -> str:
    """The command that draws the same faults again."""
    classes = "" if order.classes == frozenset(CLASSES) else f" FAULTS={','.join(sorted(order.classes))}"
    dropped = "" if order.dropped is None else f" DROPPED={order.dropped}"
    return f"make faults SEED={order.seed} JOBS={order.jobs}{classes}{dropped}"


def show(console: Console, outcome: Outcome) -> None:
    """The whole report, for people."""
    console.rule("What was injected")
    console.print(_table(outcome.injected))
    console.rule("What was seen")
    console.print(_table(outcome.observed))
    console.rule("How the jobs ended")
    console.print(_table(outcome.states))
    jobs, seconds = sum(outcome.states.values()), outcome.seconds
    console.print(f"{jobs} jobs in {seconds:.0f} s; the longest time between two rounds of reaping was "
                  f"{outcome.reaping_seconds:.1f} s")  # fmt: skip
    console.print(f"The longest time that a lease had run out and was not reaped was {outcome.overdue_seconds:.1f} s")
    console.print("Longest waits: " + ", ".join(f"{name} {wait:.1f} s" for name, wait in outcome.delays.items()))
    console.rule("The auditor's verdict")
    for problem in _problems(outcome)[:SHOWN]:
        console.print(f" [red]✕[/] {problem}", highlight=False)
    if outcome.ok:
        console.print("[bold green]No promise was broken[/]")
    else:
        counted = (len(outcome.violations), len(outcome.unmet), len(outcome.unexpected))
        console.print("[bold red]{} violations, {} faults unmet, {} statements unexpected[/]; again: ".format(*counted)
                      + replay(outcome.order))  # fmt: skip


def _problems(outcome: Outcome) -> list[str]:
    unmet = [f"never came to pass: {name}" for name in outcome.unmet]
    unexpected = [f"not expected to be executed: {name}" for name in outcome.unexpected]
    return [*map(str, outcome.violations), *unmet, *unexpected]


def _table(counts: Counter[str]) -> Table:
    table = Table(box=None, padding=(0, 1), show_header=False)
    table.add_column(justify="right")
    table.add_column()
    for name, count in sorted(counts.items()):
        table.add_row(str(count), name)
    return table


def write(file: Path, outcome: Outcome) -> None:
    """The same for programs."""
    report = {
        "ok": outcome.ok,
        "seed": outcome.order.seed,
        "jobs": outcome.order.jobs,
        "classes": sorted(outcome.order.classes),
        "dropped": outcome.order.dropped,
        "seconds": round(outcome.seconds, 1),
        "reaping_seconds": round(outcome.reaping_seconds, 1),
        "overdue_seconds": round(outcome.overdue_seconds, 1),
        "delays": {name: round(seconds, 2) for name, seconds in outcome.delays.items()},
        "injected": dict(outcome.injected),
        "observed": dict(outcome.observed),
        "states": dict(outcome.states),
        "violations": [dataclasses.asdict(violation) for violation in outcome.violations],
        "unmet": outcome.unmet,
        "unexpected": outcome.unexpected,
    }
    file.write_text(json.dumps(report, indent=2) + "\n")
