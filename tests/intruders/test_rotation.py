"""The signing key is changed while functions of both settings run, and nobody notices."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import jwt

from shared.tokens import Attempt, Scope
from tests.functions.refusals import refusal
from tests.functions.stage import SIGNING_KEY, Stage, keyring, open_stage
from tests.intruders.forging import OTHER_KEY

HOUR = timedelta(hours=1)
# The new key is made known first, then used, then the old one is forgotten: neighbouring steps run at once.
STEPS = [
    {"JWT_SECRET_KEY": SIGNING_KEY},
    {"JWT_SECRET_KEY": SIGNING_KEY, "JWT_PREVIOUS_SECRET_KEYS": OTHER_KEY},
    {"JWT_SECRET_KEY": OTHER_KEY, "JWT_PREVIOUS_SECRET_KEYS": SIGNING_KEY},
    {"JWT_SECRET_KEY": OTHER_KEY},
]


async def status(stage: Stage, token: str) -> int:
    """How a function that has these settings answers to a token."""
    return (await stage.call("submit_job", "GET", "/jobs", token=token)).status_code


async def beat(stage: Stage, job_id: int, token: str) -> int:
    """... to a worker's."""
    body = {"job_id": job_id, "attempt": 1}
    return (await stage.call("callback", "POST", "/callbacks/heartbeat", token=token, json=body)).status_code


async def test_a_rotation_in_three_steps_costs_nothing(
    database_url: str, valkey_settings: dict[str, str], tmp_path: Path
) -> None:
    """At each step pods of the settings before and after take each other's tokens and give each other's jobs away."""
    async with AsyncExitStack() as stack:
        stages = [
            await stack.enter_async_context(open_stage(database_url, valkey_settings, tmp_path / "p", **step))
            for step in STEPS
        ]
        tokens = [(await stage.sign_in()).json()["access_token"] for stage in stages]
        keys = [keyring(key).current for key in (SIGNING_KEY, SIGNING_KEY, OTHER_KEY, OTHER_KEY)]
        assert [jwt.get_unverified_header(token)["kid"] for token in tokens] == keys
        for n in range(3):
            before, after = stages[n], stages[n + 1]
            assert [await status(before, token) for token in tokens[n : n + 2]] == [200, 200]
            assert [await status(after, token) for token in tokens[n : n + 2]] == [200, 200]
            for maker, giver in ((before, after), (after, before)):  # one gets the browser, the other a worker
                job = await maker.submit()
                (bell,) = await maker.outbox()
                await maker.deliver(bell)
                await giver.deliver_all()
                order = giver.worker.orders[-1]
                assert order["job_id"] == job["id"]
                assert [await beat(pod, job["id"], order["token"]) for pod in (before, after)] == [200, 200]
                assert (await before.complete(order)).status_code == 200
                await before.deliver_all()


async def test_a_key_that_is_retired_opens_nothing(
    database_url: str, valkey_settings: dict[str, str], tmp_path: Path
) -> None:
    """After the last step, tokens of the old key are 401, people's and workers'."""
    async with open_stage(database_url, valkey_settings, tmp_path / "p", **STEPS[3]) as stage:
        person = keyring().issue("admin", [Scope.ADMIN], HOUR)
        refusal(await stage.call("submit_job", "GET", "/jobs", token=person), 401, "Authorization")
        order = await stage.until_running()
        worker = keyring().issue_worker(Attempt(order["job_id"], 1, "metrofiber"), HOUR)
        assert await beat(stage, order["job_id"], worker) == 401
        assert await beat(stage, order["job_id"], order["token"]) == 200
