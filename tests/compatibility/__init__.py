"""The revision before this one, which whoever releases names here."""

from __future__ import annotations

PREVIOUS = "16329e4"
"""A commit of this repository's history."""
HALF = frozenset({"submit_job", "dispatch_job", "reap_idle", "monitor"})
"""Every event, row and token that one function leaves to another crosses from this half to the other or back."""
