"""The local broker delivers as Knative's does."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx
import pytest
from cloudevents.conversion import to_binary, to_structured
from cloudevents.http import CloudEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local.broker import DELIVERIES_AT_ONCE, Broker
from local.delivery import backoff
from local.manifests import Trigger
from tests.serving import eventually, serving

TYPE = "rpa.job.submitted.v1"
FUNCTION = "http://function.rpa.svc.cluster.local"
SINK = "http://sink.rpa.svc.cluster.local"


class Subscriber:
    """Answers with the given answers in turn, the last one for ever, and remembers what came."""

    def __init__(self, *answers: Response) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[Mapping[str, str], bytes]] = []
        self.app = Starlette(routes=[Route("/", self._take, methods=["POST"])])

    async def _take(self, request: Request) -> Response:
        self.requests.append((request.headers, await request.body()))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def trigger(**changes: object) -> Trigger:
    """A quick one."""
    values: dict[str, object] = {
        "name": "t", "attributes": {"type": TYPE}, "subscriber": FUNCTION, "retry": 3,
        "backoff_policy": "exponential", "backoff_seconds": 0.01, "timeout_seconds": 5.0, "dead_letter_sink": SINK,
    }  # fmt: skip
    return Trigger(**(values | changes))  # type: ignore[arg-type]


def event(**changes: str) -> CloudEvent:
    """What a function publishes."""
    return CloudEvent({"type": TYPE, "source": "test", "id": "7", "subject": "1", **changes}, {"job_id": 1})


class Stage:
    """A broker with a subscriber and a dead-letter sink."""

    def __init__(self, broker: Broker, url: str, http: httpx.AsyncClient) -> None:
        self.broker, self.url, self.http = broker, url, http

    async def publish(self, what: CloudEvent) -> int:
        """The broker's answer."""
        headers, body = to_binary(what)
        return (await self.http.post(self.url, headers=dict(headers), content=body)).status_code


@asynccontextmanager
async def stage(function: Subscriber, sink: Subscriber, *triggers: Trigger) -> AsyncIterator[Stage]:
    """The broker serves over HTTP."""
    async with serving(function.app) as function_url, serving(sink.app) as sink_url:
        addresses = {"function": function_url, "sink": sink_url, "gone": "http://127.0.0.1:9"}
        broker = Broker("/rpa/default", triggers, addresses)
        async with serving(broker.app) as url, httpx.AsyncClient(trust_env=False) as http:
            try:
                yield Stage(broker, f"{url}/rpa/default", http)
            finally:
                await broker.aclose()


def done() -> Response:
    return Response(status_code=204)


async def test_an_event_reaches_the_trigger_that_it_matches_and_no_other() -> None:
    """Binary or structured, it arrives in binary mode with all of its attributes."""
    function, sink = Subscriber(done()), Subscriber(done())
    other = trigger(name="other", attributes={"type": "rpa.job.finished.v1"}, subscriber=SINK)
    async with stage(function, sink, trigger(), other) as it:
        assert await it.publish(event()) == 202
        headers, body = to_structured(event(id="8"))
        assert (await it.http.post(it.url, headers=dict(headers), content=body)).status_code == 202
        await eventually(lambda: len(function.requests) == 2)
    assert {headers["ce-id"] for headers, _ in function.requests} == {"7", "8"}
    assert {body for _, body in function.requests} == {b'{"job_id": 1}'}
    assert function.requests[0][0]["ce-subject"] == "1"
    assert not sink.requests


@pytest.mark.parametrize("missing", ["ce-id", "ce-type", "ce-source", "ce-specversion"])
async def test_what_is_no_event_is_refused(missing: str) -> None:
    """The publisher is told, and nobody gets it."""
    function = Subscriber(done())
    async with stage(function, Subscriber(done()), trigger(attributes={})) as it:
        headers, body = to_binary(event())
        kept = {name: value for name, value in headers.items() if name != missing}
        assert (await it.http.post(it.url, headers=kept, content=body)).status_code == 400
        assert (await it.http.post(it.url, content=b"x" * (1024 * 1024 + 1))).status_code == 413
    assert not function.requests


@pytest.mark.parametrize("status", [500, 503, 404, 408, 409, 429])
async def test_a_failure_that_may_pass_is_tried_again(status: int) -> None:
    """Until it is delivered; then there is no dead letter."""
    function, sink = Subscriber(Response(status_code=status), Response(status_code=status), done()), Subscriber(done())
    async with stage(function, sink, trigger()) as it:
        await it.publish(event())
        await eventually(lambda: len(function.requests) == 3)
    assert not sink.requests


@pytest.mark.parametrize("status", [400, 403, 422])
async def test_a_refusal_is_final(status: int) -> None:
    """It is tried once, and the dead letter says where, how and why it failed."""
    function, sink = Subscriber(Response("poison", status)), Subscriber(done())
    async with stage(function, sink, trigger()) as it:
        await it.publish(event())
        await eventually(lambda: sink.requests)
    (headers, body) = sink.requests[0]
    assert len(function.requests) == 1
    assert body == b'{"job_id": 1}'
    assert headers["ce-id"] == "7"
    assert headers["ce-knativeerrordest"] == FUNCTION
    assert headers["ce-knativeerrorcode"] == str(status)
    assert base64.b64decode(headers["ce-knativeerrordata"]) == b"poison"


async def test_an_answer_that_is_no_event_is_a_failure() -> None:
    """A 200 with OK in it is tried again, and ends as a dead letter."""
    function, sink = Subscriber(Response("OK")), Subscriber(done())
    async with stage(function, sink, trigger(retry=2)) as it:
        await it.publish(event())
        await eventually(lambda: sink.requests)
    assert len(function.requests) == 3


async def test_an_answer_that_is_an_event_is_sent_on() -> None:
    """To whoever subscribes to it."""
    headers, body = to_binary(event(type="reply"))
    function, sink = Subscriber(Response(body, headers=dict(headers))), Subscriber(done())
    async with stage(function, sink, trigger(), trigger(attributes={"type": "reply"}, subscriber=SINK)) as it:
        await it.publish(event())
        await eventually(lambda: sink.requests)
    assert sink.requests[0][0]["ce-type"] == "reply"
    assert len(function.requests) == 1


async def test_nobody_there_ends_as_a_dead_letter() -> None:
    """A function that cannot be reached counts as 500."""
    sink = Subscriber(Response(status_code=503), done())
    async with stage(Subscriber(done()), sink, trigger(subscriber="http://gone.rpa.svc.cluster.local", retry=1)) as it:
        await it.publish(event())
        await eventually(lambda: len(sink.requests) == 2)
    assert sink.requests[-1][0]["ce-knativeerrorcode"] == "500"


async def test_a_storm_of_events_is_delivered_whole() -> None:
    """More than may be under way at once."""
    function = Subscriber(done())
    async with stage(function, Subscriber(done()), trigger()) as it:
        for number in range(DELIVERIES_AT_ONCE + 50):
            assert await it.publish(event(id=str(number))) == 202
        await eventually(lambda: len(function.requests) == DELIVERIES_AT_ONCE + 50)


@pytest.mark.parametrize(
    ("policy", "pauses"), [("exponential", [0.5, 1.0, 2.0, 4.0]), ("linear", [0.0, 0.5, 1.0, 1.5])]
)
def test_pauses_are_knatives(policy: str, pauses: list[float]) -> None:
    """Delay times 2^n or n, with n from 0."""
    it = trigger(backoff_policy=policy, backoff_seconds=0.5)
    assert [backoff(it, tried) for tried in (1, 2, 3, 4)] == pauses
