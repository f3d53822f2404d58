"""What browser.ready makes this function do: find a worker that accepts the job."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from functions.dispatch_job import queries
from functions.dispatch_job.workers import Verdict, Workers
from shared import logs, spans
from shared.config import LeaseSettings
from shared.db import Database
from shared.events import Doorbell, Poison, TryLater
from shared.http import Problem
from shared.jobs import State, fail_attempt
from shared.outbox import Publisher
from shared.providers import Provider
from shared.tokens import Attempt, Keyring
from shared.totp import StaleAttempt, TotpIssuer
from shared.tracing import trace_id

UNCLEAR_SECONDS = 60.0
"""How long a worker that gave no clear answer may take to show that it has the job."""
HEARTBEATS_MISSED = 3
TOKEN_MARGIN_SECONDS = 600
BUSY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """An attempt that waits for a worker."""

    id: int
    attempt: int
    provider: str
    action: str
    parameters: dict[str, Any]
    account: str | None
    state: str
    traceparent: str
    handed_over: str | None
    lease_expires_at: datetime | None
    browser: str | None
    address: str | None
    key_id: str | None


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where workers find us, and we them."""

    totp_url: str
    callback_url: str
    worker_urls: tuple[str, ...]


class Handler:
    """Answers browser.ready."""

    def __init__(
        self,
        database: Database,
        publisher: Publisher,
        keyring: Keyring,
        totp: TotpIssuer,
        workers: Workers,
        providers: Mapping[str, Provider],
        addresses: Addresses,
        leases: LeaseSettings,
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._keyring = keyring
        self._totp = totp
        self._providers = providers
        self._addresses = addresses
        self._leases = leases
        self._workers = workers

    async def __call__(self, bell: Doorbell) -> None:
        """Hand the attempt over, once; where it waits no more, another one. Raises Poison or TryLater."""
        job = await self._job(queries.JOB, {"job_id": bell.job_id})
        if job is None:
            raise Poison(f"data.job_id: there is no job {bell.job_id}; it never was or is past its retention")
        if (job.state, job.attempt, job.handed_over) == (State.DISPATCHING, bell.attempt, None):
            await self._hand_over(job)
        # Events that come too late stand before those that would come in time: where they did nothing, a queue that
        # is once longer than a browser waits would never hand over anything again.
        elif other := await self._job(queries.ANY_WAITING, {}):
            logs.bind(job_id=other.id, attempt=other.attempt, trace_id=trace_id(other.traceparent))
            with contextlib.suppress(TryLater):  # its own event is tried again, and reap_idle looks after it
                await self._hand_over(other)

    async def _hand_over(self, job: Waiting) -> None:
        provider = self._providers.get(job.provider)
        if provider is None:
            await self._fail(job, "unknown_provider", f"provider {job.provider} is not configured any more")
            return
        try:
            body = self._order(job)
        except KeyError:
            await self._fail(
                job, "key_retired", "the browser's access key was retired; the next attempt gets a new one"
            )
            return
        await self._offer(job, body, self._candidates(job, provider))

    async def _job(self, statement: LiteralString, values: dict[str, Any]) -> Waiting | None:
        async with (
            self._database.connection() as connection,
            connection.cursor(row_factory=class_row(Waiting)) as cursor,
        ):
            return await (await cursor.execute(statement, values)).fetchone()

    def _candidates(self, job: Waiting, provider: Provider) -> list[str]:
        workers = list(provider.workers or self._addresses.worker_urls)
        first = (job.id + job.attempt) % len(workers) if workers else 0
        return workers[first:] + workers[:first]

    def _order(self, job: Waiting) -> dict[str, Any]:
        attempt = Attempt(job.id, job.attempt, job.provider)
        url = None
        if job.browser and job.address and job.key_id:
            url = f"ws://{job.address}{self._keyring.browser_path(job.browser, job.key_id)}"
        lifetime = timedelta(seconds=self._leases.worker_timeout + TOKEN_MARGIN_SECONDS)
        return {
            "job_id": job.id,
            "attempt": job.attempt,
            "provider": job.provider,
            "action": job.action,
            "parameters": job.parameters,
            "browser_service_url": url,
            "browser_service_id": job.browser,
            "totp_url": self._addresses.totp_url,
            "orchestrator_callback": self._addresses.callback_url,
            "token": self._keyring.issue_worker(attempt, lifetime),
            "account": job.account,
        }

    async def _offer(self, job: Waiting, body: dict[str, Any], workers: list[str]) -> None:
        for worker in workers:
            if await self._workers.available(worker):
                given = await self._give(job, body, worker)
                if given is not Verdict.REFUSED:
                    return
        raise TryLater(BUSY_SECONDS, "no worker takes the job now")

    async def _give(self, job: Waiting, body: dict[str, Any], worker: str) -> Verdict:
        if not await self._move(queries.HAND_OVER, job, worker, UNCLEAR_SECONDS + self._longest_login(job)):
            return Verdict.UNKNOWN  # somebody was faster
        order = await self._with_code(job, body, worker)
        with spans.span("dispatch", "client", job.traceparent, job_id=job.id, attempt=job.attempt) as span:
            reply = await self._workers.execute(worker, order, span.traceparent)
            span.note(provider=job.provider, worker=worker, verdict=reply.verdict.name.lower())
        if reply.verdict is Verdict.ACCEPTED:
            await self._accepted(job, worker, reply.heartbeat_seconds)
        elif reply.verdict is Verdict.REFUSED:
            await self._refused(job, worker)
        return reply.verdict

    async def _refused(self, job: Waiting, worker: str) -> None:
        values = {"job_id": job.id, "attempt": job.attempt, "worker": worker, "until": job.lease_expires_at}
        async with self._database.connection() as connection:
            await connection.execute(queries.REFUSED, values)

    def _longest_login(self, job: Waiting) -> float:
        at_dispatch = self._providers[job.provider].totp == "at_dispatch"
        return self._totp.longest_seconds if at_dispatch else 0.0

    async def _with_code(self, job: Waiting, body: dict[str, Any], worker: str) -> dict[str, Any]:
        provider = self._providers[job.provider]
        if provider.totp != "at_dispatch":
            return body
        try:
            code = await self._totp.issue(provider, Attempt(job.id, job.attempt, job.provider))
        except StaleAttempt:
            raise TryLater(BUSY_SECONDS, "the attempt ended while its code was waited for") from None
        except Problem as problem:
            await self._move(queries.TAKE_BACK, job, worker, self._leases.idle_seconds)
            raise TryLater(float(problem.headers.get("Retry-After", BUSY_SECONDS)), problem.detail) from None
        return {**body, "totp_code": code.code, "account": code.account}

    async def _move(self, statement: str, job: Waiting, worker: str, lease: float) -> bool:
        values = {"job_id": job.id, "attempt": job.attempt, "worker": worker, "lease": lease}
        async with self._database.connection() as connection:
            return await (await connection.execute(statement, values)).fetchone() is not None

    async def _accepted(self, job: Waiting, worker: str, heartbeat_seconds: float | None) -> None:
        # A worker that promises heartbeats is missed soon; one that does not gets its whole time.
        lease = self._leases.worker_timeout
        if heartbeat_seconds:
            lease = min(lease, max(self._leases.heartbeat_timeout, int(HEARTBEATS_MISSED * heartbeat_seconds)))
        values = {"job_id": job.id, "attempt": job.attempt, "worker": worker, "lease": lease}
        async with self._database.connection() as connection:
            await connection.execute(queries.ACCEPTED, {**values, "detail": Jsonb({"worker": worker})})
        logs.info("accepted", worker=worker, provider=job.provider)

    async def _fail(self, job: Waiting, code: str, message: str) -> None:
        async with self._database.connection() as connection:
            states = [State.DISPATCHING]
            bell = await fail_attempt(connection, job.id, job.attempt, states, code, message, self._leases)
        if bell:
            await self._publisher.publish([bell])
