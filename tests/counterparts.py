"""The worker's counterparts: an orchestrator that records what it hears, and a real browser."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from playwright._impl._driver import compute_driver_executable
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.serving import eventually

TOKEN = "token-of-this-attempt"


class OrchestratorStandIn:
    """Answers as the contract says, unless a test queues another answer for that call."""

    def __init__(self) -> None:
        self.url = ""
        self.watched = False
        self.lease_seconds = 60.0
        self.heard: list[tuple[str, Any]] = []
        self.headers: list[httpx.Headers] = []
        self.queued: dict[str, deque[Response]] = {}
        self.held: dict[str, asyncio.Event] = {}
        self.codes = iter(f"{number:06}" for number in range(111111, 999999, 111111))
        routes = [
            Route("/callbacks/heartbeat", self._heartbeat, methods=["POST"]),
            Route("/callbacks/picture", self._picture, methods=["PUT"]),
            Route("/callbacks/job-complete", self._complete, methods=["POST"]),
            Route("/callbacks/evidence/{name}", self._evidence, methods=["PUT"]),
            Route("/totp/{provider}", self._totp, methods=["POST"]),
        ]
        self.app = Starlette(routes=routes)

    def answer(self, call: str, *responses: Response) -> None:
        """Give these answers to the next such calls."""
        self.queued.setdefault(call, deque()).extend(responses)

    def hold(self, call: str) -> asyncio.Event:
        """Answer such calls once this is set."""
        return self.held.setdefault(call, asyncio.Event())

    def calls(self, name: str) -> list[Any]:
        return [content for call, content in self.heard if call == name]

    @property
    def completion(self) -> dict[str, Any]:
        """The one completion; fails where there are more or none."""
        (body,) = self.calls("complete")
        return body

    async def completed(self) -> dict[str, Any]:
        await eventually(lambda: self.calls("complete"))
        return self.completion

    async def _heartbeat(self, request: Request) -> Response:
        usual = {"status": "running", "lease_expires_at": "2030-01-01T00:00:00Z", "watched": self.watched}
        usual["lease_seconds"] = self.lease_seconds
        heard = self._hear("heartbeat", request, await request.json())
        if held := self.held.get("heartbeat"):
            await held.wait()
        return heard or JSONResponse(usual)

    async def _picture(self, request: Request) -> Response:
        usual = {"status": "running", "watched": self.watched}
        return self._hear("picture", request, await request.body()) or JSONResponse(usual)

    async def _complete(self, request: Request) -> Response:
        return self._hear("complete", request, await request.json()) or JSONResponse({})

    async def _evidence(self, request: Request) -> Response:
        content = (request.path_params["name"], request.headers["content-type"], await request.body())
        return self._hear("evidence", request, content) or JSONResponse({}, 201)

    async def _totp(self, request: Request) -> Response:
        content = (request.path_params["provider"], await request.json())
        if queued := self._hear("totp", request, content):
            return queued
        return JSONResponse({"code": next(self.codes), "account": "OCTOTEL", "valid_for_seconds": 20})

    def _hear(self, call: str, request: Request, content: Any) -> Response | None:
        self.heard.append((call, content))
        self.headers.append(httpx.Headers(request.headers.raw))
        queue = self.queued.get(call)
        return queue.popleft() if queue else None


class Client:
    """What the dispatcher does to a worker."""

    def __init__(self, http: httpx.AsyncClient, orchestrator: OrchestratorStandIn) -> None:
        self.http = http
        self._orchestrator = orchestrator

    async def execute(self, job_id: int = 1, attempt: int = 1, **changes: Any) -> httpx.Response:
        body = {
            "job_id": job_id,
            "attempt": attempt,
            "provider": "octotel",
            "action": "validation",
            "parameters": {"circuit": "C-1"},
            "browser_service_url": None,
            "browser_service_id": None,
            "totp_url": self._orchestrator.url,
            "orchestrator_callback": self._orchestrator.url,
            "token": TOKEN,
            "account": None,
            "something_new": {"from": "a later version"},
            **changes,
        }
        return await self.http.post("/execute", json=body, headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})


@contextlib.asynccontextmanager
async def running_browser() -> AsyncIterator[str]:
    """A real browser behind a WebSocket, as a browser pod has it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = f"{folder}/config.json"
        settings = {
            "channel": "moz-firefox",
            "executablePath": "/usr/bin/firefox-esr",
            "headless": True,
            "host": "127.0.0.1",
            "port": port,
            "wsPath": "/secret-path",
        }
        Path(config).write_text(json.dumps(settings))  # noqa: ASYNC240 - nothing else runs yet
        node, cli = compute_driver_executable()
        server = await asyncio.create_subprocess_exec(
            node, cli, "launch-server", "--browser", "firefox", "--config", config,
            stdout=asyncio.subprocess.PIPE, env={**os.environ, "HOME": folder},
        )  # fmt: skip
        assert server.stdout is not None
        async with asyncio.timeout(60):
            url = (await server.stdout.readline()).decode().strip()
        yield url
        with contextlib.suppress(ProcessLookupError):
            server.terminate()
        await server.communicate()
