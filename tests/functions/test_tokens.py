"""Tokens: who gets one, their keys' rotation, and rates. What is no token of ours: tests/intruders."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import httpx
import jwt
import pytest

from shared import tokens
from shared.tokens import CLOCKS_APART, Attempt, Scope
from tests.functions.refusals import refusal, unchanged
from tests.functions.stage import CLIENT_SECRET, PASSWORD, SIGNING_KEY, Stage, keyring, open_stage

OTHER_KEY = "another-signing-key-0123456789abcdefghij"
HOUR = timedelta(hours=1)


async def ask(stage: Stage, headers: dict[str, str] | None = None, **form: str) -> httpx.Response:
    return await stage.clients["submit_job"].post("/auth/token", data=form, headers=headers)


# Getting one


@pytest.mark.parametrize("seconds", [-90, 90])
def test_functions_clocks_may_differ(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    """A worker's token, made by one function, is good at another whose clock is 90 s behind or ahead."""
    attempt = Attempt(1, 1, "metrofiber")

    class Off(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=seconds)

    monkeypatch.setattr(tokens, "datetime", Off)
    token = keyring().issue_worker(attempt, timedelta(minutes=10))
    assert keyring().check_worker(token) == attempt


async def test_a_token_for_name_and_password(stage: Stage) -> None:
    """OAuth2's password grant answers a bearer token that nobody on the way may keep."""
    answer = await ask(stage, grant_type="password", username="admin", password=PASSWORD)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    body = answer.json()
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 3600)
    assert set(body["scope"].split()) == set(Scope)
    claims = jwt.decode(body["access_token"], options={"verify_signature": False})
    assert (claims["sub"], claims["exp"] - claims["iat"]) == ("admin", 3600 + CLOCKS_APART.total_seconds())
    assert (await stage.call("submit_job", "GET", "/jobs", token=body["access_token"])).status_code == 200


@pytest.mark.parametrize("client", ["ords", "prometheus"])
async def test_a_token_for_a_program(stage: Stage, client: str) -> None:
    """The client-credentials grant, by form and by Basic authentication; the secret stored plain or hashed."""
    form = await ask(stage, grant_type="client_credentials", client_id=client, client_secret=CLIENT_SECRET)
    credentials = base64.b64encode(f"{client}:{CLIENT_SECRET}".encode()).decode()
    basic = await ask(stage, {"Authorization": f"Basic {credentials}"}, grant_type="client_credentials")
    assert (form.status_code, basic.status_code) == (200, 200)
    assert form.json()["scope"] == basic.json()["scope"]


async def test_fewer_scopes_where_fewer_are_asked_for(stage: Stage) -> None:
    """A token has the scopes asked for, of those that its bearer may have; the administrator may have any."""
    ords = {"grant_type": "client_credentials", "client_id": "ords", "client_secret": CLIENT_SECRET}
    assert (await ask(stage, **ords, scope="jobs:read")).json()["scope"] == "jobs:read"
    assert (await stage.sign_in(scope="jobs:create monitor:read")).json()["scope"] == "jobs:create monitor:read"
    for scope in ("admin", "jobs:read monitor:read", "everything"):
        refusal(await ask(stage, **ords, scope=scope), 422, "scope")


@pytest.mark.parametrize(
    "form",
    [
        {"grant_type": "password", "username": "admin", "password": "wrong"},
        {"grant_type": "password", "username": "nobody", "password": PASSWORD},
        {"grant_type": "password", "username": "ad\0min", "password": PASSWORD},
        {"grant_type": "client_credentials", "client_id": "ords", "client_secret": PASSWORD},
        {"grant_type": "client_credentials", "client_id": "prometheus", "client_secret": "wrong"},
    ],
)
async def test_wrong_credentials_are_one_401(stage: Stage, form: dict[str, str]) -> None:
    """A wrong password and an unknown name are answered alike, without what was sent."""
    problem = refusal(await ask(stage, **form), 401, "username, password")
    assert problem["code"] == "invalid_grant"
    assert not [value for value in list(form.values())[1:] if value in json.dumps(problem)]


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"username": "admin"}, "grant_type"),
        ({"grant_type": "refresh_token"}, "grant_type"),
        ({"grant_type": "password"}, "username"),
        ({"grant_type": "password", "username": "admin"}, "password"),
        ({"grant_type": "password", "username": "", "password": PASSWORD}, "username"),
        ({"grant_type": "client_credentials", "client_id": "ords"}, "client_secret"),
        ({f"field{n}": "" for n in range(21)}, "body"),
    ],
    ids=str,
)
async def test_a_form_that_lacks_something_is_refused(stage: Stage, form: dict[str, str], field: str) -> None:
    """The missing field is named."""
    refusal(await ask(stage, **form), 422, field)


@pytest.mark.parametrize("value", ["!!!", "é", base64.b64encode(b"\xff:\xff").decode()])
async def test_bad_basic_authentication_is_refused(stage: Stage, value: str) -> None:
    """What is no base64 of a name and a secret."""
    headers = {"Authorization": f"Basic {value}".encode("latin-1")}
    refusal(await ask(stage, headers, grant_type="client_credentials"), 422, "Authorization")


async def test_a_form_is_a_form_and_small(stage: Stage) -> None:
    """JSON is 415, what is no text is 422, more than 8 KiB is 413, also without a declared length."""
    client = stage.clients["submit_job"]
    refusal(await client.post("/auth/token", json={"grant_type": "password"}), 415, "Content-Type")
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    refusal(await client.post("/auth/token", content=b"grant_type=\xff", headers=headers), 422, "body")

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield b"x" * 1024

    for content in (b"x" * 9 * 1024, chunks()):
        refusal(await client.post("/auth/token", content=content, headers=headers), 413, "body")


# Rotation


async def test_tokens_and_browsers_outlive_a_key(stage: Stage, valkey_settings: dict[str, str], tmp_path: Path) -> None:
    """After a rotation old tokens are taken and old browsers reached; new ones are signed with the new key alone."""
    stage.worker.available = False
    await stage.submit()
    (bell,) = await stage.outbox()
    await stage.deliver(bell)
    (browser,) = await stage.rows("SELECT name, key_id FROM browsers")
    old_token = stage.worker_token(bell.job_id)
    (ready,) = await stage.outbox()

    rotated = {"JWT_SECRET_KEY": OTHER_KEY, "JWT_PREVIOUS_SECRET_KEYS": f"{SIGNING_KEY}, {'x' * 32}"}
    url = stage.settings["DATABASE_URL"]
    async with open_stage(url, valkey_settings, tmp_path / "p", **rotated) as after:
        assert (await after.call("submit_job", "GET", "/jobs", token=stage.token)).status_code == 200
        await after.send("dispatch_job", ready)
        (order,) = after.worker.orders
        path = keyring().browser_path(browser["name"], browser["key_id"])
        assert order["browser_service_url"].endswith(path)
        beat = {"job_id": order["job_id"], "attempt": 1}
        for token in (old_token, order["token"]):
            answer = await after.call("callback", "POST", "/callbacks/heartbeat", token=token, json=beat)
            assert answer.status_code == 200
        new_token = (await after.sign_in()).json()["access_token"]
    for token in (new_token, order["token"]):
        assert jwt.get_unverified_header(token)["kid"] == keyring(OTHER_KEY).current
    refusal(await stage.call("submit_job", "GET", "/jobs", token=new_token), 401, "Authorization")


async def test_a_browser_whose_key_is_gone_costs_an_attempt(
    stage: Stage, valkey_settings: dict[str, str], tmp_path: Path
) -> None:
    """A key retired too soon: the attempt fails, saying so, and the next one gets a browser with the new key."""
    stage.worker.available = False
    job = await stage.submit()
    (bell,) = await stage.outbox()
    await stage.deliver(bell)
    url = stage.settings["DATABASE_URL"]
    async with open_stage(url, valkey_settings, tmp_path / "p", JWT_SECRET_KEY=OTHER_KEY) as after:
        await after.deliver_all()
        (order,) = after.worker.orders
        assert (order["job_id"], order["attempt"]) == (job["id"], 2)
        history = (await after.job(job["id"]))["history"]
    (failed,) = [entry for entry in history if entry["event"] == "attempt_failed"]
    assert failed["detail"]["error"]["code"] == "key_retired"


# Rates


async def test_a_caller_has_a_rate_of_its_own(
    database_url: str, valkey_settings: dict[str, str], tmp_path: Path
) -> None:
    """Beyond RATE_LIMIT_PER_MINUTE a caller waits, and is told how long; nothing is made; others go on."""
    async with open_stage(database_url, valkey_settings, tmp_path / "p", RATE_LIMIT_PER_MINUTE="3") as stage:
        for _ in range(3):
            await stage.submit()
        async with unchanged(stage):
            wish = {"provider": "metrofiber", "action": "validation"}
            answer = await stage.call("submit_job", "POST", "/jobs", json=wish)
        assert refusal(answer, 429)["code"] == "rate_limited"
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        other = keyring().issue("somebody else", [Scope.JOBS_READ], HOUR)
        assert (await stage.call("submit_job", "GET", "/jobs", token=other)).status_code == 200


async def test_each_function_has_a_rate_of_its_own(
    database_url: str, valkey_settings: dict[str, str], tmp_path: Path
) -> None:
    """Who looks at a dashboard all the time submits jobs all the same, and who submits many may look."""
    async with open_stage(database_url, valkey_settings, tmp_path / "p", RATE_LIMIT_PER_MINUTE="1") as stage:
        for _ in range(3):
            assert (await stage.call("monitor", "GET", "/status")).status_code == 200
        await stage.submit()


async def test_submissions_go_on_while_valkey_is_down(database_url: str, tmp_path: Path) -> None:
    """Without Valkey nothing is counted, and tokens and jobs are taken all the same."""
    nowhere = {"VALKEY_HOST": "127.0.0.1", "VALKEY_PORT": "1"}
    async with open_stage(database_url, nowhere, tmp_path / "p", RATE_LIMIT_PER_MINUTE="1") as stage:
        first, second = await stage.submit(), await stage.submit()
        assert first["id"] != second["id"]
        assert (await stage.clients["submit_job"].get("/health/ready")).status_code == 200
