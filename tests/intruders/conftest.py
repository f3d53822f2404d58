"""The functions on their stage, and what they write into their log."""

from __future__ import annotations

from tests.functions.conftest import one_stage, stage, written

__all__ = ["one_stage", "stage", "written"]
