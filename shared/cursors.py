"""Cursors of lists that show the newest first."""

from __future__ import annotations

import base64
import binascii

from shared.http import invalid


def encode(number: int) -> str:
    """The cursor of what comes after the item of this number."""
    return base64.urlsafe_b64encode(f"before:{number}".encode()).decode().rstrip("=")


def decode(cursor: str | None) -> int | None:
    """The number in a cursor, None for the first page. Raises Problem 422."""
    if not cursor:
        return None
    try:
        word, _, number = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(":")
        if word == "before" and 0 < int(number) < 2**63 and encode(int(number)) == cursor:
            return int(number)
    except (binascii.Error, ValueError):
        pass
    raise invalid("cursor", "not one of ours; send next_cursor of the page before, unchanged")
