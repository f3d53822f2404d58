"""Each function's OpenAPI document: complete, valid, and true to what the function does."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import jsonschema_rs
import pytest
import schemathesis

from shared.tokens import Scope
from tests.functions.refusals import refusal
from tests.functions.stage import FUNCTIONS, Stage, keyring

HOUR = timedelta(hours=1)
PAGES = "/ui/{path}"
"""The dashboard is for people."""


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and operation of all."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


@pytest.mark.parametrize("function", FUNCTIONS)
async def test_a_function_publishes_its_document(stage: Stage, function: str) -> None:
    """GET /openapi.json needs no token and answers a valid OpenAPI 3.1 document that names the function."""
    document = (await stage.clients[function].get("/openapi.json")).json()
    assert document == stage.documents[function]
    assert (document["openapi"], document["info"]["title"]) == ("3.1.1", function)
    schemathesis.openapi.from_dict(document).validate()


@pytest.mark.parametrize("function", FUNCTIONS)
async def test_every_route_is_documented(stage: Stage, function: str) -> None:
    """A route cannot be forgotten: each says what it is for, and every JSON that it takes or answers has a schema."""
    document = stage.documents[function]
    found = {(method, path) for method, path, _ in operations(document)}
    routes = {(m, r.path_format) for r in stage.routes[function] for m in r.methods - {"HEAD"}}
    assert found == {(method, path) for method, path in routes if path != PAGES}
    identities = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(identities)) == len(identities)
    for _, path, operation in operations(document):
        assert operation["summary"]
        assert any(status.startswith("2") for status in operation["responses"])
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for body in bodies if path != "/openapi.json" else ():
            # A ping's data may be any JSON.
            if json := body.get("content", {}).get("application/json"):
                assert json.get("schema") or {"ce-type"} <= {p["name"] for p in operation["parameters"]}, path


async def test_examples_are_accepted(stage: Stage) -> None:
    """Every body has an example, which the model that checks bodies takes."""
    routes = [route for function in FUNCTIONS for route in stage.routes[function] if route.path_format != PAGES]
    models = {route.operation.body.model for route in routes if route.operation.body} - {None}
    assert len(models) >= 8
    for model in models:
        examples = model.model_json_schema()["examples"]
        assert examples, model
        for example in examples:
            model.model_validate(example)


@pytest.mark.parametrize("function", FUNCTIONS)
async def test_examples_are_answers(stage: Stage, function: str) -> None:
    """Every answer in JSON has an example that is as its schema says, and has no member that the schema lacks."""
    document = stage.documents[function]
    schemas = document["components"]["schemas"]
    closed = {name: {"additionalProperties": False} | schema for name, schema in schemas.items()}
    answered = [answer for _, _, operation in operations(document) for answer in operation["responses"].values()]
    contents = [content for answer in answered for content in answer.get("content", {}).values()]
    references = {content["schema"]["$ref"] for content in contents if "schema" in content}
    assert len(references) >= 2
    for reference in references:
        whole = {"$ref": reference, "components": {"schemas": closed}}
        validator = jsonschema_rs.validator_for(whole, validate_formats=True)
        examples = schemas[reference.rpartition("/")[2]]["examples"]
        assert examples, reference
        for example in examples:
            validator.validate(example)


@pytest.mark.parametrize("function", ["submit_job", "monitor"])
async def test_the_scope_that_is_told_is_the_one_that_is_asked_for(stage: Stage, function: str) -> None:
    """That scope alone opens the route; all others together but admin do not."""
    guarded = [(m, p, o["security"][0]) for m, p, o in operations(stage.documents[function]) if o["security"]]
    assert len(guarded) >= 8
    for method, path, needed in guarded:
        (scope,) = needed["bearer"]
        others = [other for other in Scope if other not in (scope, Scope.ADMIN)]
        url = re.sub(r"{\w+}", "1", path)
        answer = await stage.call(function, method, url, token=keyring().issue("somebody", others, HOUR))
        assert refusal(answer, 403)["code"] == "insufficient_scope", path
        answer = await stage.call(function, method, url, token=keyring().issue("somebody", [Scope(scope)], HOUR))
        assert answer.status_code not in (401, 403), path


async def test_a_405_names_every_method_of_the_path(stage: Stage) -> None:
    """Also where several routes share the path (RFC 9110, 15.5.6)."""
    answer = await stage.call("submit_job", "PUT", "/jobs/1")
    refusal(answer, 405)
    assert answer.headers["allow"] == "DELETE, GET, HEAD, PATCH"


async def test_a_405_names_no_method_of_another_path(stage: Stage) -> None:
    """`1:replay` is no letter's number."""
    answer = await stage.call("monitor", "GET", "/dead-letters/1:replay")
    refusal(answer, 405)
    assert answer.headers["allow"] == "POST"


def test_a_cold_start_does_not_build_the_document() -> None:
    """What builds it is imported at the first request for it."""
    code = "import sys, shared.http, shared.events; sys.exit('shared.openapi' in sys.modules)"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
