"""A subscriber that answers as told and keeps what it received."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.serving import serving


@dataclass
class Received:
    """One request."""

    at: float
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Subscriber:
    """Gives its answers in order; the last one for ever."""

    answers: Iterable[Response]
    pause: float = 0
    url: str = ""
    received: list[Received] = field(default_factory=list)

    async def handle(self, request: Request) -> Response:
        """Keep the request and answer."""
        now = asyncio.get_running_loop().time()
        self.received.append(Received(now, request.url.path, dict(request.headers), await request.body()))
        await asyncio.sleep(self.pause)
        answers = list(self.answers)
        return answers[min(len(self.received), len(answers)) - 1]

    def pauses(self) -> list[float]:
        """Seconds between what was received."""
        times = [received.at for received in self.received]
        return [later - earlier for earlier, later in itertools.pairwise(times)]


@contextlib.asynccontextmanager
async def subscriber(*answers: Response | int, pause: float = 0) -> AsyncIterator[Subscriber]:
    """One that serves; a number is an empty answer."""
    told = [Response(status_code=answer) if isinstance(answer, int) else answer for answer in answers]
    subscribed = Subscriber(told, pause)
    app = Starlette(routes=[Route("/{path:path}", subscribed.handle, methods=["POST"])])
    async with serving(app) as subscribed.url:
        yield subscribed
