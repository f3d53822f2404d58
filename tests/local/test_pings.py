"""Ticks come when the schedule says, as Knative's PingSource sends them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local.manifests import PingSource
from local.pings import next_tick, ping
from tests.serving import eventually, serving

EVERY_SECOND = PingSource("rpa", "reap-idle", "* * * * * *", "application/json", "{}", "unused")


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("* * * * *", "12:01:00"),
        ("*/5 * * * *", "12:05:00"),
        ("*/2 * * * * *", "12:00:32"),
        ("15 * * * * *", "12:01:15"),
    ],
)
def test_five_fields_begin_with_minutes_and_six_with_seconds(schedule: str, expected: str) -> None:
    """As Knative reads them."""
    now = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)
    assert next_tick(schedule, now).strftime("%H:%M:%S") == expected


async def test_a_tick_is_an_event_and_a_failed_one_is_not_repeated() -> None:
    """The next one comes all the same."""
    ticks: list[tuple[Mapping[str, str], bytes]] = []

    async def take(request: Request) -> Response:
        ticks.append((request.headers, await request.body()))
        return Response(status_code=500 if len(ticks) == 1 else 204)

    async with serving(Starlette(routes=[Route("/", take, methods=["POST"])])) as url:
        ticking = asyncio.create_task(ping(EVERY_SECOND, url))
        await eventually(lambda: len(ticks) == 2)
        ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ticking
    headers, body = ticks[0]
    assert headers["ce-type"] == "dev.knative.sources.ping"
    assert headers["ce-source"] == "/apis/v1/namespaces/rpa/pingsources/reap-idle"
    assert headers["content-type"] == "application/json"
    assert body == b"{}"
    assert ticks[0][0]["ce-id"] != ticks[1][0]["ce-id"]
