"""What a function's pod sees of the stores: do they answer, is the schema whole, do their clocks agree with ours."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import psycopg

from functions.monitor import queries
from shared.config import DatabaseSettings
from shared.db import NOT_MIGRATED, Connection, address
from shared.http import Unavailable
from shared.migrate import names
from shared.valkey_client import Valkey

# A script, for a cluster's client sends TIME to every node. KEYS: any.
VALKEY_CLOCK = "return redis.call('TIME')"
CONNECT_SECONDS = 5
REASON_LENGTH = 300


async def diagnose(settings: DatabaseSettings, valkey: Valkey) -> dict[str, Any]:
    """What is wrong with each part, or None; `clocks` are seconds by which a store's is ahead of ours."""
    database = await _database(settings)
    return {
        "checked_at": datetime.now(UTC).isoformat(),
        "database": database.get("problem"),
        "missing_migrations": database.get("missing"),
        **(await _valkey(valkey, database.get("ahead"))),
    }


async def _database(settings: DatabaseSettings) -> dict[str, Any]:
    # A connection of its own: a pool would only say that it waited in vain.
    url = address(settings.database_url.get_secret_value())
    try:
        async with await psycopg.AsyncConnection.connect(
            url, autocommit=True, connect_timeout=CONNECT_SECONDS, options="-c statement_timeout=5s"
        ) as connection:
            ahead = await _ahead(lambda: _database_clock(connection))
            return {"ahead": ahead, "missing": await _missing(connection)}
    except psycopg.OperationalError as error:
        return {"problem": _reason(error)}


async def _database_clock(connection: Connection) -> float:
    row = await (await connection.execute(queries.CLOCK)).fetchone()
    return float(row[0].timestamp()) if row else 0.0


async def _missing(connection: Connection) -> list[str]:
    try:
        applied = {row[0] for row in await (await connection.execute(queries.MIGRATIONS)).fetchall()}
    except NOT_MIGRATED:
        applied = set()
    return [name for name in names() if name not in applied]


async def _valkey(valkey: Valkey, database_ahead: float | None) -> dict[str, Any]:
    try:
        await valkey.ping()  # the first command also connects, which must not count as a clock's error
        ahead = await _ahead(lambda: _valkey_clock(valkey))
    except Unavailable as error:
        return {"valkey": _reason(error.__cause__ or error), "clocks": {"database": database_ahead, "valkey": None}}
    return {"valkey": None, "clocks": {"database": database_ahead, "valkey": ahead}}


async def _valkey_clock(valkey: Valkey) -> float:
    seconds, microseconds = await valkey.script(VALKEY_CLOCK, ["rpa:clock"], [])
    return int(seconds) + int(microseconds) / 1e6


async def _ahead(clock: Callable[[], Awaitable[float]]) -> float:
    before = time.time()
    theirs = await clock()
    return round(theirs - (before + time.time()) / 2, 3)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:REASON_LENGTH] or type(error).__name__
