"""PingSources: ticks by a schedule of five fields, or six with seconds first. A missed tick never comes back."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime
from typing import Any

import httpx
from cloudevents.conversion import to_binary
from cloudevents.http import CloudEvent
from croniter import croniter

from local.manifests import PingSource

PING = "dev.knative.sources.ping"
TICK_SECONDS = 60.0

_log = logging.getLogger("local.pings")


def next_tick(schedule: str, now: datetime) -> datetime:
    """When a schedule ticks next."""
    tick: datetime = croniter(schedule, now, second_at_beginning=True).get_next(datetime)
    return tick


async def ping(source: PingSource, url: str) -> None:
    """Tick for ever, whether the tick before is answered or not; a tick that fails is not repeated."""
    async with httpx.AsyncClient(trust_env=False, timeout=TICK_SECONDS) as http, asyncio.TaskGroup() as ticks:
        while True:
            now = datetime.now(UTC)
            await asyncio.sleep((next_tick(source.schedule, now) - now).total_seconds())
            ticks.create_task(_tick(source, url, http))


async def _tick(source: PingSource, url: str, http: httpx.AsyncClient) -> None:
    headers, body = to_binary(_event(source))
    try:
        (await http.post(url, headers=dict(headers), content=body)).raise_for_status()
    except httpx.HTTPError as error:
        _log.warning("tick of %s failed: %s", source.name, type(error).__name__)


def _event(source: PingSource) -> CloudEvent:
    attributes = {
        "type": PING,
        "source": f"/apis/v1/namespaces/{source.namespace}/pingsources/{source.name}",
        "datacontenttype": source.content_type,
    }
    data: Any = json.loads(source.data or "null") if source.content_type == "application/json" else source.data
    return CloudEvent(attributes, data)
