"""No limit is ever exceeded: global, of a provider, of an account. By the history, at every moment of the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tests.faults.books import Books, Tenure
from tests.faults.evidence import Evidence
from tests.faults.violations import Rule, Violation


def kept(evidence: Evidence, books: Books) -> Iterator[Violation]:
    """As many attempts at once as each limit allows."""
    tenures = list(books.tenures())
    for subject, limit, counted in _limits(evidence, tenures):
        most, at = _most_at_once(counted)
        if most > limit:
            yield Violation(Rule.OVER_LIMIT, subject, f"{most} attempts at once at {at:.3f}, with a limit of {limit}")


def _limits(evidence: Evidence, tenures: list[Tenure]) -> Iterator[tuple[str, int, list[Tenure]]]:
    yield "all providers", evidence.max_workers, tenures
    for name, entry in evidence.providers.items():
        of_provider = [tenure for tenure in tenures if tenure.provider == name]
        if limit := entry.get("max_sessions"):
            yield f"provider {name}", limit, of_provider
        for account in entry.get("accounts", ()):
            if limit := account.get("max_sessions"):
                who = account["credentials"]
                of_account = [tenure for tenure in of_provider if tenure.account == who]
                yield f"account {who} of {name}", limit, of_account


def _most_at_once(tenures: Iterable[Tenure]) -> tuple[int, float]:
    """The highest number and when; a place given up at a moment is free at that moment."""
    changes = sorted(change for t in tenures for change in ((t.start, 1), (t.end, -1)))
    now = most = 0
    when = 0.0
    for at, change in changes:
        now += change
        if now > most:
            most, when = now, at
    return most, when
