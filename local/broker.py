"""A broker that delivers as Knative's does: at least once, in no order, with retries and dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence

import aiohttp
from cloudevents.http import CloudEvent
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from local.delivery import Outcome, dead_letter, deliver, read
from local.environment import here
from local.manifests import Trigger

EVENT_LIMIT = 1024 * 1024
DELIVERIES_AT_ONCE = 100
"""Of one trigger."""
EVENTS_HELD = 10_000
IDLE_SECONDS = 2.0
"""How long a connection is kept for the next event; less than the 5 s after which uvicorn closes it."""


class Broker:
    """Takes events, answers at once, and delivers them to the subscribers of its triggers."""

    def __init__(self, path: str, triggers: Sequence[Trigger], addresses: Mapping[str, str]) -> None:
        self.app = Starlette(routes=[Route(path, self._take, methods=["POST"])])
        self._places = {trigger.name: asyncio.Semaphore(DELIVERIES_AT_ONCE) for trigger in triggers}
        self._triggers = triggers
        self._addresses = addresses
        # A subscriber that hangs keeps no connection from another; none is kept until its server closes it.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS)
        self._http = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None),  # each trigger has its own
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        self._deliveries: set[asyncio.Task[None]] = set()

    async def _take(self, request: Request) -> Response:
        try:
            body = await request.body()
        except ClientDisconnect:
            return Response(status_code=400)  # its publisher gave up, and keeps the event
        if len(body) > EVENT_LIMIT:
            return Response(status_code=413)
        if len(self._deliveries) >= EVENTS_HELD:
            return Response(status_code=503)
        try:
            event = read(dict(request.headers), body)
        except ValueError:
            return Response(status_code=400)
        self._accept(event)
        return Response(status_code=202)

    def _accept(self, event: CloudEvent) -> None:
        for trigger in self._triggers:
            if _matches(trigger, event):
                task = asyncio.create_task(self._handle(trigger, event))
                self._deliveries.add(task)
                task.add_done_callback(self._deliveries.discard)

    async def _handle(self, trigger: Trigger, event: CloudEvent) -> None:
        outcome = await self._deliver(trigger, trigger.subscriber, event)
        if outcome.answer:
            self._accept(outcome.answer)
        elif not outcome.delivered and trigger.dead_letter_sink:
            await self._deliver(trigger, trigger.dead_letter_sink, dead_letter(trigger, event, outcome))

    def _deliver(self, trigger: Trigger, address: str, event: CloudEvent) -> Awaitable[Outcome]:
        return deliver(self._http, trigger, here(address, self._addresses), event, self._places[trigger.name])

    async def aclose(self) -> None:
        """Drop what is under way, as a broker that is killed would."""
        for task in self._deliveries:
            task.cancel()
        await asyncio.gather(*self._deliveries, return_exceptions=True)
        await self._http.close()


def _matches(trigger: Trigger, event: CloudEvent) -> bool:
    """Exact values; an empty one asks only that the attribute is there."""
    attributes = event.get_attributes()
    return all(name in attributes and value in ("", attributes[name]) for name, value in trigger.attributes.items())
