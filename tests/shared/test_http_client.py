"""What a request to a neighbour costs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from shared.http_client import HttpClient
from tests.serving import serving


class Searches:
    """Notes for which modules the path is searched."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        self.names.append(name)
        return None


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> Iterator[Searches]:
    """Every search from now on."""
    monkeypatch.delitem(sys.modules, "sniffio", raising=False)
    searches = Searches()
    monkeypatch.setattr(sys, "meta_path", [searches, *sys.meta_path])
    yield searches
    sys.modules.pop("sniffio", None)


async def test_a_request_searches_for_no_module(searches: Searches) -> None:
    """One that is not installed would be searched for again and again, at the cost of the request itself."""

    async def answer(_request: Request) -> Response:
        return Response()

    client = HttpClient()
    async with serving(Starlette(routes=[Route("/", answer)])) as url:
        await client.session.get(url)
        searches.names.clear()
        assert (await client.session.get(url)).is_success
        await client.aclose()
    assert searches.names == []
