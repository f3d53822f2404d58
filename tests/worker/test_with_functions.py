"""The worker library with the real functions as its orchestrator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from rpa_worker import BusinessFailure, Job, Worker
from rpa_worker.order import Order
from tests.functions.stage import Stage, open_stage
from tests.serving import eventually


@pytest.fixture
async def stage(database_url: str, valkey_settings: dict[str, str], tmp_path: Path) -> AsyncIterator[Stage]:
    async with open_stage(database_url, valkey_settings, tmp_path / "providers") as opened:
        yield opened


@pytest.fixture
async def client(stage: Stage) -> AsyncIterator[httpx.AsyncClient]:
    """Reaches the functions by the addresses that an order names."""
    transports = {
        "http://callback": stage.clients["callback"]._transport,
        "http://issue-totp": stage.clients["issue_totp"]._transport,
    }
    async with httpx.AsyncClient(mounts=transports, trust_env=False) as opened:
        yield opened


async def perform(stage: Stage, worker: Worker, client: httpx.AsyncClient, **job: Any) -> dict[str, Any]:
    """Submit a job, let the worker do it, and see what the functions made of it."""
    order = await stage.until_running(**job)
    worker.accept(Order.parse(order), client)
    await eventually(lambda: worker.status()["running"] == 0)
    return await stage.job(order["job_id"])


async def test_completed(stage: Stage, worker: Worker, client: httpx.AsyncClient) -> None:
    """A job with a login code and evidence, from order to completion."""
    codes: list[str] = []

    @worker.action("octotel", "validation")
    async def validate(job: Job) -> dict[str, object]:
        codes.append(await job.totp())
        await job.evidence("page.html", b"<p>", "text/html")
        return {"account": job.account}

    job = await perform(stage, worker, client, provider="octotel")
    assert job["status"] == "completed"
    assert job["result"] == {"account": job["account"]}
    assert [item["name"] for item in job["evidence"]] == ["page.html"]
    assert {"accepted", "totp_issued", "completed"} <= {entry["event"] for entry in job["history"]}
    assert len(codes[0]) == 6


async def test_code_at_dispatch(stage: Stage, worker: Worker, client: httpx.AsyncClient) -> None:
    """A code that comes with the order is used, and a second one can be asked for."""
    codes: list[str] = []

    @worker.action("evotel", "validation")
    async def validate(job: Job) -> None:
        codes.extend([await job.totp(), await job.totp(rejected=True)])

    job = await perform(stage, worker, client, provider="evotel")
    assert job["status"] == "completed"
    assert len(set(codes)) == 2


async def test_business_failure(stage: Stage, worker: Worker, client: httpx.AsyncClient) -> None:
    """What the portal refuses fails for good."""

    @worker.action("openserve", "validation")
    async def validate(_: Job) -> None:
        raise BusinessFailure("circuit_unknown", "The portal does not know circuit C-1")

    job = await perform(stage, worker, client, provider="openserve")
    assert job["status"] == "failed"
    assert job["error"] == {
        "kind": "business",
        "code": "circuit_unknown",
        "message": "The portal does not know circuit C-1",
    }


async def test_application_failure(stage: Stage, worker: Worker, client: httpx.AsyncClient) -> None:
    """What broke is tried again, and the earlier attempt's worker can say nothing more."""
    tokens: list[str] = []

    @worker.action("openserve", "validation")
    async def validate(_: Job) -> None:
        tokens.append(stage.worker.orders[0]["token"])
        raise ValueError(f"cannot read {tokens[0]}")

    job = await perform(stage, worker, client, provider="openserve")
    assert (job["status"], job["attempt"]) == ("pending", 2)
    assert job["error"]["code"] == "value_error"
    assert tokens[0] not in str(job)
    stale = Order.parse(stage.worker.orders[0])
    again = Worker(capacity=1, heartbeat_seconds=0.05, browser="firefox")
    again.action("openserve", "validation")(validate)
    again.accept(stale, client)
    await eventually(lambda: again.status()["running"] == 0)
    assert (await stage.job(job["id"]))["attempt"] == 2


async def test_result_too_large(stage: Stage, worker: Worker, client: httpx.AsyncClient) -> None:
    """A result larger than the orchestrator takes is reported as that."""

    @worker.action("openserve", "validation")
    async def validate(_: Job) -> dict[str, object]:
        return {"much": "x" * 300_000}

    job = await perform(stage, worker, client, provider="openserve", max_retries=0)
    assert job["status"] == "failed"
    assert job["error"]["code"] == "report_refused"


async def test_cancelled(stage: Stage, worker: Worker, client: httpx.AsyncClient) -> None:
    """A job that its owner cancels is cancelled in the worker too."""
    begun: list[Job] = []

    @worker.action("openserve", "validation")
    async def validate(job: Job) -> None:
        begun.append(job)
        await eventually(lambda: False)

    order = await stage.until_running(provider="openserve")
    worker.accept(Order.parse(order), client)
    await eventually(lambda: begun)
    await stage.call("submit_job", "DELETE", f"/jobs/{order['job_id']}")
    await eventually(lambda: worker.status()["running"] == 0)
    assert begun[0].cancelled
    assert (await stage.job(order["job_id"]))["status"] == "cancelled"
