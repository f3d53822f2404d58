"""Serving one of the demo's pieces on this machine."""

from __future__ import annotations

import os

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp


async def _health(_: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


HEALTH = Route("/health", _health)


def serve(app: ASGIApp) -> None:
    """Serve on PORT until SIGTERM. Requests are not logged: their addresses may hold secrets."""
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ["PORT"])
    uvicorn.run(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=2)
