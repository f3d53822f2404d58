"""What every refusal looks like, and that it changes nothing."""

from __future__ import annotations

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
    """Nothing in the database is other afterwards than before."""
    before = await stage.contents()
    yield
    assert await stage.contents() == before
