"""What a run under faults leaves behind for the auditor: what was seen outside, and where the database is.

Taken at rest: the faults are over, and everything has had its time to end. Times are seconds as of `time.time()`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Submission:
    """A job that was offered to submit_job."""

    external_job_id: str
    job_id: int | None
    """The id answered with 200 or 201; None where no such answer arrived: the job may exist or not."""
    provider: str


@dataclass(frozen=True, slots=True)
class Visit:
    """What a portal saw an attempt do."""

    at: float
    job_id: int
    attempt: int
    provider: str
    account: str | None
    """The credentials' prefix, as in the provider's entry."""
    kind: Literal["login", "work_started", "work_ended"]
    """`login`: the portal let it in. What it refuses is no visit."""
    totp_code: str | None = None
    totp_step: int | None = None
    """Of which time step the portal found the code to be; with every totp_code."""
    browser: str | None = None
    """Its name, as the order's browser_service_id; None where the provider needs none."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A login code as issue_totp answered it to a worker."""

    job_id: int
    attempt: int
    account: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class Report:
    """A report that reached ORDS, whatever it answered."""

    at: float
    job_id: int
    external_job_id: str | None
    idempotency_key: str
    status: str
    """What it says that became of the job."""
    body: Mapping[str, Any]
    """All of it."""
    acknowledged: bool
    """Whether ORDS keeps it; its answer may have been lost, or an error all the same."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One run."""

    database_url: str
    providers: Mapping[str, Mapping[str, Any]]
    """Each provider's entry as in its ConfigMap: max_sessions, accounts, totp, totp_period."""
    max_workers: int
    submitted: Sequence[Submission]
    portal: Sequence[Visit]
    ords: Sequence[Report]
    processes: Sequence[str]
    """Names of the browsers that still run, as in the table `browsers`; warm ones among them."""
    reaping_seconds: float
    """The longest time between two ticks that reap_idle answered with 204, outages among it."""
    overdue_seconds: float = 0.0
    """The longest time that a lease was seen to have run out and was not reaped, by the database's clock."""
    issued: Sequence[Issued] = ()
    poison: frozenset[str] = frozenset()
    """Ids of events that were sent to become dead letters."""
