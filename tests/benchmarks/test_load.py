"""The callers of the benchmarks: as many as wished, each again and again, and no answer but a good one."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from benchmarks.load import Load, put_on
from tests.serving import serving

CALLERS = 3


class Server:
    """Takes 10 ms for each answer."""

    def __init__(self, status: int = 201) -> None:
        self.status = status
        self.tokens: Counter[str] = Counter()
        self.bodies: set[bytes] = set()
        self.here = 0
        self.most = 0

    def app(self) -> Starlette:
        async def answer(request: Request) -> Response:
            self.here += 1
            self.most = max(self.most, self.here)
            self.tokens[request.headers["authorization"]] += 1
            self.bodies.add(await request.body())
            await asyncio.sleep(0.01)
            self.here -= 1
            return JSONResponse({"detail": "said by the server"}, self.status)

        return Starlette(routes=[Route("/jobs", answer, methods=["POST"])])


async def test_every_caller_asks_again_and_again() -> None:
    """All at once, with the tokens in turn; each answer is counted."""
    server = Server()
    async with serving(server.app()) as url:
        answered = await put_on(Load(f"{url}/jobs", '{"a": 1}', ["x", "y"], CALLERS, 0.5))
    assert server.most == CALLERS
    assert server.bodies == {b'{"a": 1}'}
    assert len(answered.milliseconds) == server.tokens.total() > 2 * CALLERS
    assert abs(server.tokens["Bearer x"] - server.tokens["Bearer y"]) <= 1
    assert min(answered.milliseconds) > 9
    assert answered.seconds >= 0.5


async def test_a_refusal_ends_it() -> None:
    """Quick refusals must not pass for throughput; the error has what the server said."""
    async with serving(Server(429).app()) as url:
        with pytest.raises(RuntimeError, match=r"429.*said by the server"):
            await put_on(Load(f"{url}/jobs", "{}", ["x"], CALLERS, 0.5))
