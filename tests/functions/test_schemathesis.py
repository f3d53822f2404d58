"""Schemathesis against every function: what its OpenAPI document lets callers send, and what it does not."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.functions.stage import FUNCTIONS, Stage
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
    there = {"provider": ["evotel"], "action": ["validation"], "job_id": [order["job_id"]], "attempt": [1]}
    ids = {"id": [waiting["id"], failed["job_id"], order["job_id"], 2**63 - 1], "name": ["a.png", "metrofiber"]}
    if function in ("callback", "issue_totp"):
        return order["token"], there
    return stage.token, there | ids


def narrowed(document: dict[str, Any], there: dict[str, list[Any]]) -> dict[str, Any]:
    """The document with values that name something, which chance would not find."""
    schemas = document["components"]["schemas"]
    sent = [schema for name, schema in schemas.items() if name == "Ids" or schema.get("additionalProperties") is False]
    for schema in sent:
        for name, member in schema["properties"].items():
            if name in there:
                member["enum"] = there[name]
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    for parameter in [parameter for operation in operations for parameter in operation["parameters"]]:
        if parameter["in"] == "path" and parameter["name"] in there:
            parameter["schema"] = {"enum": there[parameter["name"]]}
    return document


@pytest.mark.parametrize("function", FUNCTIONS)
async def test_a_function_keeps_what_its_document_says(stage: Stage, tmp_path: Path, function: str) -> None:
    """Whatever is sent: no error of ours, and an answer as documented; without a token, none at all."""
    token, there = await scene(stage, function)
    async with serving(stage.apps[function]) as url:
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
