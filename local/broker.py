"""A broker that delivers as Knative's does: at least once, in no order, with retries and dead letters.

What counts as delivered is Knative's rule, not ours: a 2xx with an empty body, or with an event in it that is
sent on. Any other answer is a failure; network errors, 5xx, 404, 408, 409 and 429 are tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

import httpx
from cloudevents.conversion import to_binary
from cloudevents.exceptions import GenericException
from cloudevents.http import CloudEvent, from_http
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local.manifests import Trigger

EVENT_LIMIT = 1024 * 1024
DELIVERIES_AT_ONCE = 200
LONGEST_BACKOFF_SECONDS = 60.0
RETRIED = frozenset({404, 408, 409, 429})
ERROR_DATA_LIMIT = 1024

_log = logging.getLogger("local.broker")


class Broker:
    """Takes events, answers at once, and delivers them to the subscribers of its triggers."""

    def __init__(self, triggers: Sequence[Trigger], addresses: Mapping[str, str]) -> None:
        self._triggers = triggers
        self._addresses = addresses
        self._http = httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=DELIVERIES_AT_ONCE))
        self._places = asyncio.Semaphore(DELIVERIES_AT_ONCE)
        self._deliveries: set[asyncio.Task[None]] = set()

    def app(self) -> Starlette:
        """Its one route, /NAMESPACE/BROKER."""
        return Starlette(routes=[Route("/{namespace}/{broker}", self._take, methods=["POST"])])

    async def _take(self, request: Request) -> Response:
        body = await request.body()
        if len(body) > EVENT_LIMIT:
            return Response(status_code=413)
        try:
            event = from_http(dict(request.headers), body)
        except (GenericException, ValueError):
            return Response(status_code=400)
        self.accept(event)
        return Response(status_code=202)

    def accept(self, event: CloudEvent) -> None:
        """Deliver an event to every trigger that it matches, from now on."""
        for trigger in self._triggers:
            if _matches(trigger, event):
                task = asyncio.create_task(self._deliver(trigger, event))
                self._deliveries.add(task)
                task.add_done_callback(self._deliveries.discard)

    async def _deliver(self, trigger: Trigger, event: CloudEvent) -> None:
        destination = self._addresses[trigger.subscriber]
        failure = "", 0
        for tried in range(trigger.retry + 1):
            if tried:
                await asyncio.sleep(backoff(trigger, tried))
            async with self._places:
                delivered, again, failure = await self._post(destination, event, trigger.timeout_seconds)
            if delivered:
                return
            if not again:
                break
        _log.warning("not delivered: %s to %s: %s", event["type"], trigger.subscriber, failure)
        if trigger.dead_letter_sink:
            await self._bury(trigger, event, destination, *failure)

    async def _post(self, url: str, event: CloudEvent, seconds: float) -> tuple[bool, bool, tuple[str, int]]:
        """Whether it was delivered, whether to try again, and what went wrong."""
        headers, body = to_binary(event)
        try:
            async with asyncio.timeout(seconds):
                response = await self._http.post(url, headers=dict(headers), content=body, timeout=seconds)
        except (httpx.HTTPError, TimeoutError) as error:
            return False, True, (type(error).__name__, 0)
        code = response.status_code
        if response.is_success:
            return self._reply(response)
        return False, code >= 500 or code in RETRIED, (response.text[:ERROR_DATA_LIMIT], code)

    def _reply(self, response: httpx.Response) -> tuple[bool, bool, tuple[str, int]]:
        if not response.content:
            return True, False, ("", 0)
        if "ce-id" not in response.headers and "cloudevents" not in response.headers.get("content-type", ""):
            return False, True, ("the answer is not empty and no event", 500)
        try:
            self.accept(from_http(dict(response.headers), response.content))
        except (GenericException, ValueError):
            return False, True, ("the answer is no valid event", 500)
        return True, False, ("", 0)

    async def _bury(self, trigger: Trigger, event: CloudEvent, destination: str, data: str, code: int) -> None:
        letter = CloudEvent(dict(event.get_attributes()), event.data)
        letter["knativeerrordest"] = destination
        letter["knativeerrorcode"] = str(code)
        letter["knativeerrordata"] = " ".join(data.split()).encode("ascii", "replace").decode()
        sink = self._addresses[trigger.dead_letter_sink or ""]
        for tried in range(trigger.retry + 1):
            if tried:
                await asyncio.sleep(backoff(trigger, tried))
            delivered, again, _ = await self._post(sink, letter, trigger.timeout_seconds)
            if delivered or not again:
                return

    async def aclose(self) -> None:
        """Drop what is under way, as a broker that is killed would."""
        for task in self._deliveries:
            task.cancel()
        await asyncio.gather(*self._deliveries, return_exceptions=True)
        await self._http.aclose()


def _matches(trigger: Trigger, event: CloudEvent) -> bool:
    attributes = event.get_attributes()
    return all(attributes.get(name) == value for name, value in trigger.attributes.items())


def backoff(trigger: Trigger, tried: int) -> float:
    """Seconds before the next try: linear, or doubled each time."""
    factor = tried if trigger.backoff_policy == "linear" else 2.0**tried
    return min(trigger.backoff_seconds * factor, LONGEST_BACKOFF_SECONDS)
