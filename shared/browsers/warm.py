"""The warm pool: browsers started before anybody needs them, each for the first attempt that claims it.

A warm browser is a row without an attempt. Admission gives it one (`CLAIM_JOBS`), atomically, and from then on
it is that attempt's own browser, deleted with it like any other.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import LiteralString

from shared import logs
from shared.browsers import BrowserError, Browsers, BrowserSpec, BrowsersUnavailable
from shared.config import LeaseSettings, WarmPoolSettings
from shared.db import ONE_AT_A_TIME, Connection, Database
from shared.tokens import Keyring

WARM_SECONDS = 3600
"""A warm browser older than this is replaced: browsers grow, and its pod's lifetime must outlast an attempt."""
POOL_LOCK = 0x5250_4103

# Name what is missing. A row comes before its browser, so that a browser without a row belongs to nobody.
NAME_MISSING: LiteralString = """
INSERT INTO browsers (name, key_id)
SELECT 'rpa-browser-warm-' || left(replace(gen_random_uuid()::text, '-', ''), 12), %(key_id)s
FROM generate_series(1, %(wanted)s - (SELECT count(*) FROM browsers
    WHERE job_id IS NULL AND created_at > now() - make_interval(secs => %(warm)s)))
RETURNING name
"""

# It is ready: whoever is admitted next may have it.
WARM: LiteralString = """
UPDATE browsers SET address = %(address)s, ready_at = now()
WHERE name = %(name)s AND job_id IS NULL AND ready_at IS NULL
"""

# Take a browser out of the pool, unless an attempt has claimed it.
GIVE_UP: LiteralString = "DELETE FROM browsers WHERE name = %(name)s AND job_id IS NULL RETURNING name"


class WarmPool:
    """Keeps as many warm browsers as are wanted at this hour."""

    def __init__(
        self, database: Database, browsers: Browsers, keyring: Keyring, leases: LeaseSettings, pool: WarmPoolSettings
    ) -> None:
        self._database = database
        self._browsers = browsers
        self._keyring = keyring
        self._leases = leases
        self._pool = pool

    def wanted(self) -> int:
        """How many there should be now."""
        return self._pool.wanted_warm(datetime.now(UTC))

    async def refill(self) -> None:
        """Start what is missing and wait until it is ready; what fails is tried again at the next refill."""
        if wanted := self.wanted():
            async with self._database.connection() as connection:
                names = await self._name_missing(connection, wanted)
            await asyncio.gather(*(self._start(name) for name in names))

    async def _name_missing(self, connection: Connection, wanted: int) -> list[str]:
        values = {"wanted": wanted, "warm": WARM_SECONDS, "key_id": self._keyring.current}
        async with connection.transaction():
            await connection.execute(ONE_AT_A_TIME, {"lock": POOL_LOCK})
            return [row[0] for row in await (await connection.execute(NAME_MISSING, values)).fetchall()]

    async def _start(self, name: str) -> None:
        path = self._keyring.browser_path(name, self._keyring.current)
        lifetime = WARM_SECONDS + self._leases.browser_lifetime
        try:
            await self._browsers.create(BrowserSpec(name, path, lifetime, None, None))
            browser = await self._browsers.wait_ready(name, timeout=self._leases.browser_start_timeout)
        except BrowserError as error:
            logs.warning("no warm browser", browser=name, reason=error.reason)
            await self.give_up(name)
            return
        async with self._database.connection() as connection:
            await connection.execute(WARM, {"name": name, "address": browser.address})

    async def give_up(self, name: str) -> None:
        """End a warm browser that no attempt has claimed; one that cannot be deleted now is an orphan from now on."""
        async with self._database.connection() as connection:
            given_up = await (await connection.execute(GIVE_UP, {"name": name})).fetchone()
        if given_up:
            try:
                await self._browsers.delete(name)
            except BrowsersUnavailable as unavailable:
                logs.warning("browser not deleted", browser=name, reason=unavailable.reason)
