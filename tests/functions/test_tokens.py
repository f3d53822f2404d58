"""Tokens: who gets one, what it lets its bearer do, and what is no token of ours."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shared.tokens import Scope
from tests.functions.refusals import refusal, unchanged
from tests.functions.stage import CLIENT_SECRET, FUNCTIONS, PASSWORD, SIGNING_KEY, Stage, keyring, open_stage

OPEN = {"/", "/auth/token", "/health", "/health/live", "/health/ready"}
OTHER_KEY = "another-signing-key-0123456789abcdefghij"
HOUR = timedelta(hours=1)


async def ask(stage: Stage, headers: dict[str, str] | None = None, **form: str) -> httpx.Response:
    return await stage.clients["submit_job"].post("/auth/token", data=form, headers=headers)


# Getting one


async def test_a_token_for_name_and_password(stage: Stage) -> None:
    """OAuth2's password grant answers a bearer token that nobody on the way may keep."""
    answer = await ask(stage, grant_type="password", username="admin", password=PASSWORD)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    body = answer.json()
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 3600)
    assert set(body["scope"].split()) == set(Scope)
    claims = jwt.decode(body["access_token"], options={"verify_signature": False})
    assert (claims["sub"], claims["exp"] - claims["iat"]) == ("admin", 3600)
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


# What it lets its bearer do


@pytest.mark.parametrize("function", FUNCTIONS)
async def test_no_route_answers_without_a_token(stage: Stage, function: str) -> None:
    """Every route of every function but the open ones wants a token, whatever is sent."""
    guarded = [route for route in stage.routes[function] if route.path not in OPEN]
    for route in guarded:
        path = route.path
        for name in route.param_convertors:
            convertor = "" if f"{{{name}}}" in path else path.split(f"{{{name}", 1)[1].split("}", 1)[0]
            path = path.replace(f"{{{name}{convertor}}}", "1")
        for method in route.methods:
            for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Basic YTpi"}):
                answer = await stage.clients[function].request(method, path, json={}, headers=headers)
                assert answer.status_code == 401, (method, path)
                assert answer.headers["www-authenticate"] == "Bearer"
                if method != "HEAD":
                    refusal(answer, 401, "Authorization")
    assert bool(guarded) == (function in ("submit_job", "callback", "issue_totp", "monitor"))


@pytest.mark.parametrize(
    ("scope", "function", "method", "path"),
    [
        ("jobs:create", "submit_job", "POST", "/jobs"),
        ("jobs:create", "submit_job", "POST", "/jobs:batch"),
        ("jobs:read", "submit_job", "GET", "/jobs"),
        ("jobs:read", "submit_job", "GET", "/jobs/1"),
        ("jobs:read", "submit_job", "GET", "/jobs/1/evidence/a.png"),
        ("jobs:update", "submit_job", "PATCH", "/jobs/1"),
        ("jobs:update", "submit_job", "DELETE", "/jobs/1"),
        ("jobs:update", "submit_job", "POST", "/jobs/1:retry"),
        ("monitor:read", "monitor", "GET", "/status"),
        ("monitor:read", "monitor", "GET", "/metrics"),
        ("monitor:read", "monitor", "GET", "/browser-services"),
        ("monitor:read", "monitor", "GET", "/providers"),
        ("monitor:read", "monitor", "GET", "/accounts"),
        ("monitor:read", "monitor", "GET", "/dead-letters"),
        ("monitor:read", "monitor", "GET", "/dead-letters/1"),
        ("operate", "monitor", "POST", "/providers/octotel:pause"),
        ("operate", "monitor", "POST", "/providers/octotel:resume"),
        ("operate", "monitor", "POST", "/accounts/OCTOTEL:pause"),
        ("operate", "monitor", "POST", "/accounts/OCTOTEL:resume"),
        ("operate", "monitor", "POST", "/dead-letters:replay"),
        ("operate", "monitor", "POST", "/dead-letters/1:replay"),
    ],
)
async def test_each_route_wants_its_scope(stage: Stage, scope: str, function: str, method: str, path: str) -> None:
    """All other scopes together do not do; the one does, and so does admin."""
    others = [other for other in Scope if other not in (scope, Scope.ADMIN)]
    answer = await stage.call(function, method, path, token=keyring().issue("p", others, HOUR))
    assert refusal(answer, 403)["code"] == "insufficient_scope"
    assert scope in answer.headers["www-authenticate"]
    for enough in (Scope(scope), Scope.ADMIN):
        answer = await stage.call(function, method, path, token=keyring().issue("p", [enough], HOUR))
        assert answer.status_code not in (401, 403)


# What is no token of ours


API, WORKER = "rpa-api", "rpa-worker"
MINUTE = timedelta(minutes=1)


def signed(
    audience: str, key: str = SIGNING_KEY, kid: str | None = "ours", algorithm: str = "HS256", **claims: Any
) -> str:
    """A token like ours, but for some claims; None leaves one out."""
    now = datetime.now(UTC)
    ours = {"iss": "rpa-orchestrator", "aud": audience, "sub": "admin", "iat": now, "nbf": now, "exp": now + HOUR}
    more = {"jti": "x", "scope": "admin", "job_id": 1, "attempt": 1, "provider": "octotel"}
    given = {name: value for name, value in {**ours, **more, **claims}.items() if value is not None}
    headers = {"kid": keyring().current} if kid else None
    return jwt.encode(given, key, algorithm=algorithm, headers=headers)


def unsigned(audience: str, *, signature: bool) -> str:
    """A token that says alg none, with our claims and the signature of a good one or none."""
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": keyring().current}).encode()).decode()
    _, claims, good = signed(audience).split(".")
    return f"{header.rstrip('=')}.{claims}.{good if signature else ''}"


FORGED: dict[str, Callable[[str], str]] = {
    "no token at all": lambda _: "x",
    "alg none": lambda audience: unsigned(audience, signature=False),
    "alg none with a signature": lambda audience: unsigned(audience, signature=True),
    "another key": lambda audience: signed(audience, OTHER_KEY),
    "no key id": lambda audience: signed(audience, kid=None),
    "another algorithm": lambda audience: signed(audience, algorithm="HS384"),
    "expired": lambda audience: signed(audience, exp=datetime.now(UTC) - MINUTE),
    "not valid yet": lambda audience: signed(audience, nbf=datetime.now(UTC) + MINUTE),
    "issued in the future": lambda audience: signed(audience, iat=datetime.now(UTC) + MINUTE),
    "another issuer": lambda audience: signed(audience, iss="somebody"),
    "another audience": lambda audience: signed({API: WORKER, WORKER: API}[audience]),
    "several audiences": lambda _: signed(API, aud=[API, WORKER]),
    "no issuer": lambda audience: signed(audience, iss=None),
    "no audience": lambda audience: signed(audience, aud=None),
    "no end": lambda audience: signed(audience, exp=None),
    "no beginning": lambda audience: signed(audience, nbf=None),
    "no time of issue": lambda audience: signed(audience, iat=None),
    "no subject": lambda audience: signed(audience, sub=None),
    "no id": lambda audience: signed(audience, jti=None),
    "cut off": lambda audience: signed(audience)[:-1],
}


async def show(stage: Stage, audience: str, token: str) -> httpx.Response:
    """Call a route of the API, or one of workers."""
    if audience == API:
        return await stage.call("submit_job", "GET", "/jobs", token=token)
    body = {"job_id": 1, "attempt": 1}
    return await stage.call("callback", "POST", "/callbacks/heartbeat", token=token, json=body)


@pytest.mark.parametrize("audience", [API, WORKER])
@pytest.mark.parametrize("forged", FORGED)
async def test_a_forged_token_is_401(stage: Stage, forged: str, audience: str) -> None:
    """Whatever is wrong with a token, it opens nothing and the answer repeats nothing of it."""
    assert (await show(stage, audience, signed(audience))).status_code in (200, 409)  # but for one thing it is good
    token = FORGED[forged](audience)
    answer = await show(stage, audience, token)
    assert refusal(answer, 401, "Authorization")["code"] == "unauthorized"
    assert not [part for part in token.split(".") if len(part) > 1 and part in answer.text]


async def test_tokens_of_people_and_workers_are_not_exchanged(stage: Stage) -> None:
    """A worker's token is no key to the API, an administrator's none to a job."""
    order = await stage.until_running()
    refusal(await stage.call("submit_job", "GET", "/jobs", token=order["token"]), 401, "Authorization")
    async with unchanged(stage):
        refusal(await stage.complete({**order, "token": stage.token}), 401, "Authorization")


@pytest.mark.parametrize("claim", ["job_id", "attempt", "provider"])
async def test_a_workers_token_names_its_attempt(stage: Stage, claim: str) -> None:
    """One that does not is none, though we signed it."""
    token = signed(WORKER, **{claim: None})
    answer = await stage.call("callback", "POST", "/callbacks/heartbeat", token=token, json={})
    refusal(answer, 401, "Authorization")


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@example(base64.urlsafe_b64encode(b"[" * 20_000 + b"]" * 20_000).decode() + ".e30.x")
@given(
    token=st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=60)
    | st.lists(st.binary(max_size=40).map(lambda b: base64.urlsafe_b64encode(b).decode()), max_size=4).map(".".join)
    | st.recursive(st.none() | st.text() | st.integers(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)).map(
        lambda h: base64.urlsafe_b64encode(json.dumps(h).encode()).decode() + ".e30.x"
    )
)
async def test_no_token_is_an_error_of_ours(stage: Stage, token: str) -> None:
    """Any text for a token is 401."""
    headers = {"Authorization": f"Bearer {token}".encode("latin-1")}
    assert (await stage.clients["submit_job"].get("/jobs", headers=headers)).status_code == 401


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


async def test_guessing_is_slow(stage: Stage) -> None:
    """The eleventh try for a name within a minute waits, even with the right password; another name does not."""
    codes = [(await stage.sign_in(password=f"guess {n}")).status_code for n in range(10)]
    assert codes == [401] * 10
    answer = await stage.sign_in()
    assert refusal(answer, 429)["code"] == "rate_limited"
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    ords = {"grant_type": "client_credentials", "client_id": "ords", "client_secret": CLIENT_SECRET}
    assert (await ask(stage, **ords)).status_code == 200


async def test_guessing_many_names_is_slow(stage: Stage) -> None:
    """One address may try thirty times a minute, whatever the names."""
    form = {"grant_type": "client_credentials", "client_secret": CLIENT_SECRET}
    names = ["ords"] * 10 + ["prometheus"] * 10 + [f"nobody-{n}" for n in range(11)]
    codes = [(await ask(stage, **form, client_id=name)).status_code for name in names]
    assert codes == [200] * 20 + [401] * 10 + [429]


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


async def test_submissions_go_on_while_valkey_is_down(database_url: str, tmp_path: Path) -> None:
    """Without Valkey nothing is counted, and tokens and jobs are taken all the same."""
    nowhere = {"VALKEY_HOST": "127.0.0.1", "VALKEY_PORT": "1"}
    async with open_stage(database_url, nowhere, tmp_path / "p", RATE_LIMIT_PER_MINUTE="1") as stage:
        first, second = await stage.submit(), await stage.submit()
        assert first["id"] != second["id"]
        assert (await stage.clients["submit_job"].get("/health/ready")).status_code == 200


def resident_mib() -> int:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


async def test_guessing_at_once_costs_little_memory(stage: Stage) -> None:
    """Each check of a hash takes 64 MiB; however many guess at once, a pod of 384 MiB survives."""
    form = {"grant_type": "client_credentials", "client_secret": "guess"}
    before = most = resident_mib()
    guesses = asyncio.gather(*(ask(stage, **form, client_id=f"nobody-{n}") for n in range(12)))
    while not guesses.done():
        await asyncio.sleep(0.002)
        most = max(most, resident_mib())
    assert {answer.status_code for answer in await guesses} == {401}
    assert most - before < 200
