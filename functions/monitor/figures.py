"""Figures for people, Prometheus and Oracle."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row

from functions.monitor import queries
from shared.db import Connection
from shared.providers import Provider


async def read_figures(connection: Connection) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Jobs by provider and state; backlogs."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        jobs = await (await cursor.execute(queries.JOBS)).fetchall()
    return jobs, await read_backlog(connection)


async def read_backlog(connection: Connection) -> dict[str, Any]:
    """What should be empty or young."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        return await (await cursor.execute(queries.BACKLOG)).fetchone() or {}


async def read_counted(connection: Connection) -> tuple[list[dict[str, Any]], float]:
    """What was counted and timed since the beginning; for how many seconds ORDS has waited for the oldest report."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        counted = await (await cursor.execute(queries.FIGURES)).fetchall()
    oldest = await (await connection.execute(queries.OLDEST_REPORT)).fetchone()
    return counted, oldest[0] if oldest else 0.0


async def read_browsers(connection: Connection, limit: int, after: str) -> tuple[list[dict[str, Any]], str | None]:
    """One page of browsers with the attempts that they belong to, and the cursor of the next."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        rows = await (await cursor.execute(queries.BROWSERS, {"limit": limit + 1, "after": after})).fetchall()
    items = [{k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()} for row in rows[:limit]]
    return items, items[-1]["name"] if len(rows) > limit else None


def status(providers: Iterable[Provider], jobs: list[dict[str, Any]], backlog: dict[str, Any]) -> dict[str, Any]:
    """What GET /status answers."""
    return {
        "providers": [_provider(provider, jobs) for provider in providers],
        "jobs": _sums(jobs),
        **backlog,
    }


def _provider(provider: Provider, jobs: list[dict[str, Any]]) -> dict[str, Any]:
    mine = [row for row in jobs if row["provider"] == provider.name]
    return {
        "name": provider.name,
        "actions": list(provider.actions),
        "browser": provider.browser,
        "totp": provider.totp,
        "max_sessions": provider.max_sessions,
        "jobs": _sums(mine),
    }


def _sums(jobs: list[dict[str, Any]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for row in jobs:
        sums[row["state"]] = sums.get(row["state"], 0) + row["jobs"]
    return sums
