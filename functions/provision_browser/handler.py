"""What an event makes this function do: release what is over, claim what may start, bring up browsers."""

from __future__ import annotations

import asyncio

from functions.provision_browser import queries
from functions.provision_browser.admission import Claimed, Limits, begun, claim
from functions.provision_browser.bring_up import LEASE_SECONDS, BringUp, release
from shared import logs
from shared.browsers import Browsers
from shared.browsers.warm import WarmPool
from shared.db import Database
from shared.events import Doorbell, Poison, TryLater, Type
from shared.jobs import State
from shared.outbox import Publisher

SOON_SECONDS = 20.0
"""A retry due within this is waited for by redelivery; a later one by reap_idle."""


class Handler:
    """Answers job.submitted and job.finished."""

    def __init__(
        self,
        database: Database,
        browsers: Browsers,
        publisher: Publisher,
        bring_up: BringUp,
        pool: WarmPool,
        limits: Limits,
        *,
        batch: int,
        key_id: str,
    ) -> None:
        self._database = database
        self._browsers = browsers
        self._publisher = publisher
        self._bring_up = bring_up
        self._pool = pool
        self._limits = limits
        self._batch = batch
        self._key_id = key_id

    async def __call__(self, bell: Doorbell) -> None:
        """Release, admit, bring up, refill the warm pool. Raises Poison or TryLater."""
        wait = await self._seconds_until_due(bell)
        await release(self._database, self._browsers, bell.job_id)
        jobs = await self._admit(bell)
        await asyncio.gather(*(self._start(job) for job in jobs))
        if jobs:
            await self._pool.refill()
        if 0 < wait <= SOON_SECONDS:
            raise TryLater(wait, "the job is due soon")

    async def _seconds_until_due(self, bell: Doorbell) -> float:
        async with self._database.connection() as connection:
            row = await (await connection.execute(queries.STANDING, {"job_id": bell.job_id})).fetchone()
        if row is None:
            raise Poison(f"data.job_id: there is no job {bell.job_id}; it never was or is past its retention")
        state, attempt, seconds = row
        waits = bell.type is Type.JOB_SUBMITTED and state == State.PENDING and attempt == bell.attempt
        return float(seconds) if waits else 0.0

    async def _admit(self, bell: Doorbell) -> list[Claimed]:
        async with self._database.connection() as connection:
            resumed = await begun(connection, bell.job_id, bell.attempt)
            claimed = await claim(connection, self._limits, batch=self._batch, lease=LEASE_SECONDS, key_id=self._key_id)
        for job in claimed:
            logs.info("claimed", job_id=job.id, attempt=job.attempt, provider=job.provider)
        return [*claimed, resumed] if resumed else claimed

    async def _start(self, job: Claimed) -> None:
        provider = self._limits.providers.get(job.provider)
        logs.bind(job_id=job.id, attempt=job.attempt)
        bell = await self._bring_up(job, browser=provider.browser if provider else True)
        if bell:
            await self._publisher.publish([bell])
