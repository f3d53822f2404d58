"""Jobs in the database: what the routes ask of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from functions.submit_job import queries
from functions.submit_job.models import HistoryEntry, Job, JobChange, JobRequest, JobWithHistory, time_problems
from shared import cursors
from shared.config import LeaseSettings
from shared.db import Connection
from shared.events import Doorbell, Type
from shared.http import Problem, invalid
from shared.jobs import LIVE, TERMINAL, Ending, State, end_attempt

RACES_TOLERATED = 5


async def submit(
    connection: Connection, jobs: Sequence[JobRequest], *, traceparent: str, created_by: str
) -> tuple[list[Job], list[Doorbell]]:
    """Insert jobs, all or none; a repeated one is answered as it is. In the order given, with what to publish.

    Raises Problem 409 where an external id stands for other content.
    """
    # One job is one statement, which needs nothing around it to be all or none.
    together = connection.transaction() if len(jobs) > 1 else nullcontext()
    async with together, connection.cursor(row_factory=dict_row) as cursor:
        wanted = [
            {"n": n, **job.model_dump(mode="json"), "content_digest": job.digest().hex()} for n, job in enumerate(jobs)
        ]
        await cursor.execute(
            queries.SUBMIT, {"jobs": Jsonb(wanted), "traceparent": traceparent, "created_by": created_by}
        )
        made = [Job.model_validate(row) for row in await cursor.fetchall()]
        known = {job.external_job_id: job for job in made if job.external_job_id}
        repeated = {
            job.external_job_id: job for job in jobs if job.external_job_id and job.external_job_id not in known
        }
        if repeated:
            await cursor.execute(queries.SUBMITTED_BEFORE, {"external_job_ids": list(repeated)})
            for row in await cursor.fetchall():
                _same_content(repeated[row["external_job_id"]], row)
                known[row["external_job_id"]] = Job.model_validate(row)
    anonymous = iter([job for job in made if not job.external_job_id])
    answers = [known[job.external_job_id] if job.external_job_id else next(anonymous) for job in jobs]
    return answers, [Doorbell(Type.JOB_SUBMITTED, job.id, 1, traceparent) for job in made]


async def submitted_before(connection: Connection, external_job_ids: Sequence[str]) -> set[str]:
    """Those of these ids that stand for a job."""
    values = {"external_job_ids": list(external_job_ids)}
    return {row[0] async for row in await connection.execute(queries.IDS_TAKEN, values)}


def _same_content(request: JobRequest, row: dict[str, Any]) -> None:
    if row["digest"] != request.digest().hex():
        raise Problem(
            409,
            f"external_job_id: {request.external_job_id} is job {row['id']} with other content; use another id",
            code="external_job_id_taken",
            errors=[{"field": "external_job_id", "message": "stands for other content already"}],
        )


async def get(connection: Connection, job_id: int) -> JobWithHistory:
    """One job with its history. Raises Problem 404."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        row = await (await cursor.execute(queries.GET, {"id": job_id})).fetchone()
        if row is None:
            raise _unknown(job_id)
        entries = await (await cursor.execute(queries.HISTORY, {"id": job_id})).fetchall()
    return JobWithHistory.model_validate({**row, "history": [HistoryEntry.model_validate(e) for e in entries]})


def _unknown(job_id: int) -> Problem:
    return Problem(
        404,
        f"id: there is no job {job_id}",
        code="unknown_job",
        errors=[{"field": "id", "message": "unknown"}],
    )


async def page(
    connection: Connection, filters: dict[str, str | None], limit: int, cursor: str | None
) -> tuple[list[Job], str | None]:
    """One page of jobs, newest first, and the cursor of the next. Raises Problem 422 for a bad cursor."""
    values = {**filters, "before": cursors.decode(cursor), "limit": limit + 1}
    async with connection.cursor(row_factory=dict_row) as found:
        rows = await (await found.execute(queries.LIST, values)).fetchall()
    jobs = [Job.model_validate(row) for row in rows[:limit]]
    return jobs, cursors.encode(jobs[-1].id) if len(rows) > limit else None


async def change(connection: Connection, job_id: int, wish: JobChange) -> tuple[Job, list[Doorbell]]:
    """Change a job that waits. Raises Problem 404, 409, or 422 for times that can never work out."""
    fields = sorted(wish.model_fields_set)
    values = {
        "id": job_id,
        "fields": fields,
        "priority": wish.priority,
        "run_after": wish.run_after,
        "deadline": wish.deadline,
        "detail": Jsonb(wish.model_dump(mode="json", include=wish.model_fields_set)),
    }
    async with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        row = await (await cursor.execute(queries.CHANGE, values)).fetchone()
        if row is None:
            state, _ = await _standing(connection, job_id)
            raise Problem(409, f"job {job_id} is {state}; only a pending job can be changed", code="not_pending")
        job = Job.model_validate(row)
        if {"run_after", "deadline"} & wish.model_fields_set:
            for field, message in time_problems(job.run_after, job.deadline, datetime.now(UTC)):
                raise invalid(field, message)
    return job, [Doorbell(Type.JOB_SUBMITTED, job.id, job.attempt, row["traceparent"])]


async def _standing(connection: Connection, job_id: int) -> tuple[State, int]:
    row = await (await connection.execute(queries.STANDING, {"id": job_id})).fetchone()
    if row is None:
        raise _unknown(job_id)
    return State(row[0]), int(row[1])


async def cancel(connection: Connection, job_id: int, by: str, leases: LeaseSettings) -> list[Doorbell]:
    """Cancel a job wherever it is; cancelling twice is one cancellation. Raises Problem 404 or 409."""
    for _ in range(RACES_TOLERATED):
        state, attempt = await _standing(connection, job_id)
        if state is State.CANCELLED:
            return []
        if state in TERMINAL:
            raise Problem(409, f"job {job_id} is {state} already", code="finished")
        ending = Ending(job_id, attempt, State.CANCELLED, "cancelled", states=(State.PENDING, *LIVE), detail={"by": by})
        if ended := await end_attempt(connection, ending, leases):
            return [ended[1]]
    raise Problem(409, f"job {job_id} changes too fast; try again", code="busy")


async def retry(
    connection: Connection, job_id: int, *, traceparent: str, created_by: str
) -> tuple[int, list[Doorbell]]:
    """A new job with the content of one that failed or was cancelled; asked twice, the same one.

    Raises Problem 404 or 409.
    """
    values = {"id": job_id, "traceparent": traceparent, "created_by": created_by}
    row = await (await connection.execute(queries.RETRY, values)).fetchone()
    if row is not None:
        return int(row[0]), [Doorbell(Type.JOB_SUBMITTED, int(row[0]), 1, traceparent)]
    again = await (await connection.execute(queries.RETRY_OF, {"id": job_id})).fetchone()
    if again is not None:
        return int(again[0]), []
    state, _ = await _standing(connection, job_id)
    raise Problem(409, f"job {job_id} is {state}; only failed or cancelled jobs can be retried", code="not_retryable")
