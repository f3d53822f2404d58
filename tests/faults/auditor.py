"""Says which of the design's promises a run broke, from what is in the database and what was seen outside.

It shares nothing with the product but the schema: it reads the tables whole, with statements of its own, and
holds them against its own reading of the design. Valkey is not asked: what it reserves may be lost at any
time; what counts is what left the system, which the ledger, the workers and the portal know.
"""

from __future__ import annotations

from tests.faults import books
from tests.faults.evidence import Evidence
from tests.faults.rules import codes, history, jobs, leases, leftovers, limits, reports
from tests.faults.violations import Rule, Violation

__all__ = ["Rule", "Violation", "audit"]

CHECKS = (
    jobs.accepted,
    jobs.ended,
    history.in_order,
    history.retries,
    leases.logins,
    leases.one_at_a_time,
    leases.runs,
    leases.reaped,
    limits.kept,
    codes.once,
    codes.recorded,
    reports.told,
    reports.noted,
    leftovers.browsers,
    leftovers.events,
)


def audit(evidence: Evidence) -> list[Violation]:
    """Every violation; none after a run in which every promise was kept."""
    found = books.read(evidence.database_url)
    return [violation for check in CHECKS for violation in check(evidence, found)]
