"""monitor: what people, Prometheus and Oracle want to know, and what operators do about it."""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime

import functions_framework.aio
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import Field, SecretStr, ValidationInfo, field_validator
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from functions.monitor import figures
from functions.monitor.diagnosis import diagnose
from functions.monitor.exposition import exposition
from functions.monitor.models import BrowserServices, Diagnosis, Status
from functions.monitor.operators import Operators
from functions.monitor.routes import OperatorRoutes
from shared import logs, spans
from shared.auth import Gate
from shared.config import (
    BaseUrl,
    CodeSettings,
    DatabaseSettings,
    EventSettings,
    ProviderSettings,
    TokenSettings,
    ValkeySettings,
    load,
)
from shared.db import Database
from shared.events import PING, not_handled, receive, takes_events
from shared.http import AT_ONCE, Application, Home, Part, Problem, application, home_page, invalid, query, route
from shared.http_client import HttpClient, Silence
from shared.operation import Answer, Operation
from shared.outbox import Publisher
from shared.ratelimit import RateLimiter
from shared.tokens import Keyring, Scope
from shared.valkey_client import Valkey

PER_MINUTE = 600
REPORTS_PER_MINUTE = 6
BROWSER_NAME = re.compile(r"[a-z0-9-]{1,63}", re.ASCII)


class Settings(DatabaseSettings, ValkeySettings, TokenSettings, ProviderSettings, EventSettings, CodeSettings):
    """What this function needs."""

    health_report_enabled: bool = False
    health_report_endpoint: BaseUrl | None = Field(None, validate_default=True, description="where health reports go")
    callback_auth_token: SecretStr = Field(SecretStr(""), description="the bearer token that ORDS expects")
    callback_timeout: float = Field(10, gt=0, le=60, description="seconds ORDS may take to answer")
    submit_url: BaseUrl | None = Field(None, description="submit_job's address, for who signs in to the dashboard")

    @field_validator("health_report_endpoint")
    @classmethod
    def _wished(cls, endpoint: str | None, others: ValidationInfo) -> str | None:
        if others.data.get("health_report_enabled") and not endpoint:
            raise ValueError("not set; give the address, or set HEALTH_REPORT_ENABLED to false")
        return endpoint


SETTINGS = load(Settings)
logs.configure("monitor", SETTINGS.log_level)
spans.configure("monitor", SETTINGS)
DATABASE = Database(SETTINGS)
VALKEY = Valkey(SETTINGS)
HTTP = HttpClient()
LIMITER = RateLimiter(VALKEY)
GATE = Gate("monitor", Keyring(SETTINGS), LIMITER, PER_MINUTE)
OPERATORS = Operators(
    DATABASE, VALKEY, Publisher(SETTINGS, DATABASE, HTTP), SETTINGS.providers, SETTINGS.totp_min_validity
)


async def home(request: Request) -> Response:
    """GET /: the dashboard to browsers, who this is to programs"""
    wants_page = "text/html" in request.headers.get("accept", "")
    response = RedirectResponse("/ui/", 303) if wants_page else home_page("monitor", SETTINGS.k_revision)
    response.headers["Vary"] = "Accept"
    return response


@functools.cache
def _dashboard() -> Response:
    # With the first page: Prometheus need not wait until pages can be made.
    from functions.monitor.dashboard.app import Dashboard
    from functions.monitor.dashboard.submit import SubmitJob
    from shared.pictures import Pictures

    submit = SubmitJob(HTTP, SETTINGS.submit_url)
    pages = Dashboard(GATE, DATABASE, OPERATORS, Pictures(VALKEY), submit, SETTINGS.providers)
    return Application(pages.app(), AT_ONCE)


async def dashboard(_request: Request) -> Response:
    """GET and POST /ui/..."""
    return _dashboard()


async def status(request: Request) -> Response:
    """GET /status"""
    await GATE.caller(request, Scope.MONITOR_READ)
    async with DATABASE.connection() as connection:
        jobs, backlog = await figures.read_figures(connection)
    return JSONResponse(figures.status(SETTINGS.providers.values(), jobs, backlog))


async def metrics(request: Request) -> Response:
    """GET /metrics"""
    await GATE.caller(request, Scope.MONITOR_READ)
    async with DATABASE.connection() as connection:
        jobs, backlog = await figures.read_figures(connection)
        counted, oldest = await figures.read_counted(connection)
    text = exposition(jobs, {**backlog, "oldest_report_seconds": oldest}, counted, SETTINGS.providers)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def browser_services(request: Request) -> Response:
    """GET /browser-services"""
    await GATE.caller(request, Scope.MONITOR_READ)
    part = query(request, Part)
    if part.cursor and not BROWSER_NAME.fullmatch(part.cursor):
        raise invalid("cursor", "not one of ours; send next_cursor of the page before, unchanged")
    async with DATABASE.connection() as connection:
        browsers, cursor = await figures.read_browsers(connection, part.limit, part.cursor)
    return JSONResponse({"items": browsers, "next_cursor": cursor})


async def diagnosis(request: Request) -> Response:
    """GET /diagnosis"""
    await GATE.caller(request, Scope.MONITOR_READ)
    return JSONResponse(await diagnose(SETTINGS, VALKEY))


async def tick(request: Request) -> Response:
    """POST /: the PingSource's tick; reports our health to Oracle where that is wished."""
    event = await receive(request)
    if event["type"] != PING:
        raise Problem(422, not_handled(event, [PING]), code="poison")
    if SETTINGS.health_report_enabled and SETTINGS.health_report_endpoint:
        # Anybody in the cluster can send a tick.
        if await LIMITER.wait("health-report", REPORTS_PER_MINUTE):
            logs.info("health not reported", reason="more ticks than the schedule can have sent")
        else:
            await _report(SETTINGS.health_report_endpoint)
    return Response(status_code=204)


async def _report(endpoint: str) -> None:
    async with DATABASE.connection() as connection:
        jobs, backlog = await figures.read_figures(connection)
    report = {
        "status": "ok",
        "reported_at": datetime.now(UTC).isoformat(),
        **figures.status((), jobs, backlog),
    }
    headers = {"Authorization": f"Bearer {SETTINGS.callback_auth_token.get_secret_value()}"}
    try:
        answer = await HTTP.call("POST", endpoint, seconds=SETTINGS.callback_timeout, headers=headers, json=report)
        logs.info("health reported", status=answer.status)
    except Silence as silence:
        logs.warning("health not reported", reason=str(silence))  # the next tick reports anew


async def ready() -> None:
    """Both stores answer."""
    await DATABASE.ping()
    await VALKEY.ping()


READ = Scope.MONITOR_READ
HOME_OR_PAGES = Operation(
    summary="Who answers here; to browsers the dashboard",
    answers={200: Answer(Home), 303: Answer(headers=("Location",))},
)
TICK = takes_events("Report our health to Oracle, where that is wished", PING)
STATUS = Operation(summary="Providers, jobs and backlogs", who=READ, answers={200: Answer(Status)})
METRICS = Operation(
    summary="The same figures for Prometheus", who=READ, answers={200: Answer(media=CONTENT_TYPE_LATEST)}
)
BROWSERS = Operation(
    summary="Browsers and the attempts that they belong to, by name",
    who=READ,
    query=Part,
    answers={200: Answer(BrowserServices)},
)
DIAGNOSIS = Operation(
    summary="What a pod of this function sees of the stores", who=READ, answers={200: Answer(Diagnosis)}
)
APPLICATION = application(
    [
        route("GET", "/", home, HOME_OR_PAGES),
        route("POST", "/", tick, TICK),
        route("GET", "/status", status, STATUS),
        route("GET", "/metrics", metrics, METRICS),
        route("GET", "/browser-services", browser_services, BROWSERS),
        route("GET", "/diagnosis", diagnosis, DIAGNOSIS),
        *OperatorRoutes(GATE, OPERATORS).all(),
        Route("/ui/{path:path}", dashboard, methods=["GET", "POST"]),
    ],
    ready,
    about=__doc__,
)


@functions_framework.aio.http
async def monitor(_request: Request) -> Response:
    """The function's entry point."""
    return APPLICATION
