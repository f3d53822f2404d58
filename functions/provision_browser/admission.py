"""Admission: which jobs may start now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from functions.provision_browser import queries
from shared.browsers.warm import WARM_SECONDS
from shared.db import ONE_AT_A_TIME, Connection
from shared.jobs import ADMISSION_LOCK
from shared.providers import Provider

UNBOUND = 1000
"""Sessions of an account that has no limit of its own."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """An attempt that has a place and needs a browser."""

    id: int
    attempt: int
    provider: str
    traceparent: str


@dataclass(frozen=True, slots=True)
class Limits:
    """How many sessions may run at once: in all, and at each portal and account."""

    max_workers: int
    providers: Mapping[str, Provider]

    def parameters(self) -> dict[str, object]:
        """For the claim."""
        entries = self.providers.values()
        return {
            "max_workers": self.max_workers,
            "providers": Jsonb(
                [
                    p.model_dump(include={"name", "max_sessions", "browser"}) | {"binds_accounts": p.binds_accounts}
                    for p in entries
                ]
            ),
            "accounts": Jsonb(
                [
                    {"provider": p.name, "name": a.credentials, "max_sessions": a.max_sessions or UNBOUND}
                    for p in entries
                    for a in p.accounts
                ]
            ),
        }


async def claim(connection: Connection, limits: Limits, *, batch: int, lease: float, key_id: str) -> list[Claimed]:
    """Give places to the next jobs, `batch` at most; lease in seconds."""
    values = {**limits.parameters(), "batch": batch, "lease": lease, "key_id": key_id, "warm": WARM_SECONDS}
    async with connection.transaction(), connection.cursor(row_factory=class_row(Claimed)) as cursor:
        # So that limits hold under any concurrency; held for two short statements.
        await cursor.execute(ONE_AT_A_TIME, {"lock": ADMISSION_LOCK})
        return await (await cursor.execute(queries.CLAIM_JOBS, values)).fetchall()


async def begun(connection: Connection, job_id: int, attempt: int) -> Claimed | None:
    """The attempt if somebody claimed it before us and its browser is not ready."""
    async with connection.cursor(row_factory=class_row(Claimed)) as cursor:
        await cursor.execute(queries.BEGUN, {"job_id": job_id, "attempt": attempt})
        return await cursor.fetchone()
