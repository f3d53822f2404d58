"""HTTP: routes, bodies with a bound, and errors as RFC 9457 problem details.

Problem      the request is refused; says which field and what to do
Unavailable  a store does not answer; the caller may try again
Busy         too many ask at once; the caller may try again
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.convertors import IntegerConvertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from shared import logs, spans
from shared.db import NOT_MIGRATED, UNAVAILABLE
from shared.operation import BODY_LIMIT, JSON, Answer, Operation, OperationRoute
from shared.places import NoPlace, Places
from shared.tracing import continued, trace_id
from shared.values import Digits, Text

FIELD_SHOWN = 200
"""Characters of a field's name that answers and logs repeat: an unknown one may be of any length."""
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
    fields = [".".join(map(str, e["loc"]))[:FIELD_SHOWN] or "body" for e in found]
    messages = [e["msg"].removeprefix("Value error, ") for e in found]
    errors = [{"field": field, "message": message} for field, message in zip(fields, messages, strict=True)]
    detail = "; ".join(f"{e['field']}: {e['message']}" for e in errors[:20])
    return Problem(422, detail, code="invalid", errors=errors[:20])


def query(request: Request, model: type[Model]) -> Model:
    """The query's parameters as a model. Raises Problem 422 that names every wrong one."""
    try:
        return model.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise from_validation(error) from None


def dump(model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A model as the JSON answer."""
    return Response(model.model_dump_json(by_alias=True), status, headers, media_type="application/json")


def route(method: str, path: str, handler: Handler, operation: Operation) -> Route:
    """A route whose handler may raise Problem, and which logs one line for each request.

    `operation` says to callers what it takes and answers.
    """
    name = handler.__name__

    async def endpoint(request: Request) -> Response:
        started = time.perf_counter()
        with _span(request, method, path) as span:
            request.state.traceparent = span.traceparent
            logs.bind(trace_id=trace_id(span.traceparent))
            response = await _answer(handler, request)
            span.note(**{"http.response.status_code": response.status_code})
            if response.status_code >= 500:
                span.fail(str(response.status_code))
        milliseconds = round((time.perf_counter() - started) * 1000, 1)
        logs.info("request", method=method, route=path, status=response.status_code, milliseconds=milliseconds)
        return response

    documented = OperationRoute(path, endpoint, methods=[method], name=name)
    documented.operation = operation
    return documented


def _span(request: Request, method: str, path: str) -> AbstractContextManager[spans.Span]:
    # An event belongs to the trace that it names; the request that brings it may have one of the broker's own.
    event = "ce-id" in request.headers
    traceparent = request.headers.get("ce-traceparent" if event else "traceparent")
    if path.startswith("/health"):  # Kubernetes asks for it all the time
        return nullcontext(spans.Unrecorded(continued(traceparent)))
    attributes = {"http.request.method": method, "http.route": path}
    return spans.span(f"{method} {path}", "consumer" if event else "server", traceparent, **attributes)


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


class Number(IntegerConvertor):
    """A number in a path: no more digits than a bigint has, for Python refuses to read thousands."""

    regex = "[0-9]{1,19}"


class Part(BaseModel):
    """Which part of a list is asked for."""

    model_config = ConfigDict(extra="forbid")

    limit: Digits = Field(PAGE_DEFAULT, ge=1, le=PAGE_LIMIT)
    cursor: Text = ""


async def _not_found(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    headers = {"Allow": ", ".join(_methods(request))} if status == 405 else None
    detail = "no such path" if status == 404 else "this path does not take this method"
    return Problem(status, detail, headers=headers).response()


def _methods(request: Request) -> list[str]:
    # Starlette names those of the first route with this path alone.
    fitting = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in fitting for method in route.methods})


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


class Home(BaseModel):
    """Who answers, and of which revision."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "rpa-orchestrator", "function": "monitor", "revision": "monitor-00001"}]
        }
    )

    name: str
    function: str
    revision: str


class Health(BaseModel):
    """It is there."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})

    status: Literal["ok"]


DOCUMENT = Operation(summary="This document", answers={200: Answer(media=JSON)})
HOME = Operation(summary="Who answers here", answers={200: Answer(Home)})


def application(
    routes: Iterable[Route], ready: Callable[[], Awaitable[None]], *, about: str | None, at_once: int = AT_ONCE
) -> Application:
    """A function's application: its routes, the health routes and the OpenAPI document.

    `ready` raises where a store is missing; `about` is the function's docstring, "name: what it is for"; `at_once` is
    how many requests it works on.
    """

    async def live(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready_(request: Request) -> Response:
        await ready()
        return await live(request)

    @functools.cache
    def document() -> str:
        from shared import openapi

        return json.dumps(openapi.document(about or "", all_routes))

    async def openapi_json(_request: Request) -> Response:
        return Response(document(), media_type="application/json")

    well = {200: Answer(Health)}
    ready_now = Operation(summary="Whether the stores answer", answers=well, refuses=[503])
    all_routes = [
        *routes,
        route("GET", "/health/live", live, Operation(summary="Whether the process answers", answers=well)),
        route("GET", "/health/ready", ready_, ready_now),
        route("GET", "/health", ready_, ready_now),
        route("GET", "/openapi.json", openapi_json, DOCUMENT),
    ]
    return Application(Starlette(routes=all_routes, exception_handlers={HTTPException: _not_found}), at_once)


def json_bytes(value: object) -> bytes:
    """Canonical JSON: sorted keys, no spaces; the same content gives the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str).encode()
