"""How attempts end: the wait before the next one, and races for the end."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from shared.config import LeaseSettings
from shared.jobs import LIVE, Ending, Failure, Kind, State, end_attempt

BROKE = Failure(Kind.APPLICATION, "broke", "it broke")
LEASES = LeaseSettings(environment={}, retry_backoff=10, retry_backoff_max=100)
RUNNING = """
INSERT INTO jobs (content_digest, provider, action, parameters, priority, max_retries, traceparent, created_by, state,
    attempt, worker, claimed_at, lease_expires_at, account)
VALUES ('', 'p', 'a', '{}', 5, 20, '', 'test', 'running', %s, 'w', now(), now() + interval '1 hour', 'A') RETURNING id
"""
WAIT = "SELECT extract(epoch FROM run_after - now())::float FROM jobs WHERE id = %s"
Connection = psycopg.AsyncConnection[Any]


async def one(connection: Connection, statement: str, *values: Any) -> Any:
    row = await (await connection.execute(statement, values)).fetchone()
    assert row
    return row[0]


@pytest.mark.parametrize(("attempt", "longest"), [(1, 10), (2, 20), (3, 40), (4, 80), (5, 100), (20, 100)])
async def test_retries_wait_longer_each_time(connection: Connection, attempt: int, longest: int) -> None:
    """Twice as long for each attempt up to a limit, spread over the second half, so that many do not come at once."""
    waits = []
    for _ in range(20):
        job_id = await one(connection, RUNNING, attempt)
        ended = await end_attempt(connection, Ending(job_id, attempt, State.FAILED, "failed", failure=BROKE), LEASES)
        assert ended
        assert (ended[0], ended[1].attempt) == (State.PENDING, attempt + 1)
        waits.append(await one(connection, WAIT, job_id))
    assert longest / 2 - 1 <= min(waits) <= max(waits) <= longest
    assert max(waits) - min(waits) > longest / 10


async def test_the_next_attempt_starts_from_nothing(connection: Connection) -> None:
    """Account and worker of the attempt before are not the next one's."""
    job_id = await one(connection, RUNNING, 1)
    await end_attempt(connection, Ending(job_id, 1, State.FAILED, "failed", failure=BROKE), LEASES)
    row = await (await connection.execute("SELECT account, worker, lease_expires_at, error FROM jobs")).fetchone()
    assert row == (None, None, None, BROKE.json())


async def test_an_attempt_ends_once(connection: Connection, module_url: str) -> None:
    """Of many who end an attempt at once one does, and one event is written."""
    job_id = await one(connection, RUNNING, 1)
    endings = [
        Ending(job_id, 1, State.COMPLETED, "completed", result={"n": 1}),
        Ending(job_id, 1, State.CANCELLED, "cancelled"),
        Ending(job_id, 1, State.FAILED, "failed", failure=BROKE),
        Ending(job_id, 1, State.FAILED, "deadline_missed", failure=BROKE, final=True),
    ]

    async def end(ending: Ending) -> object:
        async with await psycopg.AsyncConnection.connect(module_url, autocommit=True) as own:
            return await end_attempt(own, ending, LEASES)

    answers = await asyncio.gather(*(end(ending) for ending in endings * 3))
    assert len([answer for answer in answers if answer]) == 1
    assert await one(connection, "SELECT count(*) FROM outbox") == 1
    assert await one(connection, "SELECT count(*) FROM history") == 1


@pytest.mark.parametrize(
    "ending",
    [
        {"attempt": 2},
        {"job_id": 10**12},
        {"states": [State.PENDING]},
        {"only_expired": True},
    ],
    ids=str,
)
async def test_an_ending_that_does_not_fit_changes_nothing(connection: Connection, ending: dict[str, Any]) -> None:
    """Another attempt, another state, a lease that has not run out: None."""
    job_id = await one(connection, RUNNING, 1)
    values = {"job_id": job_id, "attempt": 1, "outcome": State.FAILED, "event": "failed", "states": LIVE, **ending}
    assert await end_attempt(connection, Ending(**values, failure=BROKE), LEASES) is None
    assert await one(connection, "SELECT state FROM jobs") == "running"
    assert await one(connection, "SELECT count(*) FROM history") == 0
