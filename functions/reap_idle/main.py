"""reap_idle: what is late, lost, left over or out of date; and events that nobody could handle."""

from __future__ import annotations

from collections.abc import Sequence

import functions_framework.aio
from cloudevents.http import CloudEvent
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from functions.reap_idle import late, queries
from functions.reap_idle.reconcile import reconcile_if_possible
from shared import logs
from shared.browsers.place import open_browsers
from shared.config import (
    BrowserSettings,
    DatabaseSettings,
    EventSettings,
    LeaseSettings,
    ProviderSettings,
    load,
)
from shared.db import Connection, Database
from shared.events import PING, Doorbell, keep, receive
from shared.http import Problem, application, route
from shared.outbox import Publisher

PAGE = 1000


class Settings(DatabaseSettings, EventSettings, LeaseSettings, ProviderSettings, BrowserSettings):
    """What this function needs."""

    callback_endpoint: str = Field("", description="ORDS's address for reports; without it none is outstanding")
    retention_days: int = Field(30, ge=1, le=3650, description="days that ended jobs and dead letters are kept")


SETTINGS = load(Settings)
logs.configure("reap_idle", SETTINGS.log_level)
DATABASE = Database(SETTINGS)
PUBLISHER = Publisher(SETTINGS, DATABASE)
BROWSERS = open_browsers(SETTINGS)


async def tick(request: Request) -> Response:
    """POST /: the PingSource's tick, or an event that the broker could not deliver."""
    event = await receive(request)
    if "knativeerrordest" in event:
        await _keep_dead_letter(event)
    elif event["type"] == PING:
        await reap()
    else:
        reason = f"type: {event['type']} is not handled here; expected {PING}"
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
        f"delivery failed with {attributes.get('knativeerrorcode', 'no answer')}",
    )


async def reap() -> None:
    """One round. Every step is guarded, so that rounds may overlap."""
    reports = bool(SETTINGS.callback_endpoint)
    async with DATABASE.connection() as connection:
        expired = await late.expire(connection, SETTINGS)
        missed = await late.miss_deadlines(connection, SETTINGS)
        browsers = await reconcile_if_possible(connection, BROWSERS, SETTINGS)
        unsent = await late.unsent(connection)
        forgotten = await late.forgotten(connection, list(SETTINGS.providers), reports=reports)
        await _forget(connection, reports)
    lost = browsers.lost if browsers else []
    await PUBLISHER.publish(_once([*expired, *missed, *lost, *unsent, *forgotten]))
    logs.info(
        "reaped",
        expired=len(expired),
        deadlines_missed=len(missed),
        browsers_deleted=browsers.deleted if browsers else None,
        orphans=browsers.orphans if browsers else None,
        browsers_lost=len(lost),
        events_sent_late=len(unsent),
        events_sent_again=len(forgotten),
    )


def _once(bells: Sequence[Doorbell]) -> list[Doorbell]:
    return list({bell.id: bell for bell in bells}.values())


async def _forget(connection: Connection, reports: bool) -> None:
    days = SETTINGS.retention_days
    await connection.execute(queries.FORGET_JOBS, {"days": days, "reports": reports, "limit": PAGE})
    await connection.execute(queries.FORGET_DEAD_LETTERS, {"days": days})
    await connection.execute(queries.FORGET_STEPS)


APPLICATION = application([route("POST", "/", tick)], DATABASE.ping)


@functions_framework.aio.http
async def reap_idle(_request: Request) -> Response:
    """The function's entry point."""
    return APPLICATION
