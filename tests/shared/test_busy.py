"""A process takes so many requests at once; others wait a little, and are then told to come again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from shared.http import AT_ONCE, application, route
from shared.operation import Answer, Operation
from shared.places import PLACE_SECONDS, WAITING
from tests.serving import eventually

pytestmark = pytest.mark.alone

WORK = Operation(summary="Work", answers={204: Answer()})


class Function:
    """A function that works on every request until the test lets it go."""

    def __init__(self) -> None:
        self.begun = 0
        self.go = asyncio.Event()
        answer = application([route("GET", "/", self._work, WORK)], self._ready, about="worker: works")

        async def take(_request: Request) -> Response:
            return answer

        transport = httpx.ASGITransport(Starlette(routes=[Route("/{path:path}", take)]))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://function", timeout=None)  # noqa: S113

    async def _work(self, _request: Request) -> Response:
        self.begun += 1
        await self.go.wait()
        return Response(status_code=204)

    async def _ready(self) -> None:
        """It is."""

    def ask(self, how_many: int) -> list[asyncio.Task[httpx.Response]]:
        """Ask so often at once."""
        return [asyncio.create_task(self.http.get("/")) for _ in range(how_many)]


@pytest.fixture
async def full() -> AsyncIterator[Function]:
    """A function that has all that it takes."""
    function = Function()
    taken = function.ask(AT_ONCE)
    await eventually(lambda: function.begun == AT_ONCE)
    yield function
    function.go.set()
    assert {answer.status_code for answer in await asyncio.gather(*taken)} == {204}
    await function.http.aclose()


async def test_who_comes_on_top_is_told_to_come_again(full: Function) -> None:
    """After a while, for callers that come back at once would take the time of those who are in."""
    began = time.monotonic()
    answer = await full.http.get("/")
    assert time.monotonic() - began >= PLACE_SECONDS
    assert (answer.status_code, answer.json()["code"]) == (503, "busy")
    assert int(answer.headers["Retry-After"]) > 0
    assert full.begun == AT_ONCE


async def test_who_waits_gets_the_next_place(full: Function) -> None:
    """A burst that is over soon costs nobody an error."""
    (waiting,) = full.ask(1)
    await asyncio.sleep(0)
    full.go.set()
    assert (await waiting).status_code == 204


async def test_not_everybody_may_wait(full: Function) -> None:
    """When too many wait already, the next one is told at once."""
    waiting = full.ask(WAITING)
    late = full.ask(1)[0]
    done, _ = await asyncio.wait([late, *waiting], return_when=asyncio.FIRST_COMPLETED)
    assert late in done
    assert late.result().status_code == 503
    full.go.set()
    await asyncio.gather(*waiting)


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
async def test_health_waits_for_no_place(full: Function, path: str) -> None:
    """Kubernetes must not end a function for having much to do."""
    async with asyncio.timeout(PLACE_SECONDS / 2):
        assert (await full.http.get(path)).status_code == 200
