"""The functions, served, and a user who knows their addresses."""

from __future__ import annotations

from tests.functions.conftest import one_stage, stage
from tests.plugin.conftest import door, shell

__all__ = ["door", "one_stage", "shell", "stage"]
