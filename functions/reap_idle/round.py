"""One round of reaping. Every step is guarded, so that rounds may overlap."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from functions.reap_idle import late, queries
from functions.reap_idle.again import Again
from functions.reap_idle.reconcile import Reconciled, reconcile_if_possible
from shared import logs
from shared.browsers import Browsers
from shared.browsers.warm import WarmPool
from shared.config import LeaseSettings
from shared.db import Connection, Database
from shared.events import Doorbell
from shared.outbox import Publisher

PAGE = 1000
OBSERVATIONS = 50_000
"""What a round adds up at most: a second's work."""


class Reaper:
    """Answers the tick."""

    def __init__(
        self,
        database: Database,
        browsers: Browsers,
        pool: WarmPool,
        publisher: Publisher,
        leases: LeaseSettings,
        *,
        providers: Sequence[str],
        reports: bool,
        retention_days: int,
    ) -> None:
        self._database = database
        self._browsers = browsers
        self._pool = pool
        self._publisher = publisher
        self._leases = leases
        self._providers = providers
        self._reports = reports
        self._retention_days = retention_days
        self._one_at_a_time = asyncio.Lock()
        self._begun = 0
        self._again = Again()

    async def __call__(self) -> None:
        """Reap. A round that begins after this call will do: however many ticks come at once, two rounds do for all."""
        wanted = self._begun + 1
        async with self._one_at_a_time:
            if self._begun >= wanted:
                return
            self._begun = wanted
            reconciled = await self._round()
        # A browser that takes its time to start must not keep the next round waiting.
        if reconciled:
            await self._pool.refill()

    async def _round(self) -> bool:
        async with self._database.connection() as connection:
            expired = await late.expire(connection, self._leases)
            missed = await late.miss_deadlines(connection, self._leases)
            browsers = await reconcile_if_possible(connection, self._browsers, self._pool, self._leases)
            unsent = await late.unsent(connection)
            forgotten = await late.forgotten(connection, self._providers, self._again, reports=self._reports)
            await self._forget(connection)
            await self._add_up(connection, browsers)
        lost = browsers.lost if browsers else []
        await self._publisher.publish(_once([*expired, *missed, *lost, *unsent, *forgotten]))
        logs.info(
            "reaped",
            expired=len(expired),
            deadlines_missed=len(missed),
            browsers_deleted=browsers.deleted if browsers else None,
            orphans=browsers.orphans if browsers else None,
            browsers_lost=len(lost),
            events_sent_late=len(unsent),
            events_sent_again=len(forgotten),
        )
        return browsers is not None

    async def _add_up(self, connection: Connection, browsers: Reconciled | None) -> None:
        orphans, left_over = (browsers.orphans, browsers.deleted) if browsers else (0, 0)
        await connection.execute(queries.FOUND, {"orphans": orphans, "left_over": left_over})
        await connection.execute(queries.ADD_UP, {"limit": OBSERVATIONS})

    async def _forget(self, connection: Connection) -> None:
        days = self._retention_days
        await connection.execute(queries.FORGET_JOBS, {"days": days, "reports": self._reports, "limit": PAGE})
        await connection.execute(queries.FORGET_DEAD_LETTERS, {"days": days})
        await connection.execute(queries.FORGET_STEPS)


def _once(bells: Sequence[Doorbell]) -> list[Doorbell]:
    return list({bell.id: bell for bell in bells}.values())
