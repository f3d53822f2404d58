"""Calls to neighbours: bounded, direct, and told apart by whether they may have arrived."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from local.process import free_port
from shared.http_client import ANSWER_LIMIT, HttpClient, NotHeard, Silence
from tests.serving import serving


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    client = HttpClient()
    yield client
    await client.aclose()


@pytest.fixture
async def neighbour() -> AsyncIterator[str]:
    """Answers, redirects, says too much, or says nothing."""

    async def answer(request: Request) -> Response:
        return Response(await request.body(), headers={"set-cookie": "a=b"}, media_type="application/json")

    async def cookies(request: Request) -> Response:
        return Response(str(len(request.cookies)))

    async def elsewhere(_: Request) -> Response:
        return RedirectResponse("/")

    async def much(_: Request) -> Response:
        return Response(b"1" * (ANSWER_LIMIT + 1))

    async def nothing(_: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    routes = [Route("/", answer, methods=["GET", "POST"]), Route("/cookies", cookies)]
    routes += [Route("/elsewhere", elsewhere), Route("/much", much), Route("/nothing", nothing)]
    async with serving(Starlette(routes=routes)) as url:
        yield url


async def test_an_answer(http: HttpClient, neighbour: str) -> None:
    """Status and JSON; what is no JSON is None; no cookie is kept."""
    said = await http.call("POST", neighbour, seconds=5, json={"a": 1})
    assert (said.status, said.ok, said.json()) == (200, True, {"a": 1})
    assert (await http.call("POST", neighbour, seconds=5, data=b"<html>")).json() is None
    assert (await http.call("POST", neighbour, seconds=5, data=b"[" * 100_000)).json() is None
    assert (await http.call("GET", f"{neighbour}/cookies", seconds=5)).body == b"0"


async def test_no_redirect_is_followed(http: HttpClient, neighbour: str) -> None:
    """A token goes where the configuration says, and nowhere else."""
    said = await http.call("GET", f"{neighbour}/elsewhere", seconds=5)
    assert (said.status, said.ok) == (307, False)


async def test_too_much_is_no_answer(http: HttpClient, neighbour: str) -> None:
    """Nobody fills our memory."""
    assert (await http.call("GET", f"{neighbour}/much", seconds=5)).body == b""


async def test_silence(http: HttpClient, neighbour: str) -> None:
    """Who does not answer in time may have heard; who is not there has not."""
    with pytest.raises(Silence) as silence:
        await http.call("GET", f"{neighbour}/nothing", seconds=0.2)
    assert not isinstance(silence.value, NotHeard)
    with pytest.raises(NotHeard):
        await http.call("GET", f"http://127.0.0.1:{free_port()}", seconds=5)
