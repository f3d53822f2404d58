"""Every way in: the routes of every function's application, and what a good request to each is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx

from shared.events import Doorbell, Type
from shared.tokens import Scope
from tests.functions.stage import FUNCTIONS, Stage, keyring
from tests.functions.test_dead_letters import letter

HOUR = timedelta(hours=1)
HEALTH = {("GET", "/health"), ("GET", "/health/live"), ("GET", "/health/ready"), ("GET", "/openapi.json")}
OPEN = {("submit_job", "GET", "/"), ("submit_job", "POST", "/auth/token"), ("monitor", "GET", "/")}
"""Beside the health routes: these say who they are, or make tokens."""
EVENTS = {"provision_browser", "dispatch_job", "notify", "reap_idle", "monitor"}
"""Whose POST / takes events, which have no token: see test_events."""


@dataclass(frozen=True)
class Door:
    """A route that wants a token."""

    function: str
    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.function} {self.method} {self.path}"


@dataclass(frozen=True)
class Good:
    """What opens a door: a scope, or the token of the attempt where it is None; and a request that is right."""

    scope: Scope | None
    options: dict[str, Any]


@dataclass
class Scene:
    """What is there for an intruder to want."""

    order: dict[str, Any]
    """A running attempt at octotel, as its worker has it."""
    pending: int
    failed: int
    """A job with evidence, which can be retried."""
    letter: int
    """An event that nobody could handle."""


async def set_scene(stage: Stage) -> Scene:
    """Jobs in every state that a route asks for."""
    order = await stage.until_running(provider="octotel")
    failed = await stage.until_running(provider="metrofiber", max_retries=0)
    await stage.call(
        "callback", "PUT", "/callbacks/evidence/a.png", token=failed["token"], content=b"x",
        headers={"Content-Type": "image/png"},
    )  # fmt: skip
    failure = {"kind": "business", "code": "no", "message": "no"}
    assert (await stage.complete(failed, status="failed", failure=failure)).status_code == 200
    pending = await stage.submit(provider="octotel", run_after="2990-01-01T00:00:00Z")
    await stage.deliver_all()
    lost = Doorbell(Type.JOB_SUBMITTED, pending["id"], 1, "")
    return Scene(order, pending["id"], failed["job_id"], await letter(stage, lost))


def every_route(stage: Stage) -> Iterator[tuple[str, str, str]]:
    """Function, method and path of all routes, HEAD too."""
    for function in FUNCTIONS:
        for route in stage.routes[function]:
            for method in sorted(route.methods):
                yield function, method, route.path


def is_open(function: str, method: str, path: str) -> bool:
    """Whether a route needs no token."""
    method = "GET" if method == "HEAD" else method
    event = (method, path) == ("POST", "/") and function in EVENTS
    page = function == "monitor" and path.startswith("/ui/")  # for people with a cookie: see tests/dashboard
    return event or page or (method, path) in HEALTH or (function, method, path) in OPEN


def doors(stage: Stage) -> list[Door]:
    """All routes that want a token."""
    return [Door(*route) for route in every_route(stage) if not is_open(*route)]


def good(door: Door, scene: Scene) -> Good:
    """The request that would be answered, had it the token. Fails where a new route is not told of here."""
    order = scene.order
    own = {"job_id": order["job_id"], "attempt": order["attempt"]}
    job = {"provider": "metrofiber", "action": "validation"}
    requests = {
        ("submit_job", "POST", "/jobs"): Good(Scope.JOBS_CREATE, {"json": job}),
        ("submit_job", "POST", "/jobs:batch"): Good(Scope.JOBS_CREATE, {"json": {"jobs": [job]}}),
        ("submit_job", "GET", "/jobs"): Good(Scope.JOBS_READ, {}),
        ("submit_job", "GET", "/jobs/{id:job}"): Good(Scope.JOBS_READ, {"id": scene.pending}),
        ("submit_job", "PATCH", "/jobs/{id:job}"): Good(
            Scope.JOBS_UPDATE, {"id": scene.pending, "json": {"priority": 9}}
        ),
        ("submit_job", "DELETE", "/jobs/{id:job}"): Good(Scope.JOBS_UPDATE, {"id": scene.pending}),
        ("submit_job", "POST", "/jobs/{id:job}:retry"): Good(Scope.JOBS_UPDATE, {"id": scene.failed}),
        ("submit_job", "GET", "/jobs/{id:job}/evidence/{name}"): Good(
            Scope.JOBS_READ, {"id": scene.failed, "name": "a.png"}
        ),
        ("monitor", "GET", "/status"): Good(Scope.MONITOR_READ, {}),
        ("monitor", "GET", "/metrics"): Good(Scope.MONITOR_READ, {}),
        ("monitor", "GET", "/browser-services"): Good(Scope.MONITOR_READ, {}),
        ("monitor", "GET", "/diagnosis"): Good(Scope.MONITOR_READ, {}),
        ("monitor", "GET", "/providers"): Good(Scope.MONITOR_READ, {}),
        ("monitor", "POST", "/providers/{name}:pause"): Good(
            Scope.OPERATE, {"name": "octotel", "json": {"reason": "x"}}
        ),
        ("monitor", "POST", "/providers/{name}:resume"): Good(Scope.OPERATE, {"name": "octotel"}),
        ("monitor", "GET", "/accounts"): Good(Scope.MONITOR_READ, {}),
        ("monitor", "POST", "/accounts/{account}:pause"): Good(
            Scope.OPERATE, {"account": "OCTOTEL", "json": {"reason": "x"}}
        ),
        ("monitor", "POST", "/accounts/{account}:resume"): Good(Scope.OPERATE, {"account": "OCTOTEL"}),
        ("monitor", "GET", "/dead-letters"): Good(Scope.MONITOR_READ, {}),
        ("monitor", "POST", "/dead-letters:replay"): Good(Scope.OPERATE, {}),
        ("monitor", "GET", "/dead-letters/{id:letter}"): Good(Scope.MONITOR_READ, {"id": scene.letter}),
        ("monitor", "POST", "/dead-letters/{id:letter}:replay"): Good(Scope.OPERATE, {"id": scene.letter}),
        ("callback", "POST", "/callbacks/heartbeat"): Good(None, {"json": {**own, "phase": "intruded"}}),
        ("callback", "PUT", "/callbacks/picture"): Good(
            None, {"content": b"\xff\xd8\xff", "headers": {"Content-Type": "image/jpeg"}}
        ),
        ("callback", "PUT", "/callbacks/evidence/{name}"): Good(None, {"name": "b.png", "content": b"x"}),
        ("callback", "POST", "/callbacks/job-complete"): Good(None, {"json": {**own, "status": "completed"}}),
        ("issue_totp", "POST", "/totp/{provider}"): Good(None, {"provider": order["provider"]}),
    }
    method = "GET" if door.method == "HEAD" else door.method
    return requests[door.function, method, door.path]


def token_for(door: Door, scene: Scene) -> str:
    """The least token that opens a door."""
    scope = good(door, scene).scope
    return keyring().issue("admin", [scope], HOUR) if scope else scene.order["token"]


async def knock(stage: Stage, door: Door, scene: Scene, headers: dict[str, str]) -> httpx.Response:
    """The good request, with these headers for a token."""
    options = dict(good(door, scene).options)
    path = re.sub(r"{(\w+)(:\w+)?}", lambda match: str(options.pop(match[1])), door.path)
    headers = {**options.pop("headers", {}), **headers}
    return await stage.clients[door.function].request(door.method, path, headers=headers, **options)
