"""The worker's HTTP side: `/status`, `/execute`, `/health`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, TypedDict

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from rpa_worker.errors import AttemptOver, Busy, InvalidOrder, NotConfirmed
from rpa_worker.order import Order

if TYPE_CHECKING:
    from rpa_worker.worker import Worker

RETRY_AFTER_SECONDS = 5


class State(TypedDict):
    """What lives as long as the server."""

    client: httpx.AsyncClient


def make_app(worker: Worker) -> Starlette:
    """The ASGI app of this worker."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[State]:
        # The orchestrator is a neighbour: a token must not travel through a proxy.
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(limits=limits, trust_env=False) as client:
            yield State(client=client)
            await worker.drain()

    async def status(_: Request) -> JSONResponse:
        return JSONResponse(worker.status())

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def execute(request: Request) -> JSONResponse:
        try:
            order = Order.parse(await _json(request), request.headers.get("traceparent"))
            await worker.receive(order, request.state.client)
        except InvalidOrder as error:
            fault = {"field": error.field, "message": error.problem}
            return problem(422, "This worker cannot follow the order", str(error), errors=[fault])
        except AttemptOver as error:
            return problem(409, "The attempt is over", str(error))
        except NotConfirmed as error:
            return problem(403, "The orchestrator did not give this order", str(error))
        except httpx.HTTPError:
            detail = "whether it gave this order is not known; give it again"
            return problem(503, "The orchestrator does not answer", detail, retry_after=RETRY_AFTER_SECONDS)
        except Busy as error:
            return problem(429, "The worker is busy", str(error), retry_after=RETRY_AFTER_SECONDS)
        return JSONResponse({"status": "accepted", "heartbeat_seconds": worker.heartbeat_seconds})

    routes = [
        Route("/status", status),
        Route("/health", health),
        Route("/execute", execute, methods=["POST"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


async def _json(request: Request) -> object:
    try:
        return json.loads(await request.body())
    except ValueError:
        raise InvalidOrder("body", "must be JSON") from None


def problem(
    status: int,
    title: str,
    detail: str,
    *,
    errors: Sequence[dict[str, str]] = (),
    retry_after: int | None = None,
) -> JSONResponse:
    """An answer after RFC 9457."""
    body: dict[str, object] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if errors:
        body["errors"] = list(errors)
    headers = {"retry-after": str(retry_after)} if retry_after else None
    return JSONResponse(body, status, headers, media_type="application/problem+json")
