"""The local broker delivers as Knative's does."""

from __future__ import annotations

import base64
import logging
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import pytest
from cloudevents.conversion import to_binary, to_structured
from cloudevents.http import CloudEvent
from starlette.responses import Response

from local.broker import DELIVERIES_AT_ONCE, EVENT_LIMIT, Broker
from local.delivery import backoff
from local.manifests import Trigger
from tests.local.subscriber import Subscriber, subscriber
from tests.serving import eventually, serving

TYPE = "rpa.job.submitted.v1"
FUNCTION = "http://function.rpa.svc.cluster.local"
SINK = "http://sink.rpa.svc.cluster.local"


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


@dataclass
class Stage:
    """A broker with a function and a dead-letter sink."""

    function: Subscriber
    sink: Subscriber
    url: str
    http: httpx.AsyncClient

    async def publish(self, what: CloudEvent) -> int:
        """The broker's answer."""
        headers, body = to_binary(what)
        return (await self.http.post(self.url, headers=dict(headers), content=body)).status_code


@asynccontextmanager
async def stage(
    function: Iterable[Response | int], sink: Iterable[Response | int], *triggers: Trigger
) -> AsyncIterator[Stage]:
    """The broker serves over HTTP, and so do a function and a dead-letter sink that give these answers."""
    async with subscriber(*function) as function_, subscriber(*sink) as sink_:
        addresses = {"function": function_.url, "sink": sink_.url, "gone": "http://127.0.0.1:9"}
        broker = Broker("/rpa/default", triggers, addresses)
        async with serving(broker.app) as url, httpx.AsyncClient(trust_env=False) as http:
            try:
                yield Stage(function_, sink_, f"{url}/rpa/default", http)
            finally:
                await broker.aclose()


async def test_an_event_reaches_the_trigger_that_it_matches_and_no_other() -> None:
    """Binary or structured, it arrives in binary mode with all of its attributes."""
    other = trigger(name="other", attributes={"type": "rpa.job.finished.v1"}, subscriber=SINK)
    async with stage([204], [204], trigger(), other) as it:
        assert await it.publish(event()) == 202
        headers, body = to_structured(event(id="8"))
        assert (await it.http.post(it.url, headers=dict(headers), content=body)).status_code == 202
        await eventually(lambda: len(it.function.received) == 2)
    received = {request.headers["ce-id"]: request for request in it.function.received}
    assert set(received) == {"7", "8"}
    assert {request.body for request in received.values()} == {b'{"job_id": 1}'}
    assert received["7"].headers["ce-subject"] == "1"
    assert not it.sink.received


async def test_attributes_are_percent_encoded() -> None:
    """What no header can hold arrives all the same, written as the HTTP binding says."""
    async with stage([204], [204], trigger()) as it:
        headers, body = to_structured(event(subject='é € "100%"\n'))
        assert (await it.http.post(it.url, headers=dict(headers), content=body)).status_code == 202
        await eventually(lambda: it.function.received)
    assert it.function.received[0].headers["ce-subject"] == "%C3%A9%20%E2%82%AC%20%22100%25%22%0A"


@pytest.mark.parametrize("missing", ["ce-id", "ce-type", "ce-source", "ce-specversion"])
async def test_what_is_no_event_is_refused(missing: str) -> None:
    """The publisher is told, and nobody gets it."""
    async with stage([204], [204], trigger(attributes={})) as it:
        headers, body = to_binary(event())
        kept = {name: value for name, value in headers.items() if name != missing}
        assert (await it.http.post(it.url, headers=kept, content=body)).status_code == 400
        assert (await it.http.post(it.url, content=b"x" * (EVENT_LIMIT + 1))).status_code == 413
    assert not it.function.received


@pytest.mark.parametrize("status", [500, 503, 404, 408, 409, 429])
async def test_a_failure_that_may_pass_is_tried_again(status: int) -> None:
    """Until it is delivered; then there is no dead letter."""
    async with stage([status, status, 204], [204], trigger(backoff_seconds=0.1)) as it:
        await it.publish(event())
        await eventually(lambda: len(it.function.received) == 3)
    first, second = it.function.pauses()
    assert 0.1 <= first < second
    assert not it.sink.received


@pytest.mark.parametrize("status", [400, 403, 422])
async def test_a_refusal_is_final(status: int) -> None:
    """It is tried once, and the dead letter says where, how and why it failed."""
    async with stage([Response("poison", status)], [204], trigger()) as it:
        await it.publish(event())
        await eventually(lambda: it.sink.received)
    (letter,) = it.sink.received
    assert len(it.function.received) == 1
    assert letter.body == b'{"job_id": 1}'
    assert letter.headers["ce-id"] == "7"
    assert letter.headers["ce-knativeerrordest"] == FUNCTION
    assert letter.headers["ce-knativeerrorcode"] == str(status)
    assert base64.b64decode(letter.headers["ce-knativeerrordata"]) == b"poison"


async def test_an_answer_that_is_no_event_is_a_failure() -> None:
    """A 200 with OK in it is tried again, and ends as a dead letter."""
    async with stage([Response("OK")], [204], trigger(retry=2)) as it:
        await it.publish(event())
        await eventually(lambda: it.sink.received)
    assert len(it.function.received) == 3


async def test_an_answer_that_is_an_event_is_sent_on() -> None:
    """To whoever subscribes to it."""
    headers, body = to_binary(event(type="reply"))
    replies = trigger(name="replies", attributes={"type": "reply"}, subscriber=SINK)
    async with stage([Response(body, headers=dict(headers))], [204], trigger(), replies) as it:
        await it.publish(event())
        await eventually(lambda: it.sink.received)
    assert it.sink.received[0].headers["ce-type"] == "reply"
    assert len(it.function.received) == 1


async def test_nobody_there_ends_as_a_dead_letter() -> None:
    """A function that cannot be reached counts as 500; a dead-letter sink that is busy gets its letter later."""
    async with stage([204], [503, 204], trigger(subscriber="http://gone.rpa.svc.cluster.local", retry=1)) as it:
        await it.publish(event())
        await eventually(lambda: len(it.sink.received) == 2)
    assert it.sink.received[-1].headers["ce-knativeerrorcode"] == "500"


async def test_a_slow_function_is_given_up() -> None:
    """After the trigger's timeout, and tried again."""
    async with subscriber(204, pause=5) as slow:
        broker = Broker("/rpa/default", [trigger(timeout_seconds=1.0, retry=1)], {"function": slow.url})
        async with serving(broker.app) as url, httpx.AsyncClient(trust_env=False) as http:
            headers, body = to_binary(event())
            await http.post(f"{url}/rpa/default", headers=dict(headers), content=body)
            await eventually(lambda: len(slow.received) == 2)
            await broker.aclose()
    assert slow.pauses()[0] < 2


async def test_a_storm_of_events_is_delivered_whole() -> None:
    """More than may be under way at once."""
    async with stage([204], [204], trigger()) as it:
        for number in range(DELIVERIES_AT_ONCE + 50):
            assert await it.publish(event(id=str(number))) == 202
        await eventually(lambda: len(it.function.received) == DELIVERIES_AT_ONCE + 50)


@pytest.mark.parametrize(
    ("policy", "pauses"), [("exponential", [0.5, 1.0, 2.0, 4.0]), ("linear", [0.0, 0.5, 1.0, 1.5])]
)
def test_pauses_are_knatives(policy: str, pauses: list[float]) -> None:
    """Delay times 2^n or n, with n from 0."""
    it = trigger(backoff_policy=policy, backoff_seconds=0.5)
    assert [backoff(it, tried) for tried in (1, 2, 3, 4)] == pauses


async def test_a_publisher_may_give_up(caplog: pytest.LogCaptureFixture) -> None:
    """In the middle of its event: nothing is delivered, nothing breaks."""
    async with stage([204], [204], trigger()) as it:
        place = urlsplit(it.url)
        with socket.create_connection((place.hostname, place.port)) as publisher:
            publisher.sendall(f"POST {place.path} HTTP/1.1\r\nHost: broker\r\nContent-Length: 99\r\n\r\n{{".encode())
        assert await it.publish(event()) == 202
        await eventually(lambda: it.function.received)
        assert [request.headers["ce-id"] for request in it.function.received] == ["7"]
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []
