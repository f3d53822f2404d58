"""Addresses come from the configuration alone: nothing that a caller, a worker or a neighbour says becomes one."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shared.http_client import HttpClient, Silence
from tests.functions.stage import Stage
from tests.intruders.test_guessing import resident_mib
from tests.serving import serving


class Canary:
    """A listener that nobody may ever reach."""

    def __init__(self) -> None:
        self.reached = 0
        self.port = 0

    async def _count(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reached += 1
        writer.close()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Canary]:
        """Listen on a port of this machine."""
        server = await asyncio.start_server(self._count, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    async def dies(self) -> int:
        """How often it was reached; and that it could have been."""
        reached = self.reached
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.close()
        async with asyncio.timeout(5):
            while self.reached == reached:  # noqa: ASYNC110 - any connection
                await asyncio.sleep(0.001)
        self.reached = 0
        return reached


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    """A listener."""
    async with Canary().listening() as listening:
        yield listening


FORMS = [
    "http://{0}",
    "http://{0}/status",
    "ws://{0}/x",
    "//{0}",
    "{0}",
    "http://worker@{0}",
    "http:\\\\{0}",
    "\nhttp://{0}",
]
NAMES = ["worker", "workers", "url", "callback", "orchestrator_callback", "totp_url", "browser_service_url", "address"]
texts = st.sampled_from(FORMS)
objects = st.dictionaries(
    st.sampled_from(NAMES) | texts, st.recursive(texts, lambda v: st.lists(v, max_size=2), max_leaves=3), max_size=4
)


def at(canary: Canary, value: Any) -> Any:
    """The same with the canary's address in it."""
    return json.loads(json.dumps(value).replace("{0}", f"127.0.0.1:{canary.port}"))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(parameters=objects, answer=objects, result=objects, external=texts, name=texts)
async def test_what_callers_and_workers_say_is_never_an_address(
    stage: Stage,
    canary: Canary,
    parameters: dict[str, Any],
    answer: dict[str, Any],
    result: dict[str, Any],
    external: str,
    name: str,
) -> None:
    """Parameters, ids, headers, a worker's answers and results, names of evidence: data, from beginning to end."""
    await stage.reset()
    parameters, answer, result, external, name = (at(canary, v) for v in (parameters, answer, result, external, name))
    stage.worker.says = {
        "/status": JSONResponse({**answer, "available": True}, headers={"Location": f"http://127.0.0.1:{canary.port}"}),
        "/execute": JSONResponse({**answer, "status": "accepted"}),
    }
    headers = {"X-Forwarded-Host": f"127.0.0.1:{canary.port}", "Host": f"127.0.0.1:{canary.port}"}
    job = {"provider": "metrofiber", "action": "validation", "parameters": parameters, "external_job_id": external}
    made = await stage.call("submit_job", "POST", "/jobs", json=job, headers=headers)
    assert made.status_code == 201
    assert made.headers["location"] == f"/jobs/{made.json()['id']}"
    await stage.deliver_all()
    (order,) = stage.worker.offered
    assert order["parameters"] == parameters
    assert (order["totp_url"], order["orchestrator_callback"]) == ("http://issue-totp", "http://callback")
    assert order["browser_service_url"].startswith("ws://127.0.0.1:9/")
    token = order["token"]
    await stage.call("callback", "PUT", "/callbacks/evidence/x", token=token, content=name.encode(), headers=headers)
    assert (await stage.complete(order, result=result)).status_code == 200
    await stage.deliver_all()
    await stage.tick()
    (report,) = stage.ords.reports
    assert (report["result"], report["external_job_id"]) == (result, external)
    assert await canary.dies() == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_nobodys_redirect_is_followed(stage: Stage, canary: Canary, status: int) -> None:
    """A worker, at either question, and ORDS point elsewhere: nobody goes there, and the job is not theirs."""
    away = Response(status_code=status, headers={"Location": f"http://127.0.0.1:{canary.port}/"})
    stage.worker.says = {"/status": away}
    await stage.submit()
    await stage.deliver_all()
    assert stage.worker.offered == []
    stage.worker.says = {"/execute": away}
    order_id = (await stage.submit())["id"]
    await stage.deliver_all()
    assert (await stage.job(order_id))["status"] == "dispatching"
    stage.worker.says = {}
    order = await stage.until_running(provider="octotel")
    stage.ords.status, stage.ords.headers = status, {"Location": f"http://127.0.0.1:{canary.port}/"}
    await stage.complete(order)
    await stage.deliver_all()
    assert stage.ords.keys
    assert (await stage.job(order["job_id"]))["reported_at"] is None
    assert await canary.dies() == 0


async def test_no_proxy_of_the_environment_is_used(canary: Canary) -> None:
    """Tokens go to neighbours directly."""
    async with serving(Starlette(routes=[Route("/", lambda _: Response("x"))])) as url:
        proxy = f"http://127.0.0.1:{canary.port}"
        with patch.dict(os.environ, {"HTTP_PROXY": proxy, "http_proxy": proxy, "ALL_PROXY": proxy}):
            http = HttpClient()
            assert (await http.call("GET", url, seconds=5)).body == b"x"
            await http.aclose()
    assert await canary.dies() == 0


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def bomb() -> bytes:
    """A small answer that is a large one."""
    body = gzip.compress(b" " * 200 * 1024 * 1024)
    return HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body


ANSWERS = {
    "without end": lambda: HEAD + b"\r\n" + b"x" * 50_000_000,
    "a bomb": bomb,
    "a header without end": lambda: HEAD + b"X-Large: " + b"x" * 50_000_000,
    "headers without end": lambda: HEAD + b"X-Large: x\r\n" * 1_000_000,
}


@pytest.mark.parametrize("kind", ANSWERS)
async def test_an_answer_takes_little_memory(kind: str) -> None:
    """Whatever a neighbour sends, little of it is read, and none is taken for an answer."""
    answer = ANSWERS[kind]()

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(answer), 65536):
                writer.write(answer[at : at + 65536])
                await writer.drain()
        writer.close()

    http, body = HttpClient(), b""
    async with await asyncio.start_server(say, "127.0.0.1", 0) as server:
        before = resident_mib()
        with contextlib.suppress(Silence):
            said = await http.call("GET", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seconds=10)
            body = said.body
        grown = resident_mib() - before
        await http.aclose()
    assert body == b""
    assert grown < 40
