"""A worker, its orchestrator and its browser."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from rpa_worker import Worker
from rpa_worker.patience import Patience
from tests.counterparts import Client, OrchestratorStandIn, running_browser
from tests.serving import serving

HASTE = Patience(first=0.01, longest=0.05, give_up_after=2.0)


@pytest.fixture
async def worker() -> Worker:
    """A worker in a hurry: two attempts at once, a heartbeat 20 times a second."""
    return Worker(capacity=2, heartbeat_seconds=0.05, drain_seconds=0.2, browser="firefox", patience=HASTE)


@pytest.fixture
async def client(worker: Worker, orchestrator: OrchestratorStandIn) -> AsyncIterator[Client]:
    """The worker's HTTP side, served; ended with the test."""
    async with serving(worker.app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        yield Client(http, orchestrator)


@pytest.fixture(scope="session")
async def browser_url() -> AsyncIterator[str]:
    async with running_browser() as url:
        yield url
