"""The ORDS stand-in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from demo.ords import Ords
from tests.serving import serving


def reporting(key: str) -> dict[str, str]:
    return {"authorization": "Bearer ords-token", "idempotency-key": key}


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = Ords("ords-token", tmp_path / "ords.json").app
    async with serving(app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        yield client


async def test_same_key(http: httpx.AsyncClient, tmp_path: Path) -> None:
    """The same Idempotency-Key is acknowledged again and listed once; a restart forgets nothing."""
    for _ in range(2):
        answer = await http.post("/callbacks/job", json={"job_id": 1}, headers=reporting("one"))
        assert answer.status_code == 200
    inbox = (await http.get("/")).json()["items"]
    assert inbox == [{"idempotency_key": "one", "duplicates": 1, "body": {"job_id": 1}}]
    again = Ords("ords-token", tmp_path / "ords.json").app
    async with serving(again) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        assert (await client.get("/")).json()["items"] == inbox


async def test_failing(http: httpx.AsyncClient) -> None:
    """Told to fail, it refuses so many reports, keeps none of them, and then works again."""
    await http.post("/fail", json={"times": 2, "status": 503})
    codes = [
        (await http.post("/callbacks/job", json={"job_id": 1}, headers=reporting("one"))).status_code for _ in range(3)
    ]
    assert codes == [503, 503, 200]
    assert (await http.get("/")).json()["items"][0]["duplicates"] == 0


async def test_refused(http: httpx.AsyncClient) -> None:
    """A report with another token, or without a key, is not kept."""
    wrong = {"authorization": "Bearer guess", "idempotency-key": "one"}
    assert (await http.post("/callbacks/job", json={}, headers=wrong)).status_code == 401
    assert (await http.post("/health-report", json={}, headers=wrong)).status_code == 401
    headers = {"authorization": "Bearer ords-token"}
    assert (await http.post("/callbacks/job", json={}, headers=headers)).status_code == 400
    assert (await http.get("/")).json() == {"items": [], "health_reports": []}


async def test_health_report(http: httpx.AsyncClient) -> None:
    """Health reports are kept beside the inbox."""
    await http.post("/health-report", json={"status": "ok"}, headers=reporting("x"))
    assert (await http.get("/")).json()["health_reports"] == [{"status": "ok"}]
