"""A job's states, and the one statement that ends an attempt, whoever ends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, LiteralString

from psycopg.types.json import Jsonb

from shared.config import LeaseSettings
from shared.db import Connection
from shared.events import Doorbell, Type


class State(StrEnum):
    """pending -> provisioning -> dispatching -> running -> completed | failed | cancelled."""

    PENDING = "pending"
    """Waits for its time and a free place; a retry comes back here."""
    PROVISIONING = "provisioning"
    """Has a place; its browser starts."""
    DISPATCHING = "dispatching"
    """Has a browser; a worker is sought."""
    RUNNING = "running"
    """A worker has it."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


ADMISSION_LOCK = 0x5250_4102
"""Held by who admits jobs and by who says what may be admitted: what was said holds from the answer on."""

LIVE = (State.PROVISIONING, State.DISPATCHING, State.RUNNING)
TERMINAL = (State.COMPLETED, State.FAILED, State.CANCELLED)


class Kind(StrEnum):
    """Why an attempt failed, which decides whether it is tried again."""

    BUSINESS = "business"
    """The portal says no; asking again would not change that."""
    APPLICATION = "application"
    """Something broke on the way; the next attempt may succeed."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, as workers report it and callers see it."""

    kind: Kind
    code: str
    message: str

    def json(self) -> dict[str, str]:
        """As stored and shown."""
        return {"kind": self.kind.value, "code": self.code, "message": self.message}


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ends, and from which states it may end so."""

    job_id: int
    attempt: int
    outcome: Literal[State.COMPLETED, State.FAILED, State.CANCELLED]
    event: str
    """What the history calls it."""
    states: Sequence[State] = LIVE
    provider: str | None = None
    """Only a job of this one."""
    result: dict[str, Any] | None = None
    failure: Failure | None = None
    final: bool = False
    """Fails for good even where retries are left."""
    only_expired: bool = False
    """Only if the lease has run out by now."""
    detail: dict[str, Any] = field(default_factory=dict)


# End an attempt: a terminal state, or back to pending for the next attempt. With its history and its event.
END_ATTEMPT: LiteralString = """
WITH job AS (
    SELECT id, attempt, state, %(retryable)s AND attempt <= max_retries AS again
    FROM jobs
    WHERE id = %(job_id)s AND attempt = %(attempt)s AND state = ANY(%(states)s)
      AND provider = COALESCE(%(provider)s, provider)
      AND (NOT %(only_expired)s OR lease_expires_at < now())
    FOR UPDATE
), moved AS (
    UPDATE jobs SET
        state = CASE WHEN job.again THEN 'pending' ELSE %(outcome)s END,
        attempt = job.attempt + job.again::int,
        run_after = CASE WHEN job.again
            THEN now() + make_interval(secs =>
                least(%(backoff)s * 2 ^ (job.attempt - 1), %(backoff_max)s) * (0.5 + random() / 2))
            ELSE jobs.run_after END,
        account = CASE WHEN job.again THEN NULL ELSE jobs.account END,
        worker = CASE WHEN job.again THEN NULL ELSE jobs.worker END,
        lease_expires_at = NULL,
        result = %(result)s,
        error = %(error)s,
        finished_at = CASE WHEN job.again THEN NULL ELSE now() END
    FROM job WHERE jobs.id = job.id
    RETURNING jobs.id, jobs.attempt, jobs.state, jobs.run_after, jobs.traceparent,
        job.state AS from_state, job.attempt AS ended_attempt
), noted AS (
    INSERT INTO history (job_id, attempt, event, from_state, to_state, detail)
    SELECT id, ended_attempt, CASE WHEN state = 'pending' THEN 'attempt_failed' ELSE %(event)s END, from_state, state,
        %(detail)s::jsonb || CASE WHEN state = 'pending'
            THEN jsonb_build_object('next_attempt', attempt, 'run_after', run_after) ELSE '{}' END
    FROM moved
), announced AS (
    INSERT INTO outbox (type, job_id, attempt, traceparent)
    SELECT CASE WHEN state = 'pending' THEN 'rpa.job.submitted.v1' ELSE 'rpa.job.finished.v1' END,
        id, attempt, traceparent
    FROM moved
    ON CONFLICT DO NOTHING
)
SELECT state, attempt, traceparent FROM moved
"""


async def end_attempt(connection: Connection, ending: Ending, leases: LeaseSettings) -> tuple[State, Doorbell] | None:
    """End an attempt if it is still in one of the states; its new state and the event to publish, or None."""
    failure = ending.failure
    error = failure.json() if failure else None
    cursor = await connection.execute(
        END_ATTEMPT,
        {
            "job_id": ending.job_id,
            "attempt": ending.attempt,
            "states": [state.value for state in ending.states],
            "provider": ending.provider,
            "outcome": ending.outcome.value,
            "event": ending.event,
            "retryable": failure is not None and failure.kind is Kind.APPLICATION and not ending.final,
            "only_expired": ending.only_expired,
            "backoff": leases.retry_backoff,
            "backoff_max": leases.retry_backoff_max,
            "result": Jsonb(ending.result) if ending.result is not None else None,
            "error": Jsonb(error) if error else None,
            "detail": Jsonb({**ending.detail, **({"error": error} if error else {})}),
        },
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    state = State(row[0])
    kind = Type.JOB_SUBMITTED if state is State.PENDING else Type.JOB_FINISHED
    return state, Doorbell(kind, ending.job_id, row[1], row[2])


async def fail_attempt(
    connection: Connection,
    job_id: int,
    attempt: int,
    states: Sequence[State],
    code: str,
    message: str,
    leases: LeaseSettings,
) -> Doorbell | None:
    """An application failure: retried with backoff while retries are left. The event to publish, or None."""
    failure = Failure(Kind.APPLICATION, code, message[:1000])
    ended = await end_attempt(
        connection, Ending(job_id, attempt, State.FAILED, "failed", states=states, failure=failure), leases
    )
    return ended[1] if ended else None
