"""The browser node: kubelet's role on this machine. Functions start and end browsers here over HTTP.

Browsers outlive functions, as pods do, and never the node.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from pathlib import Path

import uvicorn
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local.browsers import BrowserProcesses
from shared.browsers import Phase

LONGEST_WAIT_SECONDS = 120.0
PAGE = 200


class Order(BaseModel):
    """A browser to start."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    secret_path: str = Field(pattern=r"^/[A-Za-z0-9_-]{16,128}$", repr=False)
    lifetime_seconds: int = Field(ge=1)
    job_id: int
    attempt: int


class Node:
    """The node's HTTP side."""

    def __init__(self, browsers: BrowserProcesses, token: str) -> None:
        self._browsers = browsers
        self._token = token

    def app(self) -> Starlette:
        """Its routes."""
        return Starlette(
            routes=[
                Route("/health/ready", self._health),
                Route("/browsers", self._create, methods=["POST"]),
                Route("/browsers", self._list, methods=["GET"]),
                Route("/browsers/{name}", self._get, methods=["GET"]),
                Route("/browsers/{name}", self._delete, methods=["DELETE"]),
            ]
        )

    async def _health(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    def _allowed(self, request: Request) -> bool:
        return hmac.compare_digest(request.headers.get("authorization", ""), f"Bearer {self._token}")

    async def _create(self, request: Request) -> Response:
        if not self._allowed(request):
            return Response(status_code=401)
        order = Order.model_validate_json(await request.body())
        browser = await self._browsers.create(**order.model_dump())
        return JSONResponse(browser.json(), 201)

    async def _list(self, request: Request) -> Response:
        if not self._allowed(request):
            return Response(status_code=401)
        after = request.query_params.get("cursor", "")
        found = sorted((b for b in self._browsers if b.name > after), key=lambda b: b.name)
        cursor = found[PAGE - 1].name if len(found) > PAGE else None
        return JSONResponse({"items": [b.json() for b in found[:PAGE]], "next_cursor": cursor})

    async def _get(self, request: Request) -> Response:
        """One browser; with ?wait=SECONDS once it is ready or failed."""
        if not self._allowed(request):
            return Response(status_code=401)
        browser = self._browsers.get(request.path_params["name"])
        if browser is None:
            return Response(status_code=404)
        seconds = min(float(request.query_params.get("wait", "0")), LONGEST_WAIT_SECONDS)
        if browser.phase is Phase.STARTING and seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await browser.changed.wait()
            except TimeoutError:
                pass
        return JSONResponse(browser.json())

    async def _delete(self, request: Request) -> Response:
        if not self._allowed(request):
            return Response(status_code=401)
        await self._browsers.delete(request.path_params["name"])
        return Response(status_code=204)


async def serve(port: int, token: str, state: Path) -> None:
    """Serve until told to stop; then no browser is left."""
    browsers = BrowserProcesses(state)
    config = uvicorn.Config(
        Node(browsers, token).app(), host="127.0.0.1", port=port, log_level="warning", access_log=False,
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    try:
        await uvicorn.Server(config).serve()
    finally:
        await browsers.delete_all()


if __name__ == "__main__":
    asyncio.run(serve(int(os.environ["PORT"]), os.environ["BROWSER_NODE_TOKEN"], Path(os.environ["RPA_LOCAL"])))
