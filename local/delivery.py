"""One event to one subscriber: tries, waits between them, and the dead letter. The rules are Knative's."""

from __future__ import annotations

import asyncio
import base64
import logging
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp
from cloudevents.conversion import to_binary
from cloudevents.exceptions import GenericException
from cloudevents.http import CloudEvent, from_http

from local.manifests import Trigger

RETRIED = frozenset({404, 408, 409, 429})
ERROR_DATA_LIMIT = 1024
# https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md#3132-http-header-values
PLAIN = "".join(map(chr, range(0x21, 0x7F))).translate({ord(character): None for character in '"%'})
"""What a header's value has as it is; all else is percent-encoded."""

AUTO = ("Content-Type", "User-Agent")
"""Headers that an event has or has not; nobody makes them up."""

_log = logging.getLogger("local.broker")


@dataclass(frozen=True)
class Outcome:
    """How one try ended."""

    code: int
    said: bytes = b""
    answer: CloudEvent | None = None
    """The event that the subscriber answered, to be sent on."""

    @property
    def delivered(self) -> bool:
        return 200 <= self.code < 300

    @property
    def again(self) -> bool:
        """Whether another try may end otherwise."""
        return self.code >= 500 or self.code in RETRIED


def read(headers: dict[str, str], body: bytes) -> CloudEvent:
    """An event in binary or structured mode, its data untouched. Raises ValueError."""
    # The library asks neither whether a structured event is an object nor how deep it is.
    try:
        return from_http(headers, body, data_unmarshaller=_bytes)
    except (GenericException, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise ValueError(f"not an event ({type(error).__name__})") from None


async def deliver(
    http: aiohttp.ClientSession, trigger: Trigger, url: str, event: CloudEvent, places: asyncio.Semaphore
) -> Outcome:
    """Try as often as the trigger says, with its pauses; `places` bounds the tries that run at once."""
    for tried in range(trigger.retry + 1):
        if tried:
            await asyncio.sleep(backoff(trigger, tried))
        async with places:
            outcome = await _post(http, url, event, trigger.timeout_seconds)
        if outcome.delivered or not outcome.again:
            break
    if not outcome.delivered:
        _log.warning("%s of type %s not delivered to %s: %d", event["id"], event["type"], url, outcome.code)
    return outcome


def backoff(trigger: Trigger, tried: int) -> float:
    """Seconds between the `tried`-th try and the next one; the first linear retry comes at once, as Knative's does."""
    factor = tried - 1 if trigger.backoff_policy == "linear" else 2.0 ** (tried - 1)
    return trigger.backoff_seconds * factor


def dead_letter(trigger: Trigger, event: CloudEvent, outcome: Outcome) -> CloudEvent:
    """The event with what went wrong, as Knative tells it."""
    letter = CloudEvent(dict(event.get_attributes()), event.get_data())
    letter["knativeerrordest"] = trigger.subscriber
    letter["knativeerrorcode"] = str(outcome.code)
    letter["knativeerrordata"] = base64.b64encode(outcome.said).decode()[:ERROR_DATA_LIMIT]
    return letter


async def _post(http: aiohttp.ClientSession, url: str, event: CloudEvent, seconds: float) -> Outcome:
    attributes, body = to_binary(event, data_marshaller=_bytes)
    headers = {
        name: quote(value, safe=PLAIN) if name.startswith("ce-") else value for name, value in attributes.items()
    }
    try:
        async with (
            asyncio.timeout(seconds),
            http.post(url, headers=headers, data=body, allow_redirects=False, skip_auto_headers=AUTO) as response,
        ):
            said = await response.read()
    except (aiohttp.ClientError, OSError) as error:
        return Outcome(500, f"dispatch error: {type(error).__name__}".encode())
    if not 200 <= response.status < 300 or not said:
        return Outcome(response.status, said)
    try:
        return Outcome(response.status, answer=read(dict(response.headers), said))
    except ValueError:
        return Outcome(500, b"the answer is neither empty nor an event")


def _bytes(data: str | bytes | None) -> bytes:
    """Data of a structured event is JSON text once it is out of its envelope; that of a binary one is bytes already."""
    return data.encode() if isinstance(data, str) else data or b""
