"""The functions on their stage, and what they write into their log."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from shared.logs import JsonLines
from tests.functions.conftest import one_stage, stage
from tests.functions.stage import Stage

__all__ = ["one_stage", "stage"]


@pytest.fixture
def written(stage: Stage) -> Iterator[io.StringIO]:  # noqa: ARG001 - whose functions set up logging
    """What all functions write while a test runs, at DEBUG."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines("stage"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("rpa").setLevel("DEBUG")
    yield stream
    logging.getLogger("rpa").setLevel("INFO")
    logging.getLogger().removeHandler(handler)
