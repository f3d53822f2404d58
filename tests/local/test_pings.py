"""PingSources tick by their schedules."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from local.manifests import PingSource
from local.pings import next_tick, ping
from tests.local.subscriber import subscriber
from tests.serving import eventually

NOON = datetime(2026, 1, 1, 12, 0, 30, 500_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("* * * * *", datetime(2026, 1, 1, 12, 1, tzinfo=UTC)),
        ("*/5 * * * *", datetime(2026, 1, 1, 12, 5, tzinfo=UTC)),
        ("*/2 * * * * *", datetime(2026, 1, 1, 12, 0, 32, tzinfo=UTC)),
        ("0 30 9 * * *", datetime(2026, 1, 2, 9, 30, tzinfo=UTC)),
    ],
)
def test_five_fields_or_six_with_seconds_first(schedule: str, expected: datetime) -> None:
    """As Knative's PingSource has them."""
    assert next_tick(schedule, NOON) == expected


async def test_a_tick_is_an_event_and_a_failure_does_not_end_the_ticking() -> None:
    """A missed tick is not repeated; the next one comes."""
    source = PingSource("rpa", "reap-idle", "* * * * * *", "application/json", "{}", "")
    async with subscriber(500, 204) as function:
        ticking = asyncio.create_task(ping(source, function.url))
        try:
            await eventually(lambda: len(function.received) == 2)
        finally:
            ticking.cancel()
    first, second = function.received
    assert first.headers["ce-type"] == "dev.knative.sources.ping"
    assert first.headers["ce-source"] == "/apis/v1/namespaces/rpa/pingsources/reap-idle"
    assert first.headers["ce-id"] != second.headers["ce-id"]
    assert first.headers["content-type"] == "application/json"
    assert first.body == b"{}"
    assert function.pauses()[0] > 0.5


async def test_a_tick_that_is_not_answered_holds_up_no_other() -> None:
    """As with Knative's: a round of reaping that waits for something is followed by the next all the same."""
    source = PingSource("rpa", "reap-idle", "* * * * * *", "application/json", "{}", "")
    async with subscriber(204, pause=30) as function:
        ticking = asyncio.create_task(ping(source, function.url))
        try:
            await eventually(lambda: len(function.received) == 3)
        finally:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)
