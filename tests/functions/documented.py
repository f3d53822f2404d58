"""Every answer that a test gets is one that the function's OpenAPI document promises."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import httpx
import jsonschema_rs
from starlette.routing import Match, Route


def promised(document: dict[str, Any], routes: Iterable[Route]) -> Callable[[httpx.Response], Awaitable[None]]:
    """A hook of a client, that fails where the document does not know the answer."""
    components = document["components"]
    validators: dict[int, jsonschema_rs.Validator] = {}

    async def check(answer: httpx.Response) -> None:
        await answer.aread()
        method, path = answer.request.method, answer.request.url.path
        if path.startswith("/ui/"):
            return  # pages, which are for people
        known = _responses(document, routes, method, path)
        if known is None:
            assert answer.status_code in (404, 405)
            return
        if answer.status_code == 500:
            return  # never promised; the test that provokes it knows
        where = f"{method} {path} {answer.status_code}"
        assert str(answer.status_code) in known, f"{where} is not documented: {answer.text[:300]}"
        response = known[str(answer.status_code)]
        for name in response.get("headers", ()):
            assert name in answer.headers, f"{where} has no {name}"
        for media, content in response.get("content", {}).items() if method != "HEAD" else ():
            assert media in ("*/*", answer.headers.get("content-type")), where
            if schema := content.get("schema"):
                whole = {**schema, "components": components}
                validator = validators.setdefault(id(schema), jsonschema_rs.validator_for(whole))
                validator.validate(answer.json())

    return check


def _responses(
    document: dict[str, Any], routes: Iterable[Route], method: str, path: str
) -> dict[str, dict[str, Any]] | None:
    scope = {"type": "http", "method": method, "path": path}
    for route in routes:
        if route.matches(scope)[0] is Match.FULL:
            return document["paths"][route.path_format]["get" if method == "HEAD" else method.lower()]["responses"]
    return None
