"""Whole runs: the system under load and under faults, and an auditor who finds nothing."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from tests.faults.configuration import LOST_SECONDS
from tests.faults.report import show
from tests.faults.run import Order, run

SLOW_SECONDS = 2.0
"""What a function may take to handle an event, on a busy machine."""
RARE = 4
"""Of some 56 statements."""
SEED = int(os.environ.get("SEED") or 1)


@pytest.fixture
def state(caplog: pytest.LogCaptureFixture) -> Iterator[Path]:
    """A folder that PostgreSQL's user gets through to."""
    caplog.set_level(logging.CRITICAL, "uvicorn.error")  # it complains of the half answers that some workers give
    with tempfile.TemporaryDirectory(prefix="rpa-test-faults-") as folder:
        yield Path(folder)


@pytest.mark.timeout(600)
async def test_five_hundred_jobs_under_every_fault(state: Path) -> None:
    """Each ends once and is reported once, though functions were killed before and after all of their statements."""
    outcome = await run(Order(SEED, jobs=500), state)
    show(Console(), outcome)
    assert outcome.violations == []
    # A statement that only a rare order of events leads to may come up too seldom; a longer run meets it.
    assert len({".".join(name.split(".")[1:3]) for name in outcome.unmet}) <= RARE, outcome.unmet
    assert outcome.unexpected == []
    assert outcome.missing == set()
    assert outcome.overdue_seconds > 0  # the auditor's bound on it was put to the test
    assert sum(outcome.states.values()) >= 500


@pytest.mark.timeout(300)
async def test_jobs_end_though_every_other_event_is_lost(state: Path) -> None:
    """Those that are sent again, too: reaping goes on until one arrives."""
    outcome = await run(Order(SEED, jobs=8, classes=frozenset(), window=8, dropped=0.5), state)
    show(Console(), outcome)
    assert outcome.ok
    assert outcome.injected["event lost"] >= 8


@pytest.mark.timeout(180)
async def test_a_lost_event_costs_one_reaping_interval(state: Path) -> None:
    """Every event is lost the first time that it is sent: nobody waits longer than until reaping sends it again."""
    outcome = await run(Order(SEED, jobs=40, classes=frozenset(), window=8, first_lost=True), state)
    show(Console(), outcome)
    assert outcome.ok
    assert outcome.injected["event lost"] >= 3 * 40
    interval = LOST_SECONDS + outcome.reaping_seconds
    for name, seconds in outcome.delays.items():
        assert seconds < interval + SLOW_SECONDS, name
    assert outcome.delays["finished to reported"] > LOST_SECONDS
