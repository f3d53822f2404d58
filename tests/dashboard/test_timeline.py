"""A job's history as bars."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from functions.monitor.dashboard.timeline import Phase, bars, spans

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def row(seconds: float, event: str, states: str, attempt: int = 1, **detail: Any) -> dict[str, Any]:
    came_from, _, to = states.partition(">")
    return {
        "at": at(seconds),
        "attempt": attempt,
        "event": event,
        "from_state": came_from or None,
        "to_state": to,
        "detail": detail,
    }


TWO_ATTEMPTS = [
    row(0, "submitted", ">pending"),
    row(10, "claimed", "pending>provisioning"),
    row(14, "browser_ready", "provisioning>dispatching"),
    row(15, "accepted", "dispatching>running"),
    row(20, "totp_issued", "running>running", waited_seconds=3),
    row(25, "attempt_failed", "running>pending", next_attempt=2),
    row(35, "claimed", "pending>provisioning", 2),
    row(37, "given_back", "provisioning>pending", 2),
    row(40, "cancelled", "pending>cancelled", 2),
]


def told(*history: dict[str, Any], reports: bool = False) -> list[tuple[int, str, float, bool]]:
    return [(s.attempt, s.phase.value, s.seconds, s.open) for s in spans(history, reports=reports, now=at(100))]


def test_every_phase_of_every_attempt_is_a_span() -> None:
    """One after the other, a retry's wait its own; the wait for a login code lies over what it is part of."""
    assert told(*TWO_ATTEMPTS) == [
        (1, "waiting", 10, False),
        (1, "browser start", 4, False),
        (1, "dispatch", 1, False),
        (1, "login wait", 3, False),
        (1, "run", 10, False),
        (2, "waiting", 10, False),
        (2, "browser start", 2, False),
        (2, "waiting", 3, False),
    ]


def test_what_goes_on_lasts_until_now() -> None:
    """Also a report that ORDS has not acknowledged; where there is nobody to report to there is none."""
    assert told(*TWO_ATTEMPTS[:4])[-1] == (1, "run", 85, True)
    assert told(*TWO_ATTEMPTS, reports=True)[-1] == (2, "report", 60, True)
    reported = row(41, "reported", "cancelled>cancelled", 2)
    assert told(*TWO_ATTEMPTS, reported, reports=True)[-1] == (2, "report", 1, False)


def test_bars_share_one_axis() -> None:
    """Each attempt has its own, in place and proportion; none so short that nobody sees it, none beyond the end."""
    drawn = bars(spans(TWO_ATTEMPTS, reports=False, now=at(100)))
    assert [(bar.x, bar.width) for bar in drawn[1]] == [(0, 25), (25, 10), (35, 2.5), (37.5, 25), (42.5, 7.5)]
    assert drawn[1][-1].span.phase is Phase.LOGIN
    assert drawn[2][0].x == 62.5
    instant = [row(0, "submitted", ">pending"), row(50, "claimed", "pending>provisioning")]
    (last,) = bars(spans(instant, reports=False, now=at(50)))[1][1:]
    assert (last.x, last.width) == (99.7, 0.3)
    assert bars([]) == {}
