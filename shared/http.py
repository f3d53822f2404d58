"""HTTP: routes, bodies with a bound, and errors as RFC 9457 problem details.

Problem      the request is refused; says which field and what to do
Unavailable  a store does not answer; the caller may try again
Busy         too many ask at once; the caller may try again
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from shared import logs
from shared.db import NOT_MIGRATED, UNAVAILABLE
from shared.places import NoPlace, Places
from shared.tracing import continued, trace_id

BODY_LIMIT = 256 * 1024
PAGE_DEFAULT = 50
PAGE_LIMIT = 200
RETRY_AFTER_SECONDS = 2
AT_ONCE = 200
"""Requests that a process works on, unless it says otherwise. More than any containerConcurrency: where Knative stands
before us, it holds callers back and adds pods."""

Handler = Callable[[Request], Awaitable[Response]]
Model = TypeVar("Model", bound=BaseModel)

_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Problem(Exception):
    """The request is refused."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        code: str | None = None,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.code = code
        self.errors = list(errors)
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The answer, as application/problem+json."""
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": _TITLES.get(self.status, "Error"),
            "status": self.status,
            "detail": self.detail,
        }
        if self.code:
            body["code"] = self.code
        if self.errors:
            body["errors"] = self.errors
        return JSONResponse(body, self.status, self.headers, media_type="application/problem+json")


class Busy(Problem):
    """More is asked at once than can be done soon; nothing was begun."""

    def __init__(self) -> None:
        super().__init__(
            503,
            "more is asked than can be done now; try again",
            code="busy",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )


class Unavailable(Problem):
    """A store or neighbour does not answer; nothing was changed."""

    def __init__(self, what: str, retry_after: int = RETRY_AFTER_SECONDS) -> None:
        super().__init__(
            503,
            f"{what} does not answer; try again",
            code="unavailable",
            headers={"Retry-After": str(retry_after)},
        )


def invalid(field: str, message: str) -> Problem:
    """One field of the request is wrong; the message says what would be right."""
    return Problem(422, f"{field}: {message}", code="invalid", errors=[{"field": field, "message": message}])


def too_many(retry_after: int, detail: str) -> Problem:
    """The caller asks too often; retry_after in seconds."""
    return Problem(429, detail, code="rate_limited", headers={"Retry-After": str(retry_after)})


async def read(request: Request, limit: int = BODY_LIMIT) -> bytes:
    """The body, `limit` bytes at most. Raises Problem 413."""
    too_large = Problem(413, f"body: larger than {limit} bytes; send less", code="too_large")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body)


async def parse(request: Request, model: type[Model], *, empty: bytes | None = None) -> Model:
    """The JSON body as a model. Raises Problem 413, 415 or 422 that names every wrong field."""
    body = await read(request)
    if not body and empty is not None:
        body = empty
    elif request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "Content-Type: must be application/json", code="media_type")
    return validate(model, body)


def validate(model: type[Model], body: bytes) -> Model:
    """JSON text as a model. Raises Problem 422 that names every wrong field."""
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise from_validation(error) from None


def from_validation(error: ValidationError) -> Problem:
    """What pydantic found wrong, a field a line, without the values."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    errors = [
        {"field": ".".join(map(str, e["loc"])) or "body", "message": e["msg"].removeprefix("Value error, ")}
        for e in found
    ]
    detail = "; ".join(f"{e['field']}: {e['message']}" for e in errors[:20])
    return Problem(422, detail, code="invalid", errors=errors[:20])


def dump(model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A model as the JSON answer."""
    return Response(model.model_dump_json(), status, headers, media_type="application/json")


def route(method: str, path: str, handler: Handler) -> Route:
    """A route whose handler may raise Problem, and which logs one line for each request."""
    name = handler.__name__

    async def endpoint(request: Request) -> Response:
        started = time.perf_counter()
        request.state.traceparent = continued(request.headers.get("traceparent"))
        logs.bind(trace_id=trace_id(request.state.traceparent))
        response = await _answer(handler, request)
        milliseconds = round((time.perf_counter() - started) * 1000, 1)
        logs.info("request", method=method, route=path, status=response.status_code, milliseconds=milliseconds)
        return response

    return Route(path, endpoint, methods=[method], name=name)


async def _answer(handler: Handler, request: Request) -> Response:
    try:
        return await handler(request)
    except Problem as problem:
        logs.info("refused", status=problem.status, detail=problem.detail)
        return problem.response()
    except UNAVAILABLE as error:
        logs.warning("database unavailable", reason=type(error).__name__)
        return Unavailable("the database").response()
    except NOT_MIGRATED as error:
        logs.warning("database not migrated", reason=str(error).partition("\n")[0])
        return Problem(
            503,
            "the database has not this version's schema; run the migration",
            code="not_migrated",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        ).response()
    except NoPlace:
        logs.info("busy")
        return Busy().response()
    except ClientDisconnect:
        return Response(status_code=400)
    except Exception:  # the last line of defence: the caller learns nothing, the log everything
        logs.error("unexpected", exc_info=True)
        return Problem(500, "an error of ours; it is in the log under this request's trace id").response()


def home_page(function: str, revision: str) -> Response:
    """What `GET /` answers: who this is, and of which revision."""
    return JSONResponse({"name": "rpa-orchestrator", "function": function, "revision": revision})


def page_limit(text: str | None) -> int:
    """The query's `limit` of a list. Raises Problem 422."""
    if text is None:
        return PAGE_DEFAULT
    if text.isdecimal() and text.isascii() and 1 <= int(text[:9]) <= PAGE_LIMIT:
        return int(text)
    raise invalid("limit", f"must be a number from 1 to {PAGE_LIMIT}")


async def _not_found(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    headers = getattr(error, "headers", None)
    detail = "no such path" if status == 404 else "this path does not take this method"
    return Problem(status, detail, headers=headers).response()


class Application(Response):
    """A whole application that a functions-framework handler returns in place of a response."""

    def __init__(self, application: ASGIApp, at_once: int) -> None:
        super().__init__()
        self._application = application
        self._places = Places(at_once)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request that functions-framework took; health is told however many there are."""
        if scope["path"].startswith("/health"):
            return await self._application(scope, receive, send)
        try:
            async with self._places.place():
                await self._application(scope, receive, send)
        except NoPlace:
            logs.info("busy", path=scope["path"])
            await Busy().response()(scope, receive, send)


def application(
    routes: Iterable[Route], ready: Callable[[], Awaitable[None]], *, at_once: int = AT_ONCE
) -> Application:
    """A function's application: its routes and the health routes. `ready` raises where a store is missing.

    `at_once`: how many requests it works on.
    """

    async def live(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready_(request: Request) -> Response:
        await ready()
        return await live(request)

    health = [
        route("GET", "/health/live", live),
        route("GET", "/health/ready", ready_),
        route("GET", "/health", ready_),
    ]
    answer = Starlette(routes=[*routes, *health], exception_handlers={HTTPException: _not_found})
    return Application(answer, at_once)


def json_bytes(value: object) -> bytes:
    """Canonical JSON: sorted keys, no spaces; the same content gives the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str).encode()
