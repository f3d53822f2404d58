"""Serving an ASGI app on a free port of this machine, and waiting for what it brings about."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

import httpx
import uvicorn
from starlette.types import ASGIApp


@contextlib.asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """The URL of the app while it serves; its lifespan runs too."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1, ws="none")
        server = uvicorn.Server(config)
        task = asyncio.create_task(server._serve([listener]))  # serve() would catch the test run's signals
        await eventually(lambda: server.started)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


async def eventually(condition: Callable[[], object], *, within: float = 60.0) -> None:
    """Wait for a condition; TimeoutError when it does not come true."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - the condition may be anything
            await asyncio.sleep(0.01)


async def reachable(http: httpx.AsyncClient, *, within: float = 20.0) -> None:
    """Wait until a server that was just started answers `GET /health`."""
    async with asyncio.timeout(within):
        while True:
            with contextlib.suppress(httpx.TransportError):
                (await http.get("/health")).raise_for_status()
                return
            await asyncio.sleep(0.05)
