"""What an audit can find."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Rule(StrEnum):
    """What the design promises; a violation names the one that was broken."""

    LOST = "a job that was accepted is in the database, as it was submitted"
    SUBMITTED_TWICE = "a job that is submitted again is the same job"
    UNASKED = "there is no job that nobody submitted"
    NOT_ENDED = "every job ends"
    ENDED_TWICE = "a job ends once"
    LATE = "a job ends by its deadline, or at the next tick after it"
    REAPED_LATE = "a lease that runs out is reaped at the next tick"
    HISTORY_GAP = "a history has every step, in order, and ends where its job is"
    RETRY_UNCOUNTED = "what broke is tried max_retries times more, the portal's no never"
    TWO_LIVE_ATTEMPTS = "one attempt of a job lives at a time"
    RUN_TWICE = "one worker runs an attempt, in one browser"
    NO_LEASE = "who works at a portal had the job's lease when it logged in"
    BROWSER_SHARED = "every attempt has a fresh browser"
    OVER_LIMIT = "no limit is ever exceeded"
    CODE_TWICE = "a login code is given and used once"
    CODE_UNRECORDED = "a login code that was given stands in the ledger, under its attempt"
    REPORT_MISSING = "the end of every job is acknowledged by ORDS"
    REPORT_DIFFERS = "ORDS is told one end of a job, the one in the database, under one key"
    REPORT_UNRECORDED = "a report that ORDS acknowledged is noted once, at its job and in its history"
    BROWSER_LEFT = "no browser outlives its attempt"
    OUTBOX_LEFT = "the outbox is empty at rest"
    DEAD_LETTER = "only poison and what nobody was there to take becomes a dead letter"


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken, by what, and how that was seen."""

    rule: Rule
    subject: str
    seen: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.seen} ({self.rule.name}: {self.rule.value})"
