"""Nothing is left at rest but what belongs there: warm browsers, and letters that had to die."""

from __future__ import annotations

from collections.abc import Iterator

from tests.faults.books import Books, Letter
from tests.faults.evidence import Evidence
from tests.faults.violations import Rule, Violation


def browsers(evidence: Evidence, books: Books) -> Iterator[Violation]:
    """Rows and processes of ended attempts."""
    rows = {row.name: row for row in books.browsers}
    warm = {row.name for row in books.browsers if row.job_id is None}
    for name in sorted((rows.keys() | set(evidence.processes)) - warm):
        row = rows.get(name)
        seen = f"its row is job {row.job_id} attempt {row.attempt}'s" if row else "it has no row"
        runs = "runs" if name in evidence.processes else "does not run"
        yield Violation(Rule.BROWSER_LEFT, f"browser {name}", f"{runs}; {seen}")


def events(evidence: Evidence, books: Books) -> Iterator[Violation]:
    """Events that nobody took, and letters that should not have died."""
    for event in books.outbox:
        yield Violation(Rule.OUTBOX_LEFT, f"job {event.job_id}", f"{event.type} of attempt {event.attempt} waits")
    for letter in books.letters:
        if letter.event_id not in evidence.poison and not _undeliverable(letter):
            seen = f"{letter.event_type} at {letter.destination}: {letter.reason}"
            yield Violation(Rule.DEAD_LETTER, f"event {letter.event_id}", seen)


def _undeliverable(letter: Letter) -> bool:
    """The broker gave up: nobody was there, or all said "later" too long. A refusal (4xx) is no such thing."""
    code = letter.error_code
    return code is not None and not (code.isdecimal() and 400 <= int(code) < 500)
