"""A worker that works for one orchestrator alone, whoever reaches its `/execute`."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.responses import JSONResponse

from rpa_worker import Job, Worker
from tests.counterparts import Client, OrchestratorStandIn
from tests.serving import eventually, serving
from tests.worker.conftest import HASTE

NOWHERE = "http://127.0.0.1:9"
performed: list[tuple[int, int]] = []


@pytest.fixture
async def worker(orchestrator: OrchestratorStandIn) -> Worker:
    """Knows its orchestrator, and has room for two attempts that last."""
    worker = Worker(capacity=2, heartbeat_seconds=60, drain_seconds=0, callback=f"{orchestrator.url}/", patience=HASTE)

    @worker.action("octotel", "validation")
    async def validate(job: Job) -> None:
        performed.append((job.id, job.attempt))
        await asyncio.Event().wait()

    performed.clear()
    return worker


async def test_an_order_is_confirmed_before_it_is_followed(client: Client, orchestrator: OrchestratorStandIn) -> None:
    """The first heartbeat has its token, and is answered before the action begins."""
    may_answer = orchestrator.hold("heartbeat")
    execute = asyncio.create_task(client.execute())
    await eventually(lambda: orchestrator.calls("heartbeat"))
    assert (performed, execute.done()) == ([], False)
    may_answer.set()
    assert (await execute).status_code == 200
    await eventually(lambda: performed == [(1, 1)])


async def test_another_orchestrators_order(client: Client, worker: Worker, orchestrator: OrchestratorStandIn) -> None:
    """Nobody is asked where it says: its callback may be the stranger's own."""
    refusal = await client.execute(orchestrator_callback="http://stranger.test")
    assert (refusal.status_code, refusal.headers["content-type"]) == (403, "application/problem+json")
    assert refusal.json()["detail"].startswith("orchestrator_callback: this worker works for")
    assert (performed, worker.status()["running"], orchestrator.heard) == ([], 0, [])


@pytest.mark.parametrize(("answer", "status"), [(401, 403), (403, 403), (409, 409), (503, 503)])
async def test_an_order_that_is_not_confirmed(
    client: Client, worker: Worker, orchestrator: OrchestratorStandIn, answer: int, status: int
) -> None:
    """It is refused, takes no place, ends no attempt that runs, and is not in the way of the one that is given."""
    assert (await client.execute()).status_code == 200
    await eventually(lambda: len(orchestrator.calls("heartbeat")) == 2)  # the other is the attempt's own
    orchestrator.answer("heartbeat", JSONResponse({}, answer))
    assert (await client.execute(attempt=99)).status_code == status
    assert worker.status()["running"] == 1
    assert (await client.execute(attempt=2)).status_code == 200
    await eventually(lambda: performed == [(1, 1), (1, 2)])


async def test_an_orchestrator_that_is_away(orchestrator: OrchestratorStandIn) -> None:
    """The worker certainly does not have the order: another one may be asked."""
    worker = Worker(callback=NOWHERE)
    worker.action("octotel", "validation")(lambda _: asyncio.sleep(0))
    async with serving(worker.app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        refusal = await Client(http, orchestrator).execute(orchestrator_callback=NOWHERE)
    assert (refusal.status_code, int(refusal.headers["retry-after"]) > 0) == (503, True)
    assert orchestrator.heard == []


async def test_what_is_being_confirmed_has_its_place(client: Client, orchestrator: OrchestratorStandIn) -> None:
    """The same order again hears the same; a third attempt finds two places taken."""
    may_answer = orchestrator.hold("heartbeat")
    orders = [asyncio.create_task(client.execute(job_id)) for job_id in (1, 1, 2)]
    await eventually(lambda: len(orchestrator.calls("heartbeat")) == 2)
    assert (await client.execute(3)).status_code == 429
    may_answer.set()
    assert [(await order).status_code for order in orders] == [200, 200, 200]
    await eventually(lambda: sorted(performed) == [(1, 1), (2, 1)])


async def test_a_strangers_order_is_not_in_the_way(client: Client, orchestrator: OrchestratorStandIn) -> None:
    """It names the same attempt, and comes first; the one with the right token is followed."""
    may_answer = orchestrator.hold("heartbeat")
    orchestrator.answer("heartbeat", JSONResponse({}, 401))
    stranger = asyncio.create_task(client.execute(token="guessed"))
    await eventually(lambda: orchestrator.calls("heartbeat"))
    given = asyncio.create_task(client.execute())
    await eventually(lambda: len(orchestrator.calls("heartbeat")) == 2)
    may_answer.set()
    assert [(await order).status_code for order in (stranger, given)] == [403, 200]
    await eventually(lambda: performed == [(1, 1)])
