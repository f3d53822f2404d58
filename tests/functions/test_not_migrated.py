"""Before the migration has run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.events import PING, Doorbell, Type
from tests.conftest import fresh_database
from tests.functions.stage import Stage, open_stage

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.fixture
async def bare(postgres_server_url: str, valkey_settings: dict[str, str], tmp_path: Path) -> AsyncIterator[Stage]:
    """Functions on an empty database."""
    for url in fresh_database(postgres_server_url, "template1"):
        async with open_stage(url, valkey_settings, tmp_path / "p") as stage:
            yield stage


async def test_callers_are_told_what_is_missing(bare: Stage) -> None:
    """503 with Retry-After and the remedy; events and ticks come again."""
    wish = {"provider": "metrofiber", "action": "validation"}
    answers = [
        await bare.call("submit_job", "POST", "/jobs", json=wish),
        await bare.call("monitor", "GET", "/status"),
        await bare.send("provision_browser", Doorbell(Type.JOB_SUBMITTED, 1, 1, TRACE)),
        await bare.clients["reap_idle"].post(
            "/", json={}, headers={"ce-id": "1", "ce-source": "/ping", "ce-type": PING, "ce-specversion": "1.0"}
        ),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (503, "not_migrated")
        assert answer.headers["retry-after"]
        assert "run the migration" in answer.json()["detail"]
