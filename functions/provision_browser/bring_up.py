"""From a claimed attempt to a ready browser, or to the reason why there is none."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import LiteralString

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from functions.provision_browser import queries
from functions.provision_browser.admission import Claimed
from shared import logs, spans
from shared.browsers import BrowserFailed, Browsers, BrowserSpec, BrowsersUnavailable
from shared.browsers.rows import FORGET_BROWSER
from shared.config import LeaseSettings
from shared.db import UNAVAILABLE, Database
from shared.events import Doorbell, Type
from shared.jobs import State, fail_attempt
from shared.tokens import Keyring

LEASE_SECONDS = 30.0
"""How long a claim outlives the one who made it; renewed while the browser starts."""
NO_ROOM_SECONDS = 10.0
WARM_ANSWER_SECONDS = 2.0
"""A warm browser is ready, or it is not worth waiting for."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The browser that the claim chose."""

    name: str
    key_id: str
    warm: bool


class BringUp:
    """Brings up browsers for claimed attempts."""

    def __init__(self, database: Database, browsers: Browsers, keyring: Keyring, leases: LeaseSettings) -> None:
        self._database = database
        self._browsers = browsers
        self._keyring = keyring
        self._leases = leases

    async def __call__(self, job: Claimed, *, browser: bool) -> Doorbell | None:
        """The event to publish: ready, tried again, or failed. None where somebody was faster."""
        try:
            address = await self._start(job) if browser else None
        except BrowserFailed as failed:
            logs.warning("browser failed", job_id=job.id, attempt=job.attempt, reason=failed.reason)
            return await self._fail(job, failed.reason)
        except BrowsersUnavailable as unavailable:
            logs.warning("no room for a browser", job_id=job.id, attempt=job.attempt, reason=unavailable.reason)
            return await self._give_back(job, unavailable.reason)
        return await self._ready(job, address)

    async def _start(self, job: Claimed) -> str | None:
        with spans.span(
            "start a browser", "internal", job.traceparent, job_id=job.id, attempt=job.attempt, provider=job.provider
        ) as span:
            chosen = await self._chosen(queries.BROWSER_OF, job)
            if chosen:
                span.note(browser=chosen.name, warm=chosen.warm)
            return await self._address(job, chosen)

    async def _address(self, job: Claimed, chosen: Chosen | None) -> str | None:
        if chosen and chosen.warm:
            try:
                return (await self._browsers.wait_ready(chosen.name, timeout=WARM_ANSWER_SECONDS)).address
            except BrowserFailed as failed:
                logs.warning("warm browser lost", browser=chosen.name, reason=failed.reason)
                chosen = await self._chosen(queries.REPLACE, job)
        return await self._start_own(job, chosen) if chosen else None  # none: the attempt is over

    async def _chosen(self, statement: LiteralString, job: Claimed) -> Chosen | None:
        values = {"job_id": job.id, "attempt": job.attempt, "key_id": self._keyring.current}
        async with (
            self._database.connection() as connection,
            connection.cursor(row_factory=class_row(Chosen)) as cursor,
        ):
            return await (await cursor.execute(statement, values)).fetchone()

    async def _start_own(self, job: Claimed, chosen: Chosen) -> str | None:
        path = self._keyring.browser_path(chosen.name, chosen.key_id)
        spec = BrowserSpec(chosen.name, path, self._leases.browser_lifetime, job.id, job.attempt)
        async with self._kept_alive(job):
            await self._browsers.create(spec)
            timeout = self._leases.browser_start_timeout
            return (await self._browsers.wait_ready(chosen.name, timeout=timeout)).address

    @asynccontextmanager
    async def _kept_alive(self, job: Claimed) -> AsyncIterator[None]:
        async def renew() -> None:
            while True:
                await asyncio.sleep(LEASE_SECONDS / 3)
                values = {"job_id": job.id, "attempt": job.attempt, "lease": LEASE_SECONDS}
                try:
                    async with self._database.connection() as connection:
                        await connection.execute(queries.KEEP_LEASE, values)
                except UNAVAILABLE:
                    logs.warning("lease not renewed", job_id=job.id, reason="the database does not answer")

        renewal = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewal.cancel()

    async def _ready(self, job: Claimed, address: str | None) -> Doorbell | None:
        values = {
            "job_id": job.id,
            "attempt": job.attempt,
            "address": address,
            "lease": self._leases.idle_seconds,
        }
        async with self._database.connection() as connection:
            row = await (await connection.execute(queries.READY, values)).fetchone()
        return Doorbell(Type.BROWSER_READY, job.id, job.attempt, row[0]) if row else None

    async def _fail(self, job: Claimed, reason: str) -> Doorbell | None:
        async with self._database.connection() as connection:
            return await fail_attempt(
                connection, job.id, job.attempt, [State.PROVISIONING], "browser_failed", reason, self._leases
            )

    async def _give_back(self, job: Claimed, reason: str) -> Doorbell | None:
        wait = NO_ROOM_SECONDS * random.uniform(0.5, 1.5)  # noqa: S311 (spreads the load, guards nothing)
        values = {
            "job_id": job.id,
            "attempt": job.attempt,
            "wait": wait,
            "detail": Jsonb({"reason": reason[:500]}),
        }
        async with self._database.connection() as connection:
            row = await (await connection.execute(queries.GIVE_BACK, values)).fetchone()
        return Doorbell(Type.JOB_SUBMITTED, job.id, job.attempt, row[0]) if row else None


async def release(database: Database, browsers: Browsers, job_id: int) -> None:
    """Delete the browsers of a job's ended attempts; what cannot be deleted now is left to reap_idle."""
    async with database.connection() as connection:
        cursor = await connection.execute(queries.LEFT_OVER, {"job_id": job_id})
        names = [str(row[0]) for row in await cursor.fetchall()]
    for name in names:
        try:
            await browsers.delete(name)
        except BrowsersUnavailable as unavailable:
            logs.warning("browser not deleted", browser=name, reason=unavailable.reason)
            continue
        async with database.connection() as connection:
            await connection.execute(FORGET_BROWSER, {"name": name})
