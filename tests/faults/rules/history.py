"""A history tells every step of its job, and every attempt is counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from tests.faults.books import ENDED, LIVE, Books, Entry, Job
from tests.faults.evidence import Evidence
from tests.faults.violations import Rule, Violation

FORWARD = {("pending", "provisioning"), ("provisioning", "dispatching"), ("dispatching", "running")}


def in_order(_: Evidence, books: Books) -> Iterator[Violation]:
    """From submission to where the job is, without a gap."""
    return gaps(books)


def gaps(books: Books) -> Iterator[Violation]:
    """What is missing in histories, or cannot be."""
    for job in books.jobs.values():
        for seen in _gaps(job, books.history.get(job.id, ())):
            yield Violation(Rule.HISTORY_GAP, f"job {job.id}", seen)


def _gaps(job: Job, entries: Sequence[Entry]) -> Iterator[str]:
    if not entries:
        yield "has no history"
        return
    first, last = entries[0], entries[-1]
    if (first.from_state, first.to_state, first.attempt) != (None, "pending", 1):
        yield f"begins with {first.event} to {first.to_state}, attempt {first.attempt}"
    for entry in entries[1:]:
        if not _may(entry):
            yield f"{entry.event} went from {entry.from_state} to {entry.to_state}"
    for before, entry in pairwise(entries):
        if entry.from_state != before.to_state:
            yield f"{entry.event} left {entry.from_state}, but {before.event} had led to {before.to_state}"
        if entry.at < before.at:
            yield f"{entry.event} is noted after {before.event} and happened before it"
        if entry.attempt not in _next_attempts(before):
            yield f"{entry.event} of attempt {entry.attempt} follows {before.event} of attempt {before.attempt}"
    if last.to_state != job.state or job.attempt not in _next_attempts(last):
        yield f"ends at {last.to_state}, attempt {last.attempt}; the job is {job.state}, attempt {job.attempt}"


def _may(entry: Entry) -> bool:
    move = (entry.from_state, entry.to_state)
    if entry.from_state == entry.to_state or move in FORWARD:
        return True
    if entry.from_state in LIVE and entry.to_state == "pending":
        return True
    if entry.from_state in ENDED:
        return True  # that a job moves on after its end is told as a second end
    if entry.to_state == "completed":
        return entry.from_state in {"dispatching", "running"}
    return entry.to_state in ENDED


def _next_attempts(entry: Entry) -> set[int]:
    if entry.to_state == "pending" and entry.from_state in LIVE:
        # A failed attempt is consumed; one that only gave its place back is not.
        return {entry.attempt + 1} if "error" in entry.detail else {entry.attempt}
    return {entry.attempt}


def retries(_: Evidence, books: Books) -> Iterator[Violation]:
    """As many attempts as the job allows, and no fewer where it failed for want of one."""
    for job in books.jobs.values():
        entries = books.history.get(job.id, ())
        attempts = {entry.attempt for entry in entries}
        if max(attempts, default=1) > job.max_retries + 1:
            seen = f"had {max(attempts)} attempts with max_retries {job.max_retries}"
            yield Violation(Rule.RETRY_UNCOUNTED, f"job {job.id}", seen)
        for entry in entries:
            kind = entry.detail.get("error", {}).get("kind")
            if kind == "business" and entry.to_state == "pending":
                seen = f"attempt {entry.attempt} ended with the portal's no, and was tried again"
                yield Violation(Rule.RETRY_UNCOUNTED, f"job {job.id}", seen)
            gave_up = entry.ends and entry.to_state == "failed" and entry.event != "deadline_missed"
            if kind == "application" and gave_up and entry.attempt <= job.max_retries:
                seen = f"given up after attempt {entry.attempt} with max_retries {job.max_retries}"
                yield Violation(Rule.RETRY_UNCOUNTED, f"job {job.id}", seen)
