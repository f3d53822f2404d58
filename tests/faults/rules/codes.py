"""A login code is given to one attempt and used once; the ledger has every one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from tests.faults.books import Books
from tests.faults.evidence import Evidence
from tests.faults.violations import Rule, Violation

PERIOD = 30.0
"""Seconds of a time step where a provider says nothing else."""

Holder = tuple[int, int]


def once(evidence: Evidence, books: Books) -> Iterator[Violation]:
    """No step of an account is two attempts', and the portal saw each once."""
    holders: dict[tuple[str, int], set[Holder]] = defaultdict(set)
    for step in books.steps:
        holders[step.account, step.step].add((step.job_id, step.attempt))
    for account, number, holder in _answered(evidence):
        holders[account, number].add(holder)
    for (account, number), whose in holders.items():
        if len(whose) > 1:
            yield Violation(Rule.CODE_TWICE, f"account {account}", f"step {number} was given to {_names(whose)}")
    uses: dict[tuple[str | None, int], list[Holder]] = defaultdict(list)
    for visit in evidence.portal:
        if visit.kind == "login" and visit.totp_step is not None:
            uses[visit.account, visit.totp_step].append((visit.job_id, visit.attempt))
    for (used, number), users in uses.items():
        if len(users) > 1:
            yield Violation(Rule.CODE_TWICE, f"account {used}", f"step {number} was used by {_names(users)}")


def recorded(evidence: Evidence, books: Books) -> Iterator[Violation]:
    """What workers got, what the portal took and what histories tell stands in the ledger."""
    ledger = {(step.account, step.step, step.job_id, step.attempt) for step in books.steps}
    for where, account, number, (job_id, attempt) in _mentioned(evidence, books):
        if (account, number, job_id, attempt) not in ledger:
            seen = f"{where} step {number} of {account} with attempt {attempt}; the ledger does not"
            yield Violation(Rule.CODE_UNRECORDED, f"job {job_id}", seen)


def _mentioned(evidence: Evidence, books: Books) -> Iterator[tuple[str, str | None, int, Holder]]:
    for account, number, holder in _answered(evidence):
        yield "its worker got", account, number, holder
    for visit in evidence.portal:
        if visit.kind == "login" and visit.totp_code is not None:
            number = -1 if visit.totp_step is None else visit.totp_step
            yield "the portal saw", visit.account, number, (visit.job_id, visit.attempt)
    for entries in books.history.values():
        for entry in entries:
            if entry.event == "totp_issued":
                detail = entry.detail
                yield "its history has", detail["account"], detail["step"], (entry.job_id, entry.attempt)


def _answered(evidence: Evidence) -> Iterator[tuple[str, int, Holder]]:
    periods = {
        account["credentials"]: entry.get("totp_period", PERIOD)
        for name, entry in evidence.providers.items()
        for account in entry.get("accounts", [{"credentials": name.upper().replace("-", "_")}])
    }
    for issued in evidence.issued:
        number = round(issued.expires_at / periods[issued.account]) - 1
        yield issued.account, number, (issued.job_id, issued.attempt)


def _names(whose: Iterable[Holder]) -> str:
    return ", ".join(f"job {job_id} attempt {attempt}" for job_id, attempt in sorted(whose))
