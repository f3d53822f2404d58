"""What is said beside the result."""

from __future__ import annotations

import sys


def note(text: str) -> None:
    """A line for the one who watches."""
    print(text, file=sys.stderr, flush=True)
