"""The browser node: kubelet's role on this machine. Functions start and end browsers here over HTTP.

Browsers outlive functions, as pods do, and never the node.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import signal
from pathlib import Path

import uvicorn
from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from local.browsers import BrowserProcesses
from local.process import MARK

LONGEST_WAIT_SECONDS = 120.0
PAGE = 200
HEALTH = "/health/ready"


class Order(BaseModel):
    """A browser to start."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    secret_path: str = Field(pattern=r"^/[A-Za-z0-9_-]{16,128}$", repr=False)
    lifetime_seconds: int = Field(ge=1)
    job_id: int | None = None
    attempt: int | None = None


class Guard:
    """Lets nobody through without the token, except to ask whether the node is up."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != HEALTH:
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                return await Response(status_code=401)(scope, receive, send)
        return await self._app(scope, receive, send)


class Node:
    """The node's HTTP side."""

    def __init__(self, browsers: BrowserProcesses, token: str) -> None:
        self._browsers = browsers
        self._token = token

    def app(self) -> Starlette:
        """Its routes."""
        return Starlette(
            routes=[
                Route(HEALTH, self._health),
                Route("/browsers", self._create, methods=["POST"]),
                Route("/browsers", self._list, methods=["GET"]),
                Route("/browsers/{name}", self._get, methods=["GET"]),
                Route("/browsers/{name}", self._delete, methods=["DELETE"]),
            ],
            middleware=[Middleware(Guard, token=self._token)],
            exception_handlers={ValueError: _refuse},
        )

    async def _health(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _create(self, request: Request) -> Response:
        order = Order.model_validate_json(await request.body())
        return JSONResponse(self._browsers.create(**order.model_dump()).json(), 201)

    async def _list(self, request: Request) -> Response:
        after = request.query_params.get("cursor", "")
        limit = min(max(int(request.query_params.get("limit", PAGE)), 1), PAGE)
        found = sorted((b for b in self._browsers if b.name > after), key=lambda b: b.name)
        cursor = found[limit - 1].name if len(found) > limit else None
        return JSONResponse({"items": [b.json() for b in found[:limit]], "next_cursor": cursor})

    async def _get(self, request: Request) -> Response:
        """One browser; with ?wait=SECONDS once it is ready or failed."""
        browser = self._browsers.get(request.path_params["name"])
        if browser is None:
            return Response(status_code=404)
        seconds = min(float(request.query_params.get("wait", "0")), LONGEST_WAIT_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0)):
                await browser.settled.wait()
        return JSONResponse(browser.json())

    async def _delete(self, request: Request) -> Response:
        await self._browsers.delete(request.path_params["name"])
        return Response(status_code=204)


async def _refuse(_request: Request, error: Exception) -> Response:
    # What was wrong, without the input: it may hold a secret path.
    wrong = "; ".join(_problems(error)) if isinstance(error, ValidationError) else "not a number"
    return JSONResponse({"reason": wrong}, 422)


def _problems(error: ValidationError) -> list[str]:
    return [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False, include_url=False)]


async def serve(port: int, token: str, state: Path) -> None:
    """Serve until told to stop; then no browser is left."""
    browsers = BrowserProcesses(state)
    config = uvicorn.Config(
        Node(browsers, token).app(), host="127.0.0.1", port=port, log_level="warning", access_log=False,
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    # uvicorn raises the signal that stopped it once more, which must not end us before the browsers.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)
    try:
        await uvicorn.Server(config).serve()
    finally:
        await browsers.delete_all()


if __name__ == "__main__":
    asyncio.run(serve(int(os.environ["PORT"]), os.environ["BROWSER_NODE_TOKEN"], Path(os.environ[MARK])))
