"""What the pages show, as the database and Valkey have it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from urllib.parse import urlencode

from psycopg.rows import dict_row

from functions.monitor import figures
from functions.monitor.dashboard import queries, timeline
from functions.monitor.models import AccountState
from functions.monitor.operators import Operators
from shared.db import Connection, Database
from shared.http import Problem, Unavailable
from shared.jobs import LIVE, TERMINAL, State
from shared.tracing import trace_id

SESSIONS_SHOWN = 50
JOBS_SHOWN = 50
TEXT_SHOWN = 64 * 1024
HOURS = 24


@dataclass(frozen=True, slots=True)
class Wish:
    """Which part of the jobs is asked for."""

    status: str = ""
    provider: str = ""
    search: str = ""
    before: int | None = None
    after: int | None = None

    def filters(self) -> dict[str, str]:
        """What narrows the list."""
        given = {"status": self.status, "provider": self.provider, "search": self.search}
        return {name: value for name, value in given.items() if value}

    def query(self, **more: int) -> str:
        """As a link's query."""
        given = {"q": self.search, "status": self.status, "provider": self.provider, **more}
        return urlencode({name: value for name, value in given.items() if value})


async def overview(database: Database, operators: Operators) -> dict[str, Any]:
    """The first page."""
    providers = await operators.providers()
    longest = max(providers, key=lambda it: it.oldest_waiting_seconds)
    async with database.connection() as connection:
        backlog = await figures.read_backlog(connection)
        under_way = await _rows(connection, queries.UNDER_WAY)
        ended = {row["provider"]: row for row in await _rows(connection, queries.ENDED)}
        hours = {row["hour"]: row for row in await _rows(connection, queries.HOURS)}
        oldest = await _rows(connection, queries.OLDEST, provider=longest.name)
        deadline = await _rows(connection, queries.NEXT_DEADLINE)
        sessions = await _rows(connection, queries.SESSIONS, limit=SESSIONS_SHOWN)
    counts: dict[str, dict[str, int]] = {}
    for row in under_way:
        counts.setdefault(row["provider"], {})[row["state"]] = row["jobs"]
    totals = {state: sum(by.get(state, 0) for by in counts.values()) for state in LIVE}
    return {
        "backlog": backlog,
        "providers": providers,
        "pending": sum(it.pending for it in providers),
        "accounts": await codes(operators),
        "counts": counts,
        "totals": totals,
        "live": sum(totals.values()),
        "ended": ended,
        "day": ended.get(None),
        "hours": [hours.get(hour, {"completed": 0, "other": 0}) for hour in reversed(range(HOURS))],
        "oldest": oldest[0] if oldest else None,
        "deadline": deadline[0] if deadline else None,
        "sessions": sessions,
    }


async def codes(operators: Operators) -> list[AccountState] | None:
    """The accounts; None while Valkey does not answer."""
    try:
        return await operators.accounts()
    except Unavailable:
        return None


async def jobs(database: Database, wish: Wish) -> dict[str, Any]:
    """One page of jobs, newest first, and the ids that the neighbouring pages begin at."""
    values = {**wish.filters(), "before": wish.before, "after": wish.after, "limit": JOBS_SHOWN + 1}
    names = [*wish.filters()]
    if wish.search.isascii() and wish.search.isdecimal() and len(wish.search) <= 18:
        values["number"] = int(wish.search)
        names[names.index("search")] = "number"
    names += [name for name in ("before", "after") if values[name] is not None]
    order: LiteralString = "ASC" if wish.after is not None else "DESC"
    conditions = "".join(queries.CONDITIONS[name] for name in names)
    statement = queries.JOBS + conditions + " ORDER BY id " + order + " LIMIT %(limit)s"
    async with database.connection() as connection:
        rows = await _rows(connection, statement, **values)
    more, found = len(rows) > JOBS_SHOWN, rows[:JOBS_SHOWN]
    if wish.after is not None:
        found.reverse()
    older = bool(found) and (more or wish.after is not None)
    newer = bool(found) and (wish.before is not None or (wish.after is not None and more))
    return {"jobs": found, "older": found[-1]["id"] if older else None, "newer": found[0]["id"] if newer else None}


async def job(database: Database, job_id: int, *, now: datetime) -> dict[str, Any]:
    """A job's page. Raises Problem 404."""
    async with database.connection() as connection:
        found = await _rows(connection, queries.JOB, id=job_id)
        if not found:
            raise Problem(404, f"there is no job {job_id}; it never was or is past its retention", code="unknown_job")
        history = await _rows(connection, queries.HISTORY, id=job_id)
        files = await _rows(connection, queries.EVIDENCE, id=job_id, shown=TEXT_SHOWN)
    (row,) = found
    # Where ORDS is told of jobs, somebody tries at once.
    spans = timeline.spans(history, reports=row["report_attempts"] > 0, now=now)
    return {
        "job": row,
        "ended": State(row["state"]) in TERMINAL,
        "trace": trace_id(row["traceparent"]),
        "pods": _pods(history, row),
        "history": history,
        "spans": spans,
        "attempts": timeline.bars(spans),
        "files": [{**file, "text": _text(file)} for file in files],
    }


def _pods(history: list[dict[str, Any]], job: Mapping[str, Any]) -> list[str]:
    """The browsers that its attempts had: gone since, but logs know them."""
    claims = {row["attempt"]: row["detail"] for row in history if row["event"] == "claimed"}
    names = [detail.get("warm_browser", f"rpa-browser-{job['id']}-{attempt}") for attempt, detail in claims.items()]
    return [*names[:-1], job["browser"] or names[-1]] if names else []


def _text(file: Mapping[str, Any]) -> str | None:
    if file["content"] is None:
        return None
    text = bytes(file["content"]).decode(errors="replace")
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


async def runs(database: Database, job_id: int, attempt: int) -> bool:
    """Whether this attempt of the job runs."""
    async with database.connection() as connection:
        return bool(await _rows(connection, queries.RUNS, id=job_id, attempt=attempt))


async def _rows(connection: Connection, statement: LiteralString, **values: Any) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        return await (await cursor.execute(statement, values)).fetchall()
