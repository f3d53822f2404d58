"""Schemathesis against every function: what its OpenAPI document lets callers send, and what it does not."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.events import Doorbell, Type
from tests.functions.stage import CLIENT_SECRET, FUNCTIONS, PASSWORD, Stage
from tests.functions.test_dead_letters import letter
from tests.serving import serving

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)
EXAMPLES = 6
SLOW = {"issue_totp": 2}
"""Each code is a second's wait."""
NEVER_BY_CHANCE = {"callback": {"PUT /callbacks/picture"}}
"""What chance makes is no JPEG."""


async def scene(stage: Stage, function: str) -> tuple[str, dict[str, list[Any]]]:
    """Jobs in several states, a token, and values of parameters and members that name something there."""
    order = await stage.until_running(provider="evotel")
    failed = await stage.until_running(max_retries=0)
    upload = {"token": failed["token"], "content": b"x", "headers": {"Content-Type": "image/png"}}
    assert (await stage.call("callback", "PUT", "/callbacks/evidence/a.png", **upload)).status_code == 201
    failure = {"kind": "business", "code": "no", "message": "no"}
    assert (await stage.complete(failed, status="failed", failure=failure)).status_code == 200
    waiting = await stage.submit(run_after="2990-01-01T00:00:00Z")
    await stage.deliver_all()
    lost = await letter(stage, Doorbell(Type.JOB_SUBMITTED, waiting["id"], 1, ""))
    there = {"provider": ["evotel"], "action": ["validation"], "job_id": [order["job_id"]], "attempt": [1]}
    ids = {waiting["id"], failed["job_id"], order["job_id"], lost, 2**63 - 1}
    known = {"username": ["admin"], "password": [PASSWORD], "client_id": ["ords"], "client_secret": [CLIENT_SECRET]}
    if function in ("callback", "issue_totp"):
        return order["token"], there
    return stage.token, there | known | {"id": sorted(ids), "name": ["a.png", "metrofiber"]}


def narrowed(document: dict[str, Any], there: dict[str, list[Any]]) -> dict[str, Any]:
    """The document with values that name something, which chance would not find."""
    schemas = document["components"]["schemas"]
    own = ("Ids", "TokenRequest")
    sent = [schema for name, schema in schemas.items() if name in own or schema.get("additionalProperties") is False]
    for schema in sent:
        for name, member in schema["properties"].items():
            if name in there:
                member["enum"] = there[name]
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    for parameter in [parameter for operation in operations for parameter in operation["parameters"]]:
        if parameter["in"] == "path" and parameter["name"] in there:
            parameter["schema"] = {"enum": there[parameter["name"]]}
    return document


class Counted:
    """An application, and how often each of its routes gave each answer."""

    def __init__(self, stage: Stage, function: str) -> None:
        self._app: ASGIApp = stage.apps[function]
        self._routes = stage.routes[function]
        self.answers: Counter[tuple[str, int]] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application's answer."""

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.answers[self._operation(scope), message["status"]] += 1
            await send(message)

        await self._app(scope, receive, counted)

    def _operation(self, scope: Scope) -> str:
        found = (route.path_format for route in self._routes if route.matches(scope)[0] is Match.FULL)
        return f"{scope['method']} {next(found, '')}"


@pytest.mark.parametrize("function", FUNCTIONS)
async def test_a_function_keeps_what_its_document_says(stage: Stage, tmp_path: Path, function: str) -> None:
    """No error of ours, an answer as documented, each operation also works; without a token, none does."""
    token, there = await scene(stage, function)
    counted = Counted(stage, function)
    async with serving(counted) as url:
        document = (await stage.clients[function].get("/openapi.json")).json()
        (tmp_path / "openapi.json").write_text(json.dumps(narrowed(document, there)))
        options = {
            "--url": url,
            "--header": f"Authorization: Bearer {token}",
            "--checks": ",".join(CHECKS),
            "--phases": "examples,coverage,fuzzing",
            "--max-examples": str(SLOW.get(function, EXAMPLES)),
            "--suppress-health-check": "all",
            "--warnings": "off",
        }
        argv = [sys.executable, "-m", "schemathesis.cli", "--no-color", "run", "openapi.json"]
        argv += ["--generation-deterministic", "--no-shrink", *[word for pair in options.items() for word in pair]]
        process = await asyncio.create_subprocess_exec(
            *argv, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    operations = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    worked = {operation for operation, status in counted.answers if 200 <= status < 300}
    assert operations - worked == NEVER_BY_CHANCE.get(function, set()), counted.answers
