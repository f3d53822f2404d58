"""The way to the Kubernetes API, with faults that tests put into it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, Callable

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

Fault = Callable[[Request], Response | None]
KEPT = {"authorization", "content-type", "accept"}


def refusal(status: int, reason: str, headers: dict[str, str] | None = None) -> Response:
    """An answer as the API gives it when it cannot serve."""
    body = {
        "kind": "Status",
        "status": "Failure",
        "code": status,
        "reason": reason,
        "message": f"{reason}, says a test",
    }
    return Response(json.dumps(body), status, headers, media_type="application/json")


class Forwarder:
    """Forwards to the API; what a fault answers is answered instead."""

    def __init__(self, api: str, trusted: str) -> None:
        context = ssl.create_default_context(cafile=trusted)
        unlimited = httpx.Limits(max_connections=None)
        self._http = httpx.AsyncClient(base_url=api, verify=context, timeout=60, trust_env=False, limits=unlimited)
        self._streams: set[asyncio.Task[object]] = set()
        self.url = ""
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.watches = 0
        """How many watches have begun."""

    def app(self) -> Starlette:
        """Everything there is."""
        methods = ["GET", "POST", "DELETE"]
        return Starlette(routes=[Route("/{path:path}", self._forward, methods=methods)])

    async def _forward(self, request: Request) -> Response:
        self.requests.append(f"{request.method} {request.url.path}")
        if answer := next((answer for fault in list(self.faults) if (answer := fault(request))), None):
            return answer
        headers = {name: value for name, value in request.headers.items() if name in KEPT}
        url = httpx.URL(request.url.path, query=request.url.query.encode())
        forwarded = self._http.build_request(request.method, url, headers=headers, content=await request.body())
        upstream = await self._http.send(forwarded, stream=True)
        own = {"content-type": upstream.headers["content-type"]}
        if "watch" in request.query_params:
            return StreamingResponse(self._stream(upstream), upstream.status_code, own)
        content = await upstream.aread()
        await upstream.aclose()
        return Response(content, upstream.status_code, own)

    async def _stream(self, upstream: httpx.Response) -> AsyncGenerator[bytes, None]:
        task = asyncio.current_task()
        assert task
        self._streams.add(task)
        self.watches += 1
        try:
            async for chunk in upstream.aiter_raw():
                yield chunk
        finally:
            self._streams.discard(task)
            await upstream.aclose()

    def cut(self) -> int:
        """Break every watch off in the middle; how many there were."""
        for task in (streams := list(self._streams)):
            task.cancel()
        return len(streams)

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._http.aclose()
