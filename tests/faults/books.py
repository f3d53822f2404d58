"""What the database says after a run, read whole; nothing here knows the product's queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import IsolationLevel
from psycopg.rows import class_row

LIVE = frozenset({"provisioning", "dispatching", "running"})
"""States in which an attempt holds the job's lease and a place within the limits."""
ENDED = frozenset({"completed", "failed", "cancelled"})
FOREVER = float("inf")

Row = TypeVar("Row")

JOBS: LiteralString = """
SELECT id, external_job_id, retry_of, provider, max_retries, state, attempt, result, error,
    extract(epoch FROM deadline)::float AS deadline, extract(epoch FROM finished_at)::float AS finished_at,
    extract(epoch FROM reported_at)::float AS reported_at
FROM jobs ORDER BY id
"""
HISTORY: LiteralString = """
SELECT job_id, attempt, extract(epoch FROM at)::float AS at, event, from_state, to_state, detail
FROM history ORDER BY job_id, id
"""
STEPS: LiteralString = """
SELECT account, step, job_id, attempt, extract(epoch FROM issued_at)::float AS issued_at FROM totp_steps ORDER BY 1, 2
"""
BROWSERS: LiteralString = "SELECT name, job_id, attempt FROM browsers ORDER BY name"
OUTBOX: LiteralString = "SELECT type, job_id, attempt FROM outbox ORDER BY created_at"
LETTERS: LiteralString = """
SELECT event_id, event_type, destination, reason, event #>> '{attributes,knativeerrorcode}' AS error_code
FROM dead_letters ORDER BY id
"""


@dataclass(frozen=True, slots=True)
class Job:
    """A row of jobs."""

    id: int
    external_job_id: str | None
    retry_of: int | None
    provider: str
    max_retries: int
    state: str
    attempt: int
    result: Any
    error: Any
    deadline: float | None
    finished_at: float | None
    reported_at: float | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of history."""

    job_id: int
    attempt: int
    at: float
    event: str
    from_state: str | None
    to_state: str
    detail: Mapping[str, Any]

    @property
    def ends(self) -> bool:
        """Whether the job ended with it; a note on a job that has ended does not end it."""
        return self.to_state in ENDED and self.from_state != self.to_state


@dataclass(frozen=True, slots=True)
class Step:
    """A row of the ledger of login codes."""

    account: str
    step: int
    job_id: int
    attempt: int
    issued_at: float


@dataclass(frozen=True, slots=True)
class BrowserRow:
    """A row of browsers; one without a job is warm."""

    name: str
    job_id: int | None
    attempt: int | None


@dataclass(frozen=True, slots=True)
class Event:
    """A row of the outbox."""

    type: str
    job_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter; with an error code, the broker gave up delivering it."""

    event_id: str
    event_type: str
    destination: str
    reason: str
    error_code: str | None


@dataclass(frozen=True, slots=True)
class Tenure:
    """From an attempt's claim to its end, while it holds the lease."""

    job_id: int
    attempt: int
    provider: str
    account: str | None
    """That the claim bound it to."""
    start: float
    dispatched: float
    """From here on a worker may have it."""
    end: float

    def holds(self, at: float) -> bool:
        """Whether the attempt held the lease then."""
        return self.start <= at <= self.end


@dataclass(frozen=True, slots=True)
class Books:
    """All of it, as of one moment."""

    jobs: Mapping[int, Job]
    history: Mapping[int, Sequence[Entry]]
    """Each job's, in the order in which it was written."""
    steps: Sequence[Step]
    browsers: Sequence[BrowserRow]
    outbox: Sequence[Event]
    letters: Sequence[Letter]

    def tenures(self) -> Iterator[Tenure]:
        """Every attempt's; one that gave its place back and got another has two."""
        for job in self.jobs.values():
            entries = self.history.get(job.id, ())
            for n, entry in enumerate(entries):
                if entry.to_state in LIVE and entry.from_state == "pending":
                    yield _tenure(job, entry, [e for e in entries[n + 1 :] if e.attempt == entry.attempt])


def _tenure(job: Job, claim: Entry, later: Sequence[Entry]) -> Tenure:
    end = next((entry.at for entry in later if entry.to_state not in LIVE), FOREVER)
    dispatched = next((entry.at for entry in later if entry.to_state == "dispatching"), FOREVER)
    account = claim.detail.get("account")
    return Tenure(job.id, claim.attempt, job.provider, account, claim.at, dispatched, end)


def read(database_url: str) -> Books:
    """The whole database."""
    with psycopg.connect(database_url) as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        history = defaultdict(list)
        for entry in _rows(connection, Entry, HISTORY):
            history[entry.job_id].append(entry)
        return Books(
            {job.id: job for job in _rows(connection, Job, JOBS)},
            history,
            _rows(connection, Step, STEPS),
            _rows(connection, BrowserRow, BROWSERS),
            _rows(connection, Event, OUTBOX),
            _rows(connection, Letter, LETTERS),
        )


def _rows(connection: psycopg.Connection[Any], kind: type[Row], statement: LiteralString) -> list[Row]:
    with connection.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(statement).fetchall()
