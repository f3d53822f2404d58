"""Figures for people, Prometheus and Oracle."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
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


class _Snapshot(Collector):
    def __init__(self, jobs: list[dict[str, Any]], backlog: dict[str, Any]) -> None:
        self._jobs = jobs
        self._backlog = backlog

    def collect(self) -> Iterable[Metric]:
        counts = GaugeMetricFamily("rpa_jobs", "Jobs kept, by provider and state.", labels=["provider", "state"])
        oldest = GaugeMetricFamily(
            "rpa_oldest_waiting_seconds", "How long the oldest due job has waited.", labels=["provider"]
        )
        for row in self._jobs:
            counts.add_metric([row["provider"], row["state"]], row["jobs"])
            if row["state"] == "pending":
                oldest.add_metric([row["provider"]], row["oldest_waiting_seconds"])
        yield counts
        yield oldest
        for name, value in self._backlog.items():
            yield GaugeMetricFamily(f"rpa_{name}", f"{name.replace('_', ' ').capitalize()}.", value=value)


def exposition(jobs: list[dict[str, Any]], backlog: dict[str, Any]) -> bytes:
    """The figures in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Snapshot(jobs, backlog))
    return generate_latest(registry)
