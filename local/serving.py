"""Sockets of this machine, and an ASGI application served inside this process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from starlette.applications import Starlette

BACKLOG = 2048


def listen(port: int = 0) -> socket.socket:
    """A socket on a free port, or this one. Who connects before anybody serves waits, as Knative's callers do."""
    listener = socket.create_server(("127.0.0.1", port), backlog=BACKLOG)
    # Accepted connections inherit it. uvicorn takes what it gets by --fd for a Unix socket and would not set it:
    # the body of an answer waited 40 ms behind its head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def reserve() -> socket.socket:
    """A socket that keeps a free port for a child, which binds it too: while it starts, and while it restarts."""
    holder = socket.socket()
    # Two may bind one port under this option as long as one of them at most listens.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder


def url(listener: socket.socket) -> str:
    """Its address."""
    host, port = listener.getsockname()
    return f"http://{host}:{port}"


@contextlib.asynccontextmanager
async def serving(app: Starlette, port: int = 0) -> AsyncIterator[str]:
    """The address of an application while it is served, on a free port or this one."""
    with listen(port) as listener:
        server = _Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none"))
        task = asyncio.create_task(server.serve([listener]))
        try:
            yield url(listener)
        finally:
            server.should_exit = server.force_exit = True
            await task


class _Server(uvicorn.Server):
    """Its process' signals are its owner's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
