"""Publishing: the broker has it, or the outbox keeps it; soon, and never an error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from shared.config import DatabaseSettings, EventSettings
from shared.db import Database
from shared.events import Doorbell, Type, doorbell, receive
from shared.http_client import HttpClient
from shared.outbox import AT_ONCE, Publisher
from tests.serving import serving

TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
BELLS = [Doorbell(Type.JOB_SUBMITTED, job_id, 1, TRACE) for job_id in (1, 2, 3)]


class Broker:
    """Takes what a test lets it take."""

    def __init__(self) -> None:
        self.heard: list[Doorbell] = []
        self.headers: list[dict[str, str]] = []
        self.refuses: set[int] = set()
        self.stuck: set[int] = set()
        self.asked = 0

    def app(self) -> Starlette:
        async def take(request: Request) -> Response:
            bell = doorbell(await receive(request), list(Type))
            self.asked += 1
            if bell.job_id in self.stuck:
                await asyncio.sleep(30)
            if bell.job_id in self.refuses:
                return Response(status_code=500)
            self.heard.append(bell)
            self.headers.append(dict(request.headers))
            return Response(status_code=202)

        return Starlette(routes=[Route("/", take, methods=["POST"])])


@asynccontextmanager
async def publisher(database_url: str, sink: str | None) -> AsyncIterator[Publisher]:
    settings = DatabaseSettings(environment={}, database_url=SecretStr(database_url))
    database, http = Database(settings), HttpClient()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(database.aclose)
        stack.push_async_callback(http.aclose)
        yield Publisher(EventSettings(environment={}, k_sink=sink), database, http)


@pytest.fixture
async def broker() -> AsyncIterator[tuple[Broker, str]]:
    broker = Broker()
    async with serving(broker.app()) as url:
        yield broker, url


@pytest.fixture
async def waiting(connection: psycopg.AsyncConnection[Any]) -> psycopg.AsyncConnection[Any]:
    """Three events in the outbox."""
    for bell in BELLS:
        values = (bell.type.value, bell.job_id, bell.attempt, bell.traceparent)
        await connection.execute("INSERT INTO outbox VALUES (%s, %s, %s, %s)", values)
    return connection


async def left(connection: psycopg.AsyncConnection[Any]) -> list[int]:
    rows = await (await connection.execute("SELECT job_id FROM outbox ORDER BY job_id")).fetchall()
    return [row[0] for row in rows]


async def test_what_the_broker_took_is_forgotten(waiting: Any, module_url: str, broker: tuple[Broker, str]) -> None:
    """Sent as CloudEvents in binary mode, with ids that are the same whoever sends them."""
    took, url = broker
    async with publisher(module_url, url) as sender:
        await sender.publish(BELLS)
    assert sorted(took.heard, key=lambda bell: bell.job_id) == BELLS
    assert await left(waiting) == []
    headers = next(h for h in took.headers if h["ce-subject"] == "1")
    assert {name: value for name, value in headers.items() if name.startswith("ce-") and name != "ce-time"} == {
        "ce-id": BELLS[0].id,
        "ce-specversion": "1.0",
        "ce-type": "rpa.job.submitted.v1",
        "ce-source": "/rpa/orchestrator",
        "ce-subject": "1",
        "ce-partitionkey": "1",
        "ce-traceparent": TRACE,
    }
    assert headers["content-type"] == "application/json"


async def test_what_the_broker_refused_stays(waiting: Any, module_url: str, broker: tuple[Broker, str]) -> None:
    """The others go."""
    took, url = broker
    took.refuses = {2}
    async with publisher(module_url, url) as sender:
        await sender.publish(BELLS)
    assert await left(waiting) == [2]


async def test_a_slow_broker_does_not_keep_a_caller(waiting: Any, module_url: str, broker: tuple[Broker, str]) -> None:
    """After two seconds the outbox has it; all are sent at once, so that one that hangs delays none."""
    took, url = broker
    took.stuck = {1, 3}
    began = time.monotonic()
    async with publisher(module_url, url) as sender:
        await sender.publish(BELLS)
        assert time.monotonic() - began < 10
    assert await left(waiting) == [1, 3]


async def test_a_broker_that_hangs_is_not_buried(module_url: str, broker: tuple[Broker, str]) -> None:
    """It is asked so many times at once; what it was not asked to take waits in the outbox."""
    took, url = broker
    bells = [Doorbell(Type.JOB_SUBMITTED, job_id, 1, TRACE) for job_id in range(1, 2 * AT_ONCE + 1)]
    async with publisher(module_url, url) as sender:
        assert len(await sender.ring(bells)) == 2 * AT_ONCE
        took.stuck = {bell.job_id for bell in bells}
        took.asked = 0
        assert await sender.ring(bells) == []
    assert took.asked == AT_ONCE


@pytest.mark.parametrize("sink", [None, "http://127.0.0.1:1"])
async def test_without_a_broker_everything_stays(waiting: Any, module_url: str, sink: str | None) -> None:
    """None configured, or nobody there: no error."""
    async with publisher(module_url, sink) as sender:
        await sender.publish(BELLS)
        assert await sender.ring(BELLS) == []
    assert await left(waiting) == [1, 2, 3]


async def test_without_a_database_an_event_may_come_twice(
    module_url: str, broker: tuple[Broker, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be forgotten is sent again by reaping, which changes nothing: no error."""
    monkeypatch.setattr("shared.db.WAIT_SECONDS", 0.2)
    took, url = broker
    async with publisher(module_url.replace("/test_", "/gone_"), url) as sender:
        await sender.publish(BELLS)
    assert len(took.heard) == 3


def test_an_events_id_is_the_happenings() -> None:
    """The same for the same type, job and attempt, and for no other."""
    bells = [Doorbell(kind, job, attempt, "") for kind in Type for job in (1, 11, 111) for attempt in (1, 11)]
    assert len({bell.id for bell in bells}) == len(bells)
    assert Doorbell(Type.JOB_SUBMITTED, 1, 1, TRACE).id == Doorbell(Type.JOB_SUBMITTED, 1, 1, "").id
