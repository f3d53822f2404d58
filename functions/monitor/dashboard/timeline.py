"""A job's life across its attempts, as bars: what its history says, and until now what goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from shared.jobs import TERMINAL, State

LEAST_PERCENT = 0.3
"""A bar that is shorter could not be seen."""


class Phase(StrEnum):
    """What an attempt spends its time with; the value is what people read."""

    WAITING = "waiting"
    BROWSER = "browser start"
    DISPATCH = "dispatch"
    RUN = "run"
    LOGIN = "login wait"
    """Part of dispatch or run."""
    REPORT = "report"


PHASES = {
    State.PENDING: Phase.WAITING,
    State.PROVISIONING: Phase.BROWSER,
    State.DISPATCHING: Phase.DISPATCH,
    State.RUNNING: Phase.RUN,
    State.COMPLETED: Phase.REPORT,
    State.FAILED: Phase.REPORT,
    State.CANCELLED: Phase.REPORT,
}


@dataclass(frozen=True, slots=True)
class Span:
    """A phase of an attempt, from when to when."""

    attempt: int
    phase: Phase
    start: datetime
    end: datetime
    open: bool = False
    """It goes on."""

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.end - self.start).total_seconds()


@dataclass(frozen=True, slots=True)
class Bar:
    """A span as drawn: percent of the whole."""

    span: Span
    x: float
    width: float


def spans(history: Sequence[Mapping[str, Any]], *, reports: bool, now: datetime) -> list[Span]:
    """What the history's rows amount to; `reports`: whether a report is awaited after the end."""
    found: list[Span] = []
    standing: tuple[int, State, datetime] | None = None
    for row in history:
        at, to = row["at"], State(row["to_state"])
        if row["event"] == "totp_issued":
            waited = timedelta(seconds=float(row["detail"].get("waited_seconds", 0)))
            found.append(Span(row["attempt"], Phase.LOGIN, at - waited, at))
        elif row["from_state"] != row["to_state"]:
            if standing:
                found.append(Span(standing[0], PHASES[standing[1]], standing[2], at))
            standing = row["detail"].get("next_attempt", row["attempt"]), to, at
        elif row["event"] == "reported" and standing:
            found.append(Span(standing[0], Phase.REPORT, standing[2], at))
            standing = None
    if standing and (standing[1] not in TERMINAL or reports):
        found.append(Span(standing[0], PHASES[standing[1]], standing[2], now, open=True))
    return found


def bars(found: Iterable[Span]) -> dict[int, list[Bar]]:
    """Each attempt's bars on one axis; waits for login codes over what they are part of."""
    ordered = sorted(found, key=lambda span: (span.attempt, span.phase is Phase.LOGIN, span.start))
    if not ordered:
        return {}
    first, last = min(span.start for span in ordered), max(span.end for span in ordered)
    whole = max((last - first).total_seconds(), 0.001)
    drawn: dict[int, list[Bar]] = {}
    for span in ordered:
        width = max(100 * span.seconds / whole, LEAST_PERCENT)
        x = min(100 * (span.start - first).total_seconds() / whole, 100 - width)
        drawn.setdefault(span.attempt, []).append(Bar(span, round(x, 3), round(width, 3)))
    return drawn
