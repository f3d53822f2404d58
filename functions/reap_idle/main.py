"""reap_idle: what is late, lost, left over or out of date; and events that nobody could handle."""

from __future__ import annotations

import functions_framework.aio
from cloudevents.http import CloudEvent
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from functions.reap_idle.round import Reaper
from shared import logs, spans
from shared.browsers.place import open_browsers
from shared.browsers.warm import WarmPool
from shared.config import (
    BrowserSettings,
    DatabaseSettings,
    EventSettings,
    LeaseSettings,
    ProviderSettings,
    TokenSettings,
    WarmPoolSettings,
    load,
)
from shared.db import Database
from shared.events import PING, keep, not_handled, receive, takes_events
from shared.http import Problem, application, route
from shared.http_client import HttpClient
from shared.outbox import Publisher
from shared.tokens import Keyring


class Settings(
    DatabaseSettings,
    TokenSettings,
    EventSettings,
    LeaseSettings,
    ProviderSettings,
    BrowserSettings,
    WarmPoolSettings,
):
    """What this function needs."""

    callback_endpoint: str = Field("", description="ORDS's address for reports; without it none is outstanding")
    retention_days: int = Field(30, ge=1, le=3650, description="days that ended jobs and dead letters are kept")


SETTINGS = load(Settings)
logs.configure("reap_idle", SETTINGS.log_level)
spans.configure("reap_idle", SETTINGS)
DATABASE = Database(SETTINGS)
HTTP = HttpClient()
BROWSERS = open_browsers(SETTINGS)
REAPER = Reaper(
    DATABASE,
    BROWSERS,
    WarmPool(DATABASE, BROWSERS, Keyring(SETTINGS), SETTINGS, SETTINGS),
    Publisher(SETTINGS, DATABASE, HTTP),
    SETTINGS,
    providers=list(SETTINGS.providers),
    reports=bool(SETTINGS.callback_endpoint),
    retention_days=SETTINGS.retention_days,
)


async def tick(request: Request) -> Response:
    """POST /: the PingSource's tick, or an event that the broker could not deliver."""
    event = await receive(request)
    if "knativeerrordest" in event:
        await _keep_dead_letter(event)
    elif event["type"] == PING:
        await REAPER()
    else:
        reason = not_handled(event, [PING])
        await keep(DATABASE, event, "reap_idle", reason)
        raise Problem(422, reason, code="poison")
    return Response(status_code=204)


async def _keep_dead_letter(event: CloudEvent) -> None:
    attributes = event.get_attributes()
    # The destination is the function's address: its first label names it wherever it runs.
    destination = str(attributes["knativeerrordest"])[:200]
    await keep(
        DATABASE,
        event,
        destination,
        f"delivery failed with {str(attributes.get('knativeerrorcode', 'no answer'))[:20]}",
    )


EVENT = takes_events("Reap; or keep an event that the broker could not deliver", PING)
APPLICATION = application([route("POST", "/", tick, EVENT)], DATABASE.ping, about=__doc__)


@functions_framework.aio.http
async def reap_idle(_request: Request) -> Response:
    """The function's entry point."""
    return APPLICATION
