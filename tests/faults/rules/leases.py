"""One attempt of a job lives at a time, and only who lives logs in.

What counts. A lease fences what asks the system: codes, heartbeats, reports. It cannot hold a worker's hands: one
that lost its lease may type on at the portal until its next heartbeat tells it to stop, and at a portal
without codes it may even log in. So work of two attempts that overlaps proves nothing by itself. Broken is the
promise where

- two attempts of a job hold the lease at one moment, by the history (TWO_LIVE_ATTEMPTS);
- an attempt got a login code while it did not hold the lease: with another attempt live it is TWO_LIVE_ATTEMPTS,
  else NO_LEASE. When the code was given counts, not when it was used: a code that was given in time may be used
  until it expires;
- anything is seen of an attempt before it was handed to dispatch, or of one that there is not (NO_LEASE);
- an attempt begins its work twice, or in two browsers: two workers have it (RUN_TWICE).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from tests.faults.books import Books, Tenure
from tests.faults.evidence import Evidence
from tests.faults.rules.jobs import ROUND_SECONDS
from tests.faults.violations import Rule, Violation

CLOCK_SECONDS = 0.5
"""By how much the portal's clock may differ from the database's."""


def one_at_a_time(_: Evidence, books: Books) -> Iterator[Violation]:
    """Tenures of a job follow each other."""
    for job_id, tenures in _by_job(books).items():
        for earlier, later in pairwise(sorted(tenures, key=lambda tenure: tenure.start)):
            if later.start < earlier.end and later.attempt != earlier.attempt:
                seen = f"attempt {later.attempt} was claimed while attempt {earlier.attempt} lived"
                yield Violation(Rule.TWO_LIVE_ATTEMPTS, f"job {job_id}", seen)


def logins(evidence: Evidence, books: Books) -> Iterator[Violation]:
    """Codes were given to attempts that lived; nobody was seen before it was dispatched."""
    by_job = _by_job(books)
    for step in books.steps:
        tenures = by_job.get(step.job_id, ())
        holders = {tenure.attempt for tenure in tenures if tenure.holds(step.issued_at)}
        if step.attempt not in holders:
            rule = Rule.TWO_LIVE_ATTEMPTS if holders else Rule.NO_LEASE
            seen = f"attempt {step.attempt} got a code of {step.account} at {step.issued_at:.3f}"
            lived = f"attempt {max(holders)} lived then" if holders else "no attempt lived then"
            yield Violation(rule, f"job {step.job_id}", f"{seen}; {lived}")
    for visit in evidence.portal:
        known = [t.dispatched for t in by_job.get(visit.job_id, ()) if t.attempt == visit.attempt]
        if not known or visit.at < min(known) - CLOCK_SECONDS:
            seen = f"{visit.kind} of attempt {visit.attempt} at {visit.at:.3f}, before it was dispatched"
            yield Violation(Rule.NO_LEASE, f"job {visit.job_id}", seen)


def runs(evidence: Evidence, _: Books) -> Iterator[Violation]:
    """An attempt is run once, in a browser of its own."""
    starts: dict[tuple[int, int], int] = defaultdict(int)
    browsers: dict[tuple[int, int], set[str]] = defaultdict(set)
    users: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for visit in evidence.portal:
        who = (visit.job_id, visit.attempt)
        starts[who] += visit.kind == "work_started"
        if visit.browser:
            browsers[who].add(visit.browser)
            users[visit.browser].add(who)
    for (job_id, attempt), times in starts.items():
        used = browsers[job_id, attempt]
        if times > 1 or len(used) > 1:
            seen = f"attempt {attempt} began {times} times, in {', '.join(sorted(used)) or 'no browser'}"
            yield Violation(Rule.RUN_TWICE, f"job {job_id}", seen)
    for browser, whose in users.items():
        if len(whose) > 1:
            seen = ", ".join(f"job {job_id} attempt {attempt}" for job_id, attempt in sorted(whose))
            yield Violation(Rule.BROWSER_SHARED, f"browser {browser}", f"used by {seen}")


def reaped(evidence: Evidence, _: Books) -> Iterator[Violation]:
    """What has run out is seen to within one interval of reaping."""
    if evidence.overdue_seconds > evidence.reaping_seconds + ROUND_SECONDS:
        yield Violation(Rule.REAPED_LATE, "leases", f"one had run out for {evidence.overdue_seconds:.1f} s")


def _by_job(books: Books) -> dict[int, Sequence[Tenure]]:
    tenures: dict[int, list[Tenure]] = defaultdict(list)
    for tenure in books.tenures():
        tenures[tenure.job_id].append(tenure)
    return dict(tenures)
