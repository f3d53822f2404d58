"""What every refusal looks like, and that it changes nothing."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from tests.functions.stage import Stage


def refusal(answer: httpx.Response, status: int, *fields: str) -> dict[str, str]:
    """The problem details (RFC 9457) of a refused request; its detail names these fields and a remedy."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["status"] == status
    for field in fields:
        assert f"{field}: " in problem["detail"], problem["detail"]
    if status == 422:
        assert {error["field"] for error in problem["errors"]} == set(fields)
    return problem


@asynccontextmanager
async def unchanged(stage: Stage) -> AsyncIterator[None]:
    """Nothing is other afterwards than before: in the database, in Valkey (but what ran out), outside."""
    before = await stage.contents()
    reserved, seen = await stage.reserved(), stage.outside()
    yield
    assert await stage.contents() == before
    assert stage.outside() == seen
    after, now = await stage.reserved(), time.time() * 1000  # Valkey is on this machine
    assert _left(after, now) == _left(reserved, now)


def _left(held: dict[str, tuple[bytes, int]], now: float) -> dict[str, tuple[bytes, int]]:
    return {key: (value, end) for key, (value, end) in held.items() if end < 0 or end > now}
