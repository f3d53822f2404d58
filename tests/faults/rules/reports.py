"""ORDS hears the end of every job: one end, the true one."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime

from tests.faults.books import ENDED, Books, Job
from tests.faults.evidence import Evidence, Report
from tests.faults.violations import Rule, Violation


def told(evidence: Evidence, books: Books) -> Iterator[Violation]:
    """Acknowledged; however often it is sent, with the same content and key."""
    reports = _by_job(evidence)
    for job in books.jobs.values():
        if job.state in ENDED and not any(report.acknowledged for report in reports[job.id]):
            tries = len(reports[job.id])
            yield Violation(Rule.REPORT_MISSING, f"job {job.id}", f"{job.state}; ORDS acknowledged none of {tries}")
    keys: dict[str, set[int]] = defaultdict(set)
    for job_id, of_job in reports.items():
        for seen in _differences(books.jobs.get(job_id), of_job):
            yield Violation(Rule.REPORT_DIFFERS, f"job {job_id}", seen)
        for report in of_job:
            keys[report.idempotency_key].add(job_id)
    for key, jobs in keys.items():
        if len(jobs) > 1:
            seen = f"stands for jobs {', '.join(map(str, sorted(jobs)))}"
            yield Violation(Rule.REPORT_DIFFERS, f"idempotency key {key}", seen)


def _differences(job: Job | None, reports: list[Report]) -> Iterator[str]:
    if job is None:
        if reports:
            yield "reported, and there is no such job"
        return
    if len({report.idempotency_key for report in reports}) > 1:
        yield f"reported under {', '.join(sorted({report.idempotency_key for report in reports}))}"
    contents = {json.dumps([report.status, report.body], sort_keys=True) for report in reports}
    if len(contents) > 1:
        yield f"reported as {' and as '.join(sorted(contents))}"
    elif reports and _content(reports[0]) != _truth(job):
        yield f"reported as {_content(reports[0])}, is {_truth(job)}"


def _content(report: Report) -> tuple[object, ...]:
    body = report.body
    ended = datetime.fromisoformat(body["completed_at"]).timestamp()
    said = (report.job_id, report.external_job_id, report.status)
    return (*said, body["job_id"], body["external_job_id"], body["status"], body["result"], body["error"], ended)


def _truth(job: Job) -> tuple[object, ...]:
    told_as = (job.id, job.external_job_id, job.state)
    return (*told_as, *told_as, job.result, job.error, job.finished_at)


def noted(evidence: Evidence, books: Books) -> Iterator[Violation]:
    """A job that was reported says so, and its history does once."""
    reports = _by_job(evidence)
    for job in books.jobs.values():
        notes = sum(entry.event == "reported" for entry in books.history.get(job.id, ()))
        acknowledged = any(report.acknowledged for report in reports[job.id])
        if acknowledged and (job.reported_at is None or notes != 1):
            seen = f"reported_at is {job.reported_at}, its history notes it {notes} times"
            yield Violation(Rule.REPORT_UNRECORDED, f"job {job.id}", seen)


def _by_job(evidence: Evidence) -> defaultdict[int, list[Report]]:
    reports: defaultdict[int, list[Report]] = defaultdict(list)
    for report in evidence.ords:
        reports[report.job_id].append(report)
    return reports
