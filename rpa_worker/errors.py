"""What can go wrong in a worker.

WorkerError
├── BusinessFailure      the portal says no: raised by actions, never retried
├── AttemptOver          the orchestrator gave the job to somebody else, or it was cancelled
├── NoLoginCode          no login code is to be had for this job
├── TotpRejected         the portal refuses the login codes: raised by actions
├── EvidenceRefused      the orchestrator does not take this file
├── TraceNotKept         a trace that is too large, or cannot be rid of secrets
├── PortalNotConfigured  the worker's environment lacks an account of the portal
├── InvalidOrder         a request to execute that this worker cannot follow
├── NotConfirmed         an order that the orchestrator did not give
└── Busy                 every slot is taken, or the worker is stopping
"""

from __future__ import annotations


class WorkerError(Exception):
    """Something that this library knows by name."""


class BusinessFailure(WorkerError):
    """The portal says no, and would say so again; `code` is for programs, `message` for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class AttemptOver(WorkerError):
    """The orchestrator has taken this attempt back: stop, and report nothing."""


class NoLoginCode(WorkerError):
    """No login code is to be had for this job."""


class TotpRejected(WorkerError):
    """The portal refuses the login codes.

    Raise it after the last refusal that was not told by `job.totp(rejected=True)`: the orchestrator counts
    refusals, and pauses the account before the portal locks it.
    """


class EvidenceRefused(WorkerError):
    """The orchestrator does not take this file."""


class TraceNotKept(WorkerError):
    """The trace is too large, or cannot be rid of secrets."""


class PortalNotConfigured(WorkerError):
    """The worker's environment lacks an account of the portal."""


class InvalidOrder(WorkerError):
    """A request to execute that this worker cannot follow; `field` is the culprit."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class NotConfirmed(WorkerError):
    """An order that the orchestrator did not give."""


class Busy(WorkerError):
    """Every slot is taken, or the worker is stopping."""
