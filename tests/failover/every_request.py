"""One request of every kind to every function, each of which asks the database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx

from shared.events import Doorbell, Type
from tests.functions.stage import FUNCTIONS, Stage

Request = Callable[[], Awaitable[httpx.Response]]
FAR = "2100-01-01T00:00:00Z"
BUSINESS = {"kind": "business", "code": "unknown_circuit", "message": "no such circuit"}


@dataclass(frozen=True, slots=True)
class Answered:
    """What a request came to."""

    status: int
    retry_after: str | None
    seconds: float
    text: str


async def every_request(stage: Stage) -> dict[str, Request]:
    """By their names, in an order in which all succeed; with the jobs that they are about."""
    waiting = (await stage.submit(run_after=FAR))["id"]
    ended = await stage.until_running()
    await stage.complete(ended, status="failed", failure=BUSINESS)
    (finished,) = await stage.outbox()
    order = await stage.until_running(provider="octotel")
    undispatched = await _undispatched(stage)
    submitted = await stage.submit(provider="openserve")
    due = Doorbell(Type.JOB_SUBMITTED, submitted["id"], 1, "")
    reap = {"ce-id": "tick", "ce-source": "/ping", "ce-type": "dev.knative.sources.ping", "ce-specversion": "1.0"}
    ids = {"job_id": order["job_id"], "attempt": 1}
    token = order["token"]
    job = {"provider": "metrofiber", "action": "validation", "run_after": FAR}

    def call(function: str, method: str, path: str, **options: Any) -> Request:
        return lambda: stage.call(function, method, path, **options)

    def event(function: str, bell: Doorbell) -> Request:
        return lambda: stage.send(function, bell)

    return {
        **{f"{name} is ready": call(name, "GET", "/health/ready") for name in FUNCTIONS},
        "create": call("submit_job", "POST", "/jobs", json=job),
        "create many": call("submit_job", "POST", "/jobs:batch", json={"jobs": [job, job]}),
        "list": call("submit_job", "GET", "/jobs"),
        "get": call("submit_job", "GET", f"/jobs/{waiting}"),
        "change": call("submit_job", "PATCH", f"/jobs/{waiting}", json={"priority": 1}),
        "cancel": call("submit_job", "DELETE", f"/jobs/{waiting}"),
        "retry": call("submit_job", "POST", f"/jobs/{ended['job_id']}:retry"),
        "heartbeat": call("callback", "POST", "/callbacks/heartbeat", token=token, json=ids),
        "evidence": call("callback", "PUT", "/callbacks/evidence/a.png", token=token, content=b"picture"),
        "code": call("issue_totp", "POST", "/totp/octotel", token=token),
        "complete": lambda: stage.complete(order),
        "admit": event("provision_browser", due),
        "dispatch": event("dispatch_job", undispatched),
        "report": event("notify", finished),
        "reap": call("reap_idle", "POST", "/", headers=reap, json={}),
        "status": call("monitor", "GET", "/status"),
        "metrics": call("monitor", "GET", "/metrics"),
        "browsers": call("monitor", "GET", "/browser-services"),
    }


async def _undispatched(stage: Stage) -> Doorbell:
    made = await stage.submit(provider="openserve")
    await stage.send("provision_browser", Doorbell(Type.JOB_SUBMITTED, made["id"], 1, ""))
    return next(bell for bell in await stage.outbox() if bell.type is Type.BROWSER_READY)


async def in_turn(requests: dict[str, Request]) -> dict[str, Answered]:
    """One after another."""
    return {name: await _answered(request) for name, request in requests.items()}


async def at_once(requests: dict[str, Request]) -> dict[str, Answered]:
    """All at the same time."""
    answers = await asyncio.gather(*(_answered(request) for request in requests.values()))
    return dict(zip(requests, answers, strict=True))


async def _answered(request: Request) -> Answered:
    began = time.monotonic()
    response = await request()
    seconds = time.monotonic() - began
    return Answered(response.status_code, response.headers.get("Retry-After"), seconds, response.text)
