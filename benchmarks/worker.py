"""A worker that takes every job, does nothing, and notes when each order came; and an operator's client of a system."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from demo.api import Api
from local.serving import serving
from local.system import LocalSystem

Order = dict[str, Any]


@dataclass
class Worker:
    """Orders with the time of their arrival, by the clock of `time.perf_counter`."""

    url: str = ""
    orders: asyncio.Queue[tuple[float, Order]] = field(default_factory=asyncio.Queue)

    async def status(self, _request: Request) -> Response:
        """GET /status"""
        return JSONResponse({"available": True})

    async def execute(self, request: Request) -> Response:
        """POST /execute"""
        arrived = time.perf_counter()
        self.orders.put_nowait((arrived, await request.json()))
        return JSONResponse({"status": "accepted"})


@contextlib.asynccontextmanager
async def working() -> AsyncIterator[Worker]:
    """A worker while it is served."""
    worker = Worker()
    routes = [Route("/status", worker.status), Route("/execute", worker.execute, methods=["POST"])]
    async with serving(Starlette(routes=routes)) as worker.url:
        yield worker


@contextlib.asynccontextmanager
async def operator(system: LocalSystem) -> AsyncIterator[httpx.AsyncClient]:
    """A client of submit_job that has the administrator's token."""
    async with httpx.AsyncClient(base_url=system.env["SUBMIT_URL"], trust_env=False, timeout=30) as http:
        await Api(http).log_in(system.env["ADMIN_USERNAME"], system.env["ADMIN_PASSWORD"])
        yield http
