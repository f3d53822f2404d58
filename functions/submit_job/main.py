"""submit_job: the job resource. Create, list, get, change, cancel and retry jobs; POST /auth/token."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import functions_framework.aio
from pydantic import Field, Json, SecretStr
from starlette.convertors import register_url_convertor
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.submit_job import store
from functions.submit_job.accounts import FORM, FORM_LIMIT, Accounts, Client, TokenRequest
from functions.submit_job.guessing import Guard
from functions.submit_job.models import (
    BatchRequest,
    EvidenceQuery,
    Items,
    Job,
    JobChange,
    JobRequest,
    JobsQuery,
    JobWithHistory,
    Page,
    Token,
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
from shared.db import Connection, Database
from shared.evidence import download, find
from shared.http import HOME, Number, Problem, application, dump, home_page, invalid, parse, query, route
from shared.http_client import HttpClient
from shared.operation import Answer, Body, Operation
from shared.outbox import Publisher
from shared.ratelimit import RateLimiter
from shared.tokens import Keyring, Scope
from shared.valkey_client import Valkey

register_url_convertor("job", Number())


class Settings(DatabaseSettings, ValkeySettings, TokenSettings, EventSettings, LeaseSettings, ProviderSettings):
    """What this function needs."""

    admin_username: str = Field(description="the administrator's name")
    admin_password: SecretStr = Field(description="the administrator's password, plain or an argon2 hash")
    api_clients: Json[dict[str, Client]] = Field(default_factory=dict, description="programs that may call, as JSON")
    token_lifetime: int = Field(3600, ge=60, le=86400, description="seconds a token is good for")
    trusted_proxies: int = Field(
        0,
        ge=0,
        le=10,
        description="proxies that append to X-Forwarded-For, from the one that appends the caller's address on; "
        "0: no caller's address is known",
    )
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
GATE = Gate("submit_job", KEYRING, LIMITER, SETTINGS.rate_limit_per_minute)
ADMIN = Client(secret=SETTINGS.admin_password, scopes=tuple(Scope))
ACCOUNTS = Accounts(
    {**SETTINGS.api_clients, SETTINGS.admin_username: ADMIN},
    KEYRING,
    Guard(LIMITER, VALKEY),
    lifetime=SETTINGS.token_lifetime,
    proxies=SETTINGS.trusted_proxies,
)


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
    problems = _problems(wishes)
    traceparent = request.state.traceparent
    async with DATABASE.connection() as connection:
        if problems:
            await _refuse(connection, wishes, problems, prefix)
        jobs, bells = await store.submit(connection, wishes, traceparent=traceparent, created_by=caller)
    await PUBLISHER.publish(bells)
    first = jobs[0]
    spans.note(jobs=len(jobs), job_id=first.id, attempt=first.attempt, provider=first.provider, state=first.status)
    logs.info("submitted", jobs=len(jobs), created=len(bells), job_id=first.id)
    return Items(items=jobs), len(bells)


def _problems(wishes: Sequence[JobRequest]) -> list[tuple[int, str, str]]:
    """What is wrong with which of them: field and remedy. Raises Problem 422 where one stands there twice."""
    now = datetime.now(UTC)
    seen: dict[str, int] = {}
    for n, wish in enumerate(wishes):
        if wish.external_job_id and seen.setdefault(wish.external_job_id, n) != n:
            raise invalid(f"jobs.{n}.external_job_id", "stands in this request twice; send each once")
    found = [wish.problems(SETTINGS.providers, now) for wish in wishes]
    return [(n, field, message) for n, problems in enumerate(found) for field, message in problems]


async def _refuse(
    connection: Connection, wishes: Sequence[JobRequest], problems: list[tuple[int, str, str]], prefix: str
) -> None:
    """Raises Problem 422, but not for jobs that are there: who asks again, perhaps late, is told of them."""
    asked = [wish.external_job_id for wish in wishes if wish.external_job_id]
    there = await store.submitted_before(connection, asked)
    errors = [
        {"field": prefix.format(n=n) + field, "message": message}
        for n, field, message in problems
        if wishes[n].external_job_id not in there
    ]
    if errors:
        detail = "; ".join(f"{error['field']}: {error['message']}" for error in errors[:20])
        raise Problem(422, detail, code="invalid", errors=errors)


async def index(request: Request) -> Response:
    """GET /jobs"""
    await GATE.caller(request, Scope.JOBS_READ)
    part = query(request, JobsQuery)
    filters = part.model_dump(include={"status", "provider", "external_job_id"})
    async with DATABASE.connection() as connection:
        jobs, cursor = await store.page(connection, filters, part.limit, part.cursor)
    return dump(Page(items=jobs, next_cursor=cursor))


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
    return dump(job)


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
    return dump(job)


async def retry(request: Request) -> Response:
    """POST /jobs/{id}:retry"""
    caller = await GATE.caller(request, Scope.JOBS_UPDATE)
    async with DATABASE.connection() as connection:
        traceparent = request.state.traceparent
        new_id, bells = await store.retry(connection, _job_id(request), traceparent=traceparent, created_by=caller)
        job = await store.get(connection, new_id)
    await PUBLISHER.publish(bells)
    return dump(job, 201 if bells else 200, {"Location": f"/jobs/{new_id}"})


async def evidence(request: Request) -> Response:
    """GET /jobs/{id}/evidence/{name}"""
    await GATE.caller(request, Scope.JOBS_READ)
    attempt = query(request, EvidenceQuery).attempt
    return download(DATABASE, await find(DATABASE, _job_id(request), request.path_params["name"], attempt))


async def home(_request: Request) -> Response:
    """GET /"""
    return home_page("submit_job", SETTINGS.k_revision)


JOB = {200: Answer(JobWithHistory)}
AT_JOB = ("Location",)
APPLICATION = application(
    [
        route("GET", "/", home, HOME),
        route(
            "POST",
            "/auth/token",
            token,
            Operation(
                summary="A bearer token for a name and password (RFC 6749, 4.3 and 4.4)",
                description="Programs may send client_id and client_secret as HTTP Basic authentication instead.",
                body=Body(TokenRequest, FORM, FORM_LIMIT),
                answers={200: Answer(Token, headers=("Cache-Control",))},
                refuses=[401, 429],
            ),
        ),
        route(
            "POST",
            "/jobs",
            create,
            Operation(
                summary="Submit a job; the same external_job_id again answers the job that is there, with 200",
                who=Scope.JOBS_CREATE,
                body=Body(JobRequest),
                answers={200: Answer(Job, headers=AT_JOB), 201: Answer(Job, headers=AT_JOB)},
                refuses=[409],
            ),
        ),
        route(
            "GET",
            "/jobs",
            index,
            Operation(summary="Jobs, newest first", who=Scope.JOBS_READ, query=JobsQuery, answers={200: Answer(Page)}),
        ),
        route(
            "POST",
            "/jobs:batch",
            create_batch,
            Operation(
                summary="Submit several jobs, all or none; 200 where all were there before",
                who=Scope.JOBS_CREATE,
                body=Body(BatchRequest),
                answers={200: Answer(Items), 201: Answer(Items)},
                refuses=[409],
            ),
        ),
        route(
            "GET",
            "/jobs/{id:job}",
            get,
            Operation(summary="A job with its history", who=Scope.JOBS_READ, answers=JOB, refuses=[404]),
        ),
        route(
            "PATCH",
            "/jobs/{id:job}",
            change,
            Operation(
                summary="Change a job that is pending",
                who=Scope.JOBS_UPDATE,
                body=Body(JobChange),
                answers={200: Answer(Job)},
                refuses=[404, 409],
            ),
        ),
        route(
            "DELETE",
            "/jobs/{id:job}",
            cancel,
            Operation(summary="Cancel a job, whatever it does", who=Scope.JOBS_UPDATE, answers=JOB, refuses=[404, 409]),
        ),
        route(
            "POST",
            "/jobs/{id:job}:retry",
            retry,
            Operation(
                summary="A new job with the content of one that failed or was cancelled; asked twice, the same one",
                who=Scope.JOBS_UPDATE,
                answers={code: Answer(JobWithHistory, headers=AT_JOB) for code in (200, 201)},
                refuses=[404, 409],
            ),
        ),
        route(
            "GET",
            "/jobs/{id:job}/evidence/{name}",
            evidence,
            Operation(
                summary="A file that a worker left",
                who=Scope.JOBS_READ,
                query=EvidenceQuery,
                answers={200: Answer(media="*/*", headers=("ETag",))},
                refuses=[404],
            ),
        ),
    ],
    ready=DATABASE.ping,
    about=__doc__,
)


@functions_framework.aio.http
async def submit_job(_request: Request) -> Response:
    """The function's entry point."""
    return APPLICATION
