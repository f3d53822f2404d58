"""What is late: expired leases, missed deadlines, events that were lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString

from psycopg.rows import args_row

from functions.reap_idle import queries
from functions.reap_idle.again import Again
from shared.config import LeaseSettings
from shared.db import Connection
from shared.events import Doorbell, Type
from shared.jobs import LIVE, Ending, Failure, Kind, State, end_attempt

PAGE = 200
LOST_SECONDS = 5.0
"""Older than this, an event is taken for lost."""


def _silence(state: State, worker: str | None) -> Failure:
    match state:
        case State.PROVISIONING:
            return Failure(Kind.APPLICATION, "browser_late", "the browser was not ready in time")
        case State.DISPATCHING if worker is None:
            return Failure(Kind.APPLICATION, "no_worker", "no worker took the job while its browser waited")
        case State.DISPATCHING:
            return Failure(
                Kind.APPLICATION,
                "worker_unclear",
                "the worker gave no clear answer and was not heard of again",
            )
        case _:
            return Failure(Kind.APPLICATION, "worker_lost", "the worker was not heard of in time")


async def expire(connection: Connection, leases: LeaseSettings) -> list[Doorbell]:
    """End the attempts whose lease has run out; the events to publish."""
    bells = []
    for job_id, attempt, state, worker in await (await connection.execute(queries.EXPIRED, {"limit": PAGE})).fetchall():
        silence = _silence(State(state), worker)
        ending = Ending(
            job_id,
            attempt,
            State.FAILED,
            "failed",
            states=[State(state)],
            failure=silence,
            only_expired=True,
            detail={"by": "reap_idle"},
        )
        if ended := await end_attempt(connection, ending, leases):
            bells.append(ended[1])
    return bells


async def miss_deadlines(connection: Connection, leases: LeaseSettings) -> list[Doorbell]:
    """Fail the jobs whose deadline has passed; the events to publish."""
    bells = []
    failure = Failure(Kind.APPLICATION, "deadline_missed", "the job was not done by its deadline")
    for job_id, attempt in await (await connection.execute(queries.TOO_LATE, {"limit": PAGE})).fetchall():
        states = [State.PENDING, *LIVE]
        detail = {"by": "reap_idle"}
        ending = Ending(
            job_id,
            attempt,
            State.FAILED,
            "deadline_missed",
            states=states,
            failure=failure,
            final=True,
            detail=detail,
        )
        if ended := await end_attempt(connection, ending, leases):
            bells.append(ended[1])
    return bells


async def unsent(connection: Connection) -> list[Doorbell]:
    """Events that their publisher could not send."""
    return await _bells(connection, queries.UNSENT, limit=PAGE, older=LOST_SECONDS)


async def forgotten(connection: Connection, providers: Sequence[str], again: Again, *, reports: bool) -> list[Doorbell]:
    """Events to send again, because what they announce was not acted on."""
    due = await _bells(connection, queries.DUE, providers=list(providers))
    undispatched = await _aged(connection, queries.UNDISPATCHED)
    unreported = await _aged(connection, queries.UNREPORTED) if reports else []
    return [*due, *again.due([*undispatched, *unreported])]


async def _aged(connection: Connection, statement: LiteralString) -> list[tuple[Doorbell, float]]:
    values = {"limit": PAGE, "older": LOST_SECONDS}
    return [(_bell(*row), age) async for *row, age in await connection.execute(statement, values)]


async def _bells(connection: Connection, statement: LiteralString, **values: object) -> list[Doorbell]:
    async with connection.cursor(row_factory=args_row(_bell)) as cursor:
        return await (await cursor.execute(statement, values)).fetchall()


def _bell(kind: str, job_id: int, attempt: int, traceparent: str) -> Doorbell:
    return Doorbell(Type(kind), job_id, attempt, traceparent)
