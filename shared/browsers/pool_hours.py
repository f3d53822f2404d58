"""How many warm browsers are wanted, by the hour of the day."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time

MOST = 1000
_ENTRY = re.compile(r"(\d{1,4})(?:@(\d\d:\d\d)-(\d\d:\d\d))?", re.ASCII)
SYNTAX = "must be a number such as 2, or numbers with hours such as `1 5@07:30-18:00`"


@dataclass(frozen=True, slots=True)
class _Window:
    wanted: int
    begin: time
    end: time

    def holds(self, now: time) -> bool:
        if self.begin <= self.end:
            return self.begin <= now < self.end
        return now >= self.begin or now < self.end  # over midnight


@dataclass(frozen=True, slots=True)
class PoolHours:
    """A number for the whole day, and other numbers for some of its hours; the first window that holds wins."""

    otherwise: int
    windows: tuple[_Window, ...] = ()

    def at(self, now: time) -> int:
        """How many are wanted at this time of day."""
        return next((window.wanted for window in self.windows if window.holds(now)), self.otherwise)


def parse_pool_hours(text: object) -> PoolHours:
    """`N` or `N@HH:MM-HH:MM`, separated by spaces or commas. Raises ValueError."""
    if isinstance(text, PoolHours):
        return text
    otherwise, windows = 0, []
    for word in str(text).replace(",", " ").split():
        match = _ENTRY.fullmatch(word)
        if match is None:
            raise ValueError(SYNTAX)
        wanted = int(match[1])
        if wanted > MOST:
            raise ValueError(f"must be {MOST} at most")
        if match[2]:
            windows.append(_Window(wanted, _time(match[2]), _time(match[3])))
        else:
            otherwise = wanted
    return PoolHours(otherwise, tuple(windows))


def _time(text: str) -> time:
    try:
        return time.fromisoformat(text)
    except ValueError:
        raise ValueError(SYNTAX) from None
