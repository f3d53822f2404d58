"""Tending the warm pool: what is dead, too old or too many goes; what got ready unseen is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from psycopg.rows import class_row

from functions.reap_idle import queries
from shared import logs
from shared.browsers import Browser, Phase
from shared.browsers.warm import WARM, WARM_SECONDS, WarmPool
from shared.config import LeaseSettings
from shared.db import Connection

START_MARGIN_SECONDS = 30.0
"""Whoever starts a browser gives it up by itself after BROWSER_START_TIMEOUT; later than this, that one is dead."""
SETTLED_SECONDS = 5.0
"""A browser that the database knows for less than this may not be listed yet."""


@dataclass(frozen=True, slots=True)
class Warm:
    """A row of the pool; age in seconds."""

    name: str
    ready: bool
    age: float


async def read_warm(connection: Connection) -> list[Warm]:
    """The pool's rows, the youngest first."""
    async with connection.cursor(row_factory=class_row(Warm)) as cursor:
        return await (await cursor.execute(queries.WARM)).fetchall()


async def tend(
    connection: Connection,
    pool: WarmPool,
    rows: Sequence[Warm],
    existing: Mapping[str, Browser],
    leases: LeaseSettings,
) -> None:
    """Mend the pool, given its rows and the browsers that existed after they were read."""
    for row in rows:
        browser = existing.get(row.name)
        if browser and browser.phase is Phase.READY and not row.ready:
            await connection.execute(WARM, {"name": row.name, "address": browser.address})
    start = leases.browser_start_timeout + START_MARGIN_SECONDS
    for name, reason in to_give_up(rows, existing, pool.wanted(), start):
        logs.info("warm browser given up", browser=name, reason=reason)
        await pool.give_up(name)


def to_give_up(
    rows: Sequence[Warm], existing: Mapping[str, Browser], wanted: int, start_seconds: float
) -> Iterator[tuple[str, str]]:
    """Names and reasons; of those that are well the youngest stay."""
    well = 0
    for row in rows:
        if reason := _ailment(row, existing.get(row.name), start_seconds):
            yield row.name, reason
        elif well >= wanted:
            yield row.name, "more than are wanted at this hour"
        else:
            well += 1


def _ailment(row: Warm, browser: Browser | None, start_seconds: float) -> str | None:
    if row.age > WARM_SECONDS:
        return "too old"
    if browser is None:
        return "gone" if row.age > SETTLED_SECONDS else None
    if browser.phase is Phase.FAILED:
        return browser.reason or "failed"
    if browser.phase is Phase.STARTING and row.age > start_seconds:
        return "not ready in time"
    return None
