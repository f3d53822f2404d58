"""The functions on a stage of these tests' own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.functions.stage import Stage, open_stage


@pytest.fixture
async def stage(database_url: str, valkey_settings: dict[str, str], tmp_path: Path) -> AsyncIterator[Stage]:
    """All functions."""
    async with open_stage(database_url, valkey_settings, tmp_path / "providers") as opened:
        yield opened
