"""No job is lost, made twice or made up; every job ends, in time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tests.faults.books import ENDED, Books
from tests.faults.evidence import Evidence
from tests.faults.violations import Rule, Violation

ROUND_SECONDS = 5.0
"""What a round of reaping may take itself, on a busy machine."""


def accepted(evidence: Evidence, books: Books) -> Iterator[Violation]:
    """What was answered is in the database, once; what was not answered may be."""
    ids: dict[str, set[int]] = defaultdict(set)
    for submission in evidence.submitted:
        external = ids[submission.external_job_id]
        if submission.job_id is None:
            continue
        external.add(submission.job_id)
        job = books.jobs.get(submission.job_id)
        subject = f"job {submission.job_id}"
        if job is None:
            yield Violation(Rule.LOST, subject, f"{submission.external_job_id} was accepted, and is not there")
        elif (job.external_job_id, job.provider) != (submission.external_job_id, submission.provider):
            seen = f"accepted as {submission.external_job_id}, stored as {job.external_job_id} of {job.provider}"
            yield Violation(Rule.LOST, subject, seen)
    for job in books.jobs.values():
        if job.retry_of is not None:
            continue
        if job.external_job_id in ids:
            ids[job.external_job_id].add(job.id)
        else:
            yield Violation(Rule.UNASKED, f"job {job.id}", f"nobody submitted {job.external_job_id}")
    for name, jobs in ids.items():
        if len(jobs) > 1:
            yield Violation(Rule.SUBMITTED_TWICE, name, f"is jobs {', '.join(map(str, sorted(jobs)))}")


def ended(evidence: Evidence, books: Books) -> Iterator[Violation]:
    """Every job ended, once, and those with a deadline by then or at the next tick."""
    for job in books.jobs.values():
        if job.state not in ENDED:
            yield Violation(Rule.NOT_ENDED, f"job {job.id}", f"still {job.state}, attempt {job.attempt}")
        ends = [entry for entry in books.history.get(job.id, ()) if entry.ends]
        if len(ends) > 1:
            seen = ", ".join(f"{entry.event} from {entry.from_state} to {entry.to_state}" for entry in ends)
            yield Violation(Rule.ENDED_TWICE, f"job {job.id}", seen)
        if job.deadline and job.finished_at:
            late = job.finished_at - job.deadline
            if late > evidence.reaping_seconds + ROUND_SECONDS:
                yield Violation(Rule.LATE, f"job {job.id}", f"ended {late:.1f} s after its deadline")
