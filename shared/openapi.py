"""A function's OpenAPI 3.1 document, from the operations of its routes and the models that check what comes in.

https://spec.openapis.org/oas/v3.1.1. Imported at the first request for it: a cold start does not pay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.json_schema import models_json_schema

from shared.operation import JSON, WORKER, Answer, Body, Operation, OperationRoute

VERSION = "1"
PROBLEM = "application/problem+json"
REFERENCE = "#/components/schemas/{model}"
HEADERS = {
    "Allow": "the methods that the path takes",
    "Cache-Control": "no-store: nobody keeps it",
    "ETag": "changes with the content",
    "Location": "the job's path",
    "Retry-After": "seconds to wait before asking again",
    "WWW-Authenticate": "how to authenticate",
}
CHECKED_MEDIA = {JSON, "application/x-www-form-urlencoded", "image/jpeg"}
"""Of which any other is answered 415."""

Mode = Literal["validation", "serialization"]
NUMBER = Annotated[int, Field(ge=0, lt=2**63)]


class FieldError(BaseModel):
    """One wrong field, and what would be right."""

    field: str
    message: str


class ProblemDetails(BaseModel):
    """RFC 9457: why a request was refused. `code` is for programs."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Unprocessable Content",
                    "status": 422,
                    "detail": "provider: unknown; one of evotel, octotel",
                    "code": "invalid",
                    "errors": [{"field": "provider", "message": "unknown; one of evotel, octotel"}],
                }
            ]
        }
    )

    type: Literal["about:blank"]
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    code: str = ""
    errors: list[FieldError] = []


SECURITY = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "Of a person or program: POST /auth/token of submit_job gives it. Scopes are listed as roles.",
    },
    WORKER: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "Of a worker: `token` of the order that it was given, good for that job and attempt alone.",
    },
}


def document(about: str, routes: Iterable[object]) -> dict[str, Any]:
    """The document of a function; `about` is its module's docstring, "name: what it is for"."""
    title, _, summary = about.partition(":")
    documented = [route for route in routes if isinstance(route, OperationRoute)]
    schemas = _Schemas(documented)
    paths: dict[str, dict[str, Any]] = {}
    for route in documented:
        for method in sorted((route.methods or set()) - {"HEAD"}):
            paths.setdefault(route.path_format, {})[method.lower()] = _operation(method, route, schemas)
    return {
        "openapi": "3.1.1",
        "info": {"title": title.strip(), "description": summary.strip(), "version": VERSION},
        "paths": paths,
        "components": {"schemas": schemas.all, "securitySchemes": SECURITY},
    }


class _Schemas:
    """The schemas of all models, and references to them."""

    def __init__(self, routes: Iterable[OperationRoute]) -> None:
        operations = [route.operation for route in routes]
        taken = [o.body.model for o in operations if o.body and o.body.model]
        given = [answer.model for o in operations for answer in o.answers.values() if answer.model]
        modes: dict[tuple[type[BaseModel], Mode], None] = {(model, "validation"): None for model in taken}
        modes |= {(model, "serialization"): None for model in given}
        modes[ProblemDetails, "validation"] = None
        self._references, found = models_json_schema(list(modes), ref_template=REFERENCE)
        self.all: dict[str, Any] = found.get("$defs", {})

    def taken(self, model: type[BaseModel]) -> dict[str, Any]:
        """The reference to a model that comes in."""
        return self._references[model, "validation"]

    def given(self, model: type[BaseModel]) -> dict[str, Any]:
        """The reference to a model that goes out."""
        return self._references[model, "serialization"]

    def members(self, model: type[BaseModel]) -> Iterator[tuple[str, dict[str, Any]]]:
        """A model's fields, each with its schema; a parameter is sent or not, but is never null."""
        schema = model.model_json_schema(ref_template=REFERENCE)
        self.all |= schema.get("$defs", {})
        for name, member in schema["properties"].items():
            match member:
                case {"anyOf": [one, {"type": "null"}]}:
                    yield name, one
                case _:
                    yield name, {key: value for key, value in member.items() if key != "title"}


def _operation(method: str, route: OperationRoute, schemas: _Schemas) -> dict[str, Any]:
    said = route.operation
    words = re.findall(r"[a-zA-Z_]+", route.path_format)
    found: dict[str, Any] = {
        "operationId": "_".join([method.lower(), *words]),
        "summary": said.summary,
        "parameters": list(_parameters(route, schemas)),
        "responses": {str(status): answer for status, answer in sorted(_responses(said, schemas).items())},
        "security": _security(said.who),
    }
    if said.description:
        found["description"] = said.description
    if said.body:
        found["requestBody"] = _body(said.body, schemas)
    return found


def _security(who: str) -> list[dict[str, list[str]]]:
    if not who:
        return []
    return [{WORKER: []}] if who == WORKER else [{"bearer": [who]}]


def _parameters(route: OperationRoute, schemas: _Schemas) -> Iterator[dict[str, Any]]:
    said = route.operation
    for name in route.param_convertors:
        kind = said.path.get(name, NUMBER if name == "id" else str)
        yield {"name": name, "in": "path", "required": True, "schema": TypeAdapter(kind).json_schema()}
    for name, kind in said.headers.items():
        yield {"name": name, "in": "header", "required": True, "schema": TypeAdapter(kind).json_schema()}
    for name, schema in schemas.members(said.query) if said.query else ():
        yield {"name": name, "in": "query", "schema": schema}


def _body(body: Body, schemas: _Schemas) -> dict[str, Any]:
    content = {"schema": schemas.taken(body.model)} if body.model else {}
    return {
        "description": f"{body.limit} bytes at most",
        "content": {body.media: content},
        "required": body.required,
    }


def _responses(said: Operation, schemas: _Schemas) -> dict[int, dict[str, Any]]:
    answers = {status: _success(status, answer, schemas) for status, answer in said.answers.items()}
    return {status: _problem(status, schemas) for status in _refusals(said)} | answers


def _refusals(said: Operation) -> set[int]:
    statuses = set(said.refuses)
    if said.who:
        statuses |= {401, 403, 429, 503}
    if said.query:
        statuses |= {422}
    if said.body:
        statuses |= {413, 422, 503}
        statuses |= {415} if said.body.media in CHECKED_MEDIA and not said.headers else set()
    return statuses


def _success(status: int, answer: Answer, schemas: _Schemas) -> dict[str, Any]:
    found = _response(status, answer.headers)
    if answer.model:
        found["content"] = {JSON: {"schema": schemas.given(answer.model)}}
    elif answer.media:
        found["content"] = {answer.media: {}}
    return found


def _problem(status: int, schemas: _Schemas) -> dict[str, Any]:
    headers = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}.get(status, ())
    return _response(status, headers) | {"content": {PROBLEM: {"schema": schemas.taken(ProblemDetails)}}}


def _response(status: int, headers: Iterable[str]) -> dict[str, Any]:
    described = {
        name: {"description": HEADERS[name], "required": True, "schema": {"type": "string"}} for name in headers
    }
    return {"description": HTTPStatus(status).phrase} | ({"headers": described} if described else {})
