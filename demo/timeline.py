"""What happened to one job, drawn from its history."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from rich.table import Table
from rich.text import Text

from demo.api import Job
from demo.board import STYLES

WIDTH = 36
EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True, slots=True)
class Stretch:
    """From one entry of the history to the next."""

    attempt: int
    event: str
    state: str
    start: float
    seconds: float


def stretches(job: Job) -> list[Stretch]:
    """The history in seconds since the job was submitted; the end takes no time."""
    history = job["history"]
    times = [datetime.fromisoformat(entry["at"]) for entry in history]
    lengths = [(later - earlier).total_seconds() for earlier, later in pairwise(times)] + [0.0]
    return [
        Stretch(entry["attempt"], _words(entry), entry["to"], (at - times[0]).total_seconds(), max(seconds, 0.0))
        for entry, at, seconds in zip(history, times, lengths, strict=True)
    ]


def chart(job: Job) -> Table:
    """One bar for each stretch."""
    found = stretches(job)
    whole = max(found[-1].start, 0.001)
    table = Table(box=None, pad_edge=False)
    for name in ("attempt", "at", "for"):
        table.add_column(name, justify="right")
    for name in ("what happened", "state", ""):
        table.add_column(name)
    for attempt, stretch in zip(_attempts(found), found, strict=True):
        bar = Text(_bar(stretch.start / whole, stretch.seconds / whole), STYLES[stretch.state])
        state = Text(stretch.state, STYLES[stretch.state])
        table.add_row(attempt, f"{stretch.start:.2f} s", f"{stretch.seconds:.2f} s", stretch.event, state, bar)
    return table


def _attempts(found: list[Stretch]) -> Iterator[str]:
    """The attempt's number where it begins."""
    last = 0
    for stretch in found:
        yield str(stretch.attempt) if stretch.attempt != last else ""
        last = stretch.attempt


def _bar(start: float, length: float) -> str:
    """Both as shares of the whole; never nothing."""
    filled, rest = divmod(max(round(length * WIDTH * 8), 1), 8)
    return " " * int(start * WIDTH) + "█" * filled + EIGHTHS[rest].strip()


def _words(entry: dict[str, Any]) -> str:
    detail = entry["detail"]
    note = detail.get("phase") or (detail.get("error") or {}).get("code") or detail.get("account")
    event = str(entry["event"]).replace("_", " ")
    return f"{event}: {note}" if note else event
