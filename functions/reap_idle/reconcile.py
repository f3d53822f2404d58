"""Browsers that should exist against browsers that do, both ways."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from functions.reap_idle import queries
from functions.reap_idle.warm import SETTLED_SECONDS, read_warm, tend
from shared import logs
from shared.browsers import Browser, Browsers, BrowsersUnavailable, Phase
from shared.browsers.rows import FORGET_BROWSER
from shared.browsers.warm import WarmPool
from shared.config import LeaseSettings
from shared.db import Connection
from shared.events import Doorbell
from shared.jobs import State, fail_attempt

PAGE = 200
DELETIONS_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What was found and mended."""

    deleted: int
    """Browsers whose attempt is over."""
    orphans: int
    """Browsers that nothing in the database asked for."""
    lost: list[Doorbell]
    """Attempts that lost their browser: the events to publish."""


async def reconcile(connection: Connection, browsers: Browsers, pool: WarmPool, leases: LeaseSettings) -> Reconciled:
    """Delete what should not exist, fail what lost its browser. Raises BrowsersUnavailable."""
    deleted = await _left_over(connection, browsers)
    warm = await read_warm(connection)
    # Read before listing: what becomes ready in between is in neither and is seen at the next tick.
    expected = await (await connection.execute(queries.SHOULD_EXIST, {"older": SETTLED_SECONDS})).fetchall()
    existing = {browser.name: browser async for browser in browsers.list()}
    orphans = await _orphans(connection, browsers, list(existing))
    await tend(connection, pool, warm, existing, leases)
    lost = []
    for name, job_id, attempt in expected:
        bell = await _check(connection, existing.get(name), job_id, attempt, leases)
        if bell:
            lost.append(bell)
    return Reconciled(deleted, orphans, lost)


async def _left_over(connection: Connection, browsers: Browsers) -> int:
    rows = await (await connection.execute(queries.LEFT_OVER, {"limit": PAGE})).fetchall()
    names = [name for (name,) in rows]
    await _delete(browsers, names)
    for name in names:
        await connection.execute(FORGET_BROWSER, {"name": name})
    return len(rows)


async def _orphans(connection: Connection, browsers: Browsers, names: list[str]) -> int:
    # A browser's row comes before it and goes after it: without one it belongs to nobody.
    rows = await (await connection.execute(queries.EXPECTED, {"names": names})).fetchall()
    orphans = set(names) - {row[0] for row in rows}
    for name in sorted(orphans):
        logs.warning("orphaned browser deleted", browser=name)
    await _delete(browsers, orphans)
    return len(orphans)


async def _delete(browsers: Browsers, names: Collection[str]) -> None:
    """Delete all, a few at once. Raises BrowsersUnavailable once every one was tried."""
    places = asyncio.Semaphore(DELETIONS_AT_ONCE)

    async def delete(name: str) -> None:
        async with places:
            await browsers.delete(name)

    for outcome in await asyncio.gather(*map(delete, names), return_exceptions=True):
        if outcome:
            raise outcome


async def _check(
    connection: Connection, browser: Browser | None, job_id: int, attempt: int, leases: LeaseSettings
) -> Doorbell | None:
    if browser is not None and browser.phase is not Phase.FAILED:
        return None
    reason = browser.reason if browser and browser.reason else "the browser is gone"
    logs.warning("browser lost", job_id=job_id, attempt=attempt, reason=reason)
    states = [State.DISPATCHING, State.RUNNING]
    return await fail_attempt(connection, job_id, attempt, states, "browser_lost", reason, leases)


async def reconcile_if_possible(
    connection: Connection, browsers: Browsers, pool: WarmPool, leases: LeaseSettings
) -> Reconciled | None:
    """Reconcile, or None while the place that runs browsers does not answer."""
    try:
        return await reconcile(connection, browsers, pool, leases)
    except BrowsersUnavailable as unavailable:
        logs.warning("browsers not reconciled", reason=unavailable.reason)
        return None
