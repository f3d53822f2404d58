"""Events are doorbells: they carry ids, their handler reads the row. CloudEvents 1.0 over HTTP.

    Fate        how an event ends that was not simply done
    ├── TryLater    503 with Retry-After; Knative delivers it again
    └── Poison      422, kept in the dead-letter table; delivering it again would change nothing

Knative takes a non-empty 2xx answer for a failed delivery and retries 404, 408, 409 and 429, so a handled
event is an empty 204 and none of these is ever answered.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from cloudevents.exceptions import GenericException
from cloudevents.http import CloudEvent, from_http
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from shared import dead_letters, logs, spans
from shared.db import Database
from shared.http import Handler, Problem, from_validation, invalid, read
from shared.operation import Answer, Body, Operation
from shared.tracing import continued, trace_id

SOURCE = "/rpa/orchestrator"
EVENT_LIMIT = 64 * 1024
TYPE_SHOWN = 200
"""Characters of a stranger's type that answers and logs repeat."""
STRUCTURED = "application/cloudevents+json"

# https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#type-system
_ATTRIBUTE = re.compile(r"[^\x00-\x1f\ud800-\udfff]*")


class Type(StrEnum):
    """What can have happened."""

    JOB_SUBMITTED = "rpa.job.submitted.v1"
    BROWSER_READY = "rpa.browser.ready.v1"
    JOB_FINISHED = "rpa.job.finished.v1"


PING = "dev.knative.sources.ping"


class Fate(Exception):
    """The event was not simply done."""


class TryLater(Fate):
    """Not now; deliver it again after this many seconds."""

    def __init__(self, seconds: float, why: str) -> None:
        super().__init__(why)
        self.seconds = max(1, round(seconds))


class Poison(Fate):
    """Delivering it again would change nothing."""


@dataclass(frozen=True, slots=True)
class Doorbell:
    """One of our events: something happened to this attempt of this job; go and look."""

    type: Type
    job_id: int
    attempt: int
    traceparent: str

    @property
    def id(self) -> str:
        """The same for the same happening, whoever announces it and however often."""
        return hashlib.sha256(f"{self.type}\0{self.job_id}\0{self.attempt}".encode()).hexdigest()[:32]

    def cloud_event(self) -> CloudEvent:
        """As a CloudEvent."""
        attributes = {
            "id": self.id,
            "type": self.type.value,
            "source": SOURCE,
            "subject": str(self.job_id),
            "partitionkey": str(self.job_id),
            "traceparent": self.traceparent,
            "datacontenttype": "application/json",
        }
        return CloudEvent(attributes, {"job_id": self.job_id, "attempt": self.attempt})


class Ids(BaseModel):
    """The attempt of which an event tells."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"job_id": 1, "attempt": 1}]})

    job_id: int = Field(ge=1, le=2**63 - 1)
    attempt: int = Field(ge=1, le=1000)


async def receive(request: Request) -> CloudEvent:
    """The event of a request, binary or structured. Raises Problem 413 or 422."""
    body = await read(request, EVENT_LIMIT)
    if not _has_id(request.headers, body):
        # cloudevents would make one up, and repeated deliveries could not be told apart
        raise invalid("ce-id", "every event needs an id; send the header ce-id or the member id")
    try:
        event = from_http(dict(request.headers), body)
        _check(event.get_attributes(), event.data)
    except (GenericException, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise Problem(
            422, f"event: not a CloudEvent 1.0 with JSON data ({type(error).__name__})", code="invalid"
        ) from None
    return event


def _check(attributes: Mapping[str, object], data: object) -> None:
    # The library takes what the specification does not: NaN, control characters, halves of characters.
    if not all(_ATTRIBUTE.fullmatch(f"{name}{value}") for name, value in attributes.items()):
        raise ValueError
    json.dumps(data, allow_nan=False, ensure_ascii=False).encode()


def _has_id(headers: Mapping[str, str], body: bytes) -> bool:
    if not headers.get("content-type", "").startswith(STRUCTURED):
        return bool(headers.get("ce-id", "").strip())
    try:
        members = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(members, dict) and isinstance(members.get("id"), str) and bool(members["id"].strip())


def not_handled(event: CloudEvent, expected: Iterable[str]) -> str:
    """Why an event of this type is refused."""
    return f"type: {str(event['type'])[:TYPE_SHOWN]} is not handled here; expected {', '.join(expected)}"


def doorbell(event: CloudEvent, types: Collection[Type]) -> Doorbell:
    """The event as one of ours. Raises Poison."""
    if event["type"] not in list(types):
        raise Poison(not_handled(event, types))
    try:
        ids = Ids.model_validate(event.data, strict=True)
    except ValidationError as error:
        raise Poison(f"data: {from_validation(error).detail}") from None
    trace = continued(str(event.get_attributes().get("traceparent")))
    return Doorbell(Type(event["type"]), ids.job_id, ids.attempt, trace)


def takes_events(summary: str, *types: str, data: type[BaseModel] | None = None) -> Operation:
    """What a route says that takes events of these types."""
    text = Annotated[str, Field(pattern=r"^[!-~]+$")]
    return Operation(
        summary=summary,
        description="CloudEvents 1.0 in binary mode; those in structured mode are taken, too. 503: deliver it again.",
        headers={"ce-specversion": Literal["1.0"], "ce-id": text, "ce-source": text, "ce-type": Literal[types]},
        body=Body(data, limit=EVENT_LIMIT),
        answers={204: Answer(), 503: Answer(headers=("Retry-After",))},
    )


def takes_doorbells(summary: str, *types: Type) -> Operation:
    """What a route says whose handler `endpoint` made."""
    return takes_events(summary, *types, data=Ids)


def endpoint(
    database: Database,
    destination: str,
    types: Collection[Type],
    handler: Callable[[Doorbell], Awaitable[None]],
) -> Handler:
    """An HTTP handler that lets `handler` answer doorbells of these types."""

    async def event(request: Request) -> Response:
        received = await receive(request)
        try:
            bell = doorbell(received, types)
            logs.bind(job_id=bell.job_id, attempt=bell.attempt, trace_id=trace_id(bell.traceparent))
            spans.rename(f"process {bell.type.value}")
            spans.note(job_id=bell.job_id, attempt=bell.attempt)
            await handler(bell)
        except Poison as poison:
            await keep(database, received, destination, str(poison))
            raise Problem(422, str(poison), code="poison") from None
        except TryLater as later:
            logs.info("try later", seconds=later.seconds, why=str(later))
            return Response(status_code=503, headers={"Retry-After": str(later.seconds)})
        return Response(status_code=204)

    return event


async def keep(database: Database, event: CloudEvent, destination: str, reason: str) -> None:
    """Put an event that nobody could handle into the dead-letter table, once however often it comes."""
    attributes: dict[str, Any] = dict(event.get_attributes())
    logs.warning("dead letter", event_type=str(attributes["type"])[:TYPE_SHOWN], destination=destination, reason=reason)
    async with database.connection() as connection:
        await dead_letters.keep(connection, attributes, event.data, destination, reason)
