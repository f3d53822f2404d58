"""What was found about one part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from kn_rpa.errors import Failure


class Mark(StrEnum):
    """As kn marks conditions."""

    GOOD = "++"
    BAD = "!!"
    WARNING = " !"
    UNKNOWN = "??"


@dataclass(frozen=True)
class Finding:
    """A part, how it is, and the command that mends it."""

    part: str
    mark: Mark
    says: str
    mend: str = ""


Check = Callable[[], Iterator[Finding]]


def examine(part: str, check: Check) -> list[Finding]:
    """What a check finds; what it could not look at is unknown, not good."""
    try:
        return list(check())
    except Failure as failure:
        return [Finding(part, Mark.UNKNOWN, f"not checked: {failure}")]


def good(part: str, says: str) -> Finding:
    """This part is as it should be."""
    return Finding(part, Mark.GOOD, says)


def bad(part: str, says: str, mend: str = "") -> Finding:
    """This part is broken."""
    return Finding(part, Mark.BAD, says, mend)
