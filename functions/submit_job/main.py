"""submit_job: the job resource. Create, list, get, change, cancel and retry jobs; POST /auth/token."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import functions_framework.aio
from pydantic import Field, Json, SecretStr
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.submit_job import store
from functions.submit_job.accounts import Accounts, Client
from functions.submit_job.models import (
    BatchRequest,
    Items,
    JobChange,
    JobRequest,
    Page,
)
from shared import logs, spans
from shared.auth import Gate
from shared.config import (
    DatabaseSettings,
    EventSettings,
    LeaseSettings,
    ProviderSettings,
    TokenSettings,
    ValkeySettings,
    load,
)
from shared.db import Database
from shared.http import Problem, application, dump, home_page, invalid, page_limit, parse, route
from shared.http_client import HttpClient
from shared.jobs import State
from shared.outbox import Publisher
from shared.ratelimit import RateLimiter
from shared.tokens import Keyring, Scope
from shared.valkey_client import Valkey


class JobId(IntegerConvertor):
    """A job's number in a path: no more digits than a bigint has, for Python refuses to read thousands."""

    regex = "[0-9]{1,19}"


register_url_convertor("job", JobId())


class Settings(DatabaseSettings, ValkeySettings, TokenSettings, EventSettings, LeaseSettings, ProviderSettings):
    """What this function needs."""

    admin_username: str = Field(description="the administrator's name")
    admin_password: SecretStr = Field(description="the administrator's password, plain or an argon2 hash")
    api_clients: Json[dict[str, Client]] = Field(default_factory=dict, description="programs that may call, as JSON")
    token_lifetime: int = Field(3600, ge=60, le=86400, description="seconds a token is good for")
    rate_limit_per_minute: int = Field(6000, ge=1, description="requests a caller may make in a minute")


SETTINGS = load(Settings)
logs.configure("submit_job", SETTINGS.log_level)
spans.configure("submit_job", SETTINGS)
DATABASE = Database(SETTINGS)
VALKEY = Valkey(SETTINGS)
HTTP = HttpClient()
PUBLISHER = Publisher(SETTINGS, DATABASE, HTTP)
KEYRING = Keyring(SETTINGS)
LIMITER = RateLimiter(VALKEY)
GATE = Gate(KEYRING, LIMITER, SETTINGS.rate_limit_per_minute)
ADMIN = Client(secret=SETTINGS.admin_password, scopes=tuple(Scope))
ACCOUNTS = Accounts({**SETTINGS.api_clients, SETTINGS.admin_username: ADMIN}, KEYRING, LIMITER, SETTINGS.token_lifetime)


async def token(request: Request) -> Response:
    """POST /auth/token"""
    return JSONResponse(await ACCOUNTS.token(request), headers={"Cache-Control": "no-store"})


async def create(request: Request) -> Response:
    """POST /jobs"""
    caller = await GATE.caller(request, Scope.JOBS_CREATE)
    wish = await parse(request, JobRequest)
    jobs, created = await _submit(request, caller, [wish], "")
    return dump(jobs.items[0], 201 if created else 200, {"Location": f"/jobs/{jobs.items[0].id}"})


async def create_batch(request: Request) -> Response:
    """POST /jobs:batch"""
    caller = await GATE.caller(request, Scope.JOBS_CREATE)
    batch = await parse(request, BatchRequest)
    jobs, created = await _submit(request, caller, batch.jobs, "jobs.{n}.")
    return dump(jobs, 201 if created else 200)


async def _submit(request: Request, caller: str, wishes: Sequence[JobRequest], prefix: str) -> tuple[Items, int]:
    _check(wishes, prefix)
    traceparent = request.state.traceparent
    async with DATABASE.connection() as connection:
        jobs, bells = await store.submit(connection, wishes, traceparent=traceparent, created_by=caller)
    await PUBLISHER.publish(bells)
    first = jobs[0]
    spans.note(jobs=len(jobs), job_id=first.id, attempt=first.attempt, provider=first.provider, state=first.status)
    logs.info("submitted", jobs=len(jobs), created=len(bells), job_id=first.id)
    return Items(items=jobs), len(bells)


def _check(wishes: Sequence[JobRequest], prefix: str) -> None:
    now = datetime.now(UTC)
    problems: list[tuple[str, str]] = []
    seen: dict[str, int] = {}
    for n, wish in enumerate(wishes):
        found = wish.problems(SETTINGS.providers, now)
        if wish.external_job_id and seen.setdefault(wish.external_job_id, n) != n:
            found.append(("external_job_id", "stands in this request twice; send each once"))
        problems += [(prefix.format(n=n) + field, message) for field, message in found]
    if problems:
        errors = [{"field": field, "message": message} for field, message in problems]
        raise Problem(422, "; ".join(f"{f}: {m}" for f, m in problems[:20]), code="invalid", errors=errors)


async def index(request: Request) -> Response:
    """GET /jobs"""
    await GATE.caller(request, Scope.JOBS_READ)
    query = dict(request.query_params)
    if unknown := set(query) - {"status", "provider", "external_job_id", "limit", "cursor"}:
        raise invalid(min(unknown), "unknown filter; use status, provider, external_job_id, limit, cursor")
    if query.get("status") not in (None, *State):
        raise invalid("status", f"unknown; one of {', '.join(State)}")
    limit = page_limit(query.get("limit"))
    filters = {name: _plain(name, query.get(name)) for name in ("status", "provider", "external_job_id")}
    async with DATABASE.connection() as connection:
        jobs, cursor = await store.page(connection, filters, limit, query.get("cursor"))
    return dump(Page(items=jobs, next_cursor=cursor))


def _plain(name: str, value: str | None) -> str | None:
    if value and "\0" in value:
        raise invalid(name, "holds the character NUL; remove it")
    return value


def _job_id(request: Request) -> int:
    number = int(request.path_params["id"])
    if number >= 2**63:
        raise Problem(404, "id: there is no such job", code="unknown_job")
    return number


async def get(request: Request) -> Response:
    """GET /jobs/{id}"""
    await GATE.caller(request, Scope.JOBS_READ)
    async with DATABASE.connection() as connection:
        job = await store.get(connection, _job_id(request))
    return Response(job.model_dump_json(by_alias=True), media_type="application/json")


async def change(request: Request) -> Response:
    """PATCH /jobs/{id}"""
    await GATE.caller(request, Scope.JOBS_UPDATE)
    wish = await parse(request, JobChange)
    if not wish.model_fields_set:
        raise invalid("body", "names nothing to change; send priority, run_after or deadline")
    async with DATABASE.connection() as connection:
        job, bells = await store.change(connection, _job_id(request), wish)
    await PUBLISHER.publish(bells)
    return dump(job)


async def cancel(request: Request) -> Response:
    """DELETE /jobs/{id}"""
    caller = await GATE.caller(request, Scope.JOBS_UPDATE)
    job_id = _job_id(request)
    async with DATABASE.connection() as connection:
        bells = await store.cancel(connection, job_id, caller, SETTINGS)
        job = await store.get(connection, job_id)
    await PUBLISHER.publish(bells)
    return Response(job.model_dump_json(by_alias=True), media_type="application/json")


async def retry(request: Request) -> Response:
    """POST /jobs/{id}:retry"""
    caller = await GATE.caller(request, Scope.JOBS_UPDATE)
    async with DATABASE.connection() as connection:
        traceparent = request.state.traceparent
        new_id, bells = await store.retry(connection, _job_id(request), traceparent=traceparent, created_by=caller)
        job = await store.get(connection, new_id)
    await PUBLISHER.publish(bells)
    headers = {"Location": f"/jobs/{new_id}"}
    return Response(job.model_dump_json(by_alias=True), 201 if bells else 200, headers, "application/json")


async def evidence(request: Request) -> Response:
    """GET /jobs/{id}/evidence/{name}"""
    await GATE.caller(request, Scope.JOBS_READ)
    attempt = request.query_params.get("attempt")
    if attempt is not None and not (attempt.isdecimal() and attempt.isascii() and len(attempt) < 6):
        raise invalid("attempt", "must be a number")
    number = int(attempt) if attempt else None
    async with DATABASE.connection() as connection:
        content, kind, digest = await store.evidence(connection, _job_id(request), request.path_params["name"], number)
    # Whatever a worker uploaded is data here, never a page of ours.
    headers = {
        "ETag": f'"{digest}"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
        "Content-Disposition": "inline" if kind.startswith("image/") else "attachment",
    }
    return Response(content, media_type=kind, headers=headers)


async def home(_request: Request) -> Response:
    """GET /"""
    return home_page("submit_job", SETTINGS.k_revision)


APPLICATION = application(
    [
        route("GET", "/", home),
        route("POST", "/auth/token", token),
        route("POST", "/jobs", create),
        route("GET", "/jobs", index),
        route("POST", "/jobs:batch", create_batch),
        route("GET", "/jobs/{id:job}", get),
        route("PATCH", "/jobs/{id:job}", change),
        route("DELETE", "/jobs/{id:job}", cancel),
        route("POST", "/jobs/{id:job}:retry", retry),
        route("GET", "/jobs/{id:job}/evidence/{name}", evidence),
    ],
    ready=DATABASE.ping,
)


@functions_framework.aio.http
async def submit_job(_request: Request) -> Response:
    """The function's entry point."""
    return APPLICATION
