"""Every route without a token, with a forged one, and with somebody else's: refused, logged, nothing changed."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shared.tokens import Scope
from tests.functions.refusals import refusal, unchanged
from tests.functions.stage import Stage, keyring
from tests.intruders.doors import (
    EVENTS,
    HOUR,
    Door,
    Scene,
    doors,
    every_route,
    good,
    is_open,
    knock,
    set_scene,
    token_for,
)
from tests.intruders.forging import API, FORGED, WORKER, signed


def test_what_is_open_is_known(stage: Stage) -> None:
    """Health, a name, tokens and events need no token; a new route is guarded, or told of in doors.py."""
    opened = {
        (function, method, path) for function, method, path in every_route(stage) if is_open(function, method, path)
    }
    assert {function for function, method, path in opened if (method, path) == ("POST", "/")} == EVENTS
    guarded = {door.function for door in doors(stage)}
    assert guarded == {"submit_job", "monitor", "callback", "issue_totp"}
    assert len(doors(stage)) == len(list(every_route(stage))) - len(opened)


async def test_every_door_opens_for_whom_it_should(stage: Stage) -> None:
    """Each request of these tests is right but for its token: with it, it is answered."""
    for door in doors(stage):
        await stage.reset()
        scene = await set_scene(stage)
        answer = await knock(stage, door, scene, {"Authorization": f"Bearer {token_for(door, scene)}"})
        assert answer.is_success, (str(door), answer.text)


async def shut(stage: Stage, door: Door, scene: Scene, headers: dict[str, str], status: int) -> dict[str, Any]:
    """The problem with which a door stays shut."""
    answer = await knock(stage, door, scene, headers)
    assert answer.status_code == status, (str(door), answer.text)
    secret = headers.get("Authorization", "").partition(" ")[2]
    assert not [part for part in secret.split(".") if len(part) > 2 and part in answer.text]
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
    return {} if door.method == "HEAD" else refusal(answer, status)


def refusals(written: io.StringIO, status: int) -> int:
    """How many refusals are in the log."""
    logged = [json.loads(line) for line in written.getvalue().splitlines()]
    return len([line for line in logged if (line["event"], line.get("status")) == ("refused", status)])


def unsaid(written: io.StringIO, tokens: Iterable[str]) -> None:
    """The log repeats no part of these tokens."""
    said = written.getvalue()
    for token in tokens:
        assert not [part for part in token.split(".") if len(part) > 2 and part in said]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer"}, {"Authorization": "Basic YTpi"}], ids=str)
async def test_no_door_opens_without_a_token(stage: Stage, written: io.StringIO, headers: dict[str, str]) -> None:
    """Whatever is sent, and whichever route: 401."""
    scene = await set_scene(stage)
    async with unchanged(stage):
        for door in doors(stage):
            await shut(stage, door, scene, headers, 401)
    assert refusals(written, 401) == len(doors(stage))


@pytest.mark.parametrize("forged", FORGED)
async def test_no_door_opens_for_a_forged_token(stage: Stage, written: io.StringIO, forged: str) -> None:
    """Wrong in one thing only, for the very job: 401, and neither answer nor log repeats a part of it."""
    scene = await set_scene(stage)
    tokens = {door: FORGED[forged](API if good(door, scene).scope else WORKER, scene.order) for door in doors(stage)}
    async with unchanged(stage):
        for door, token in tokens.items():
            await shut(stage, door, scene, {"Authorization": f"Bearer {token}"}, 401)
    assert refusals(written, 401) == len(tokens)
    unsaid(written, tokens.values())


async def test_but_for_one_thing_forged_tokens_are_good(stage: Stage) -> None:
    """What is forged from opens every door: the forgeries are refused for what is wrong with them."""
    for door in doors(stage):
        await stage.reset()
        scene = await set_scene(stage)
        token = signed(API if good(door, scene).scope else WORKER, scene.order)
        answer = await knock(stage, door, scene, {"Authorization": f"Bearer {token}"})
        assert answer.is_success, (str(door), answer.text)


async def test_tokens_of_people_and_workers_are_not_exchanged(stage: Stage, written: io.StringIO) -> None:
    """A worker's token is no key to the API, an administrator's none to a job."""
    scene = await set_scene(stage)
    tokens = {True: scene.order["token"], False: keyring().issue("admin", list(Scope), HOUR)}
    async with unchanged(stage):
        for door in doors(stage):
            token = tokens[good(door, scene).scope is not None]
            await shut(stage, door, scene, {"Authorization": f"Bearer {token}"}, 401)
    assert refusals(written, 401) == len(doors(stage))
    unsaid(written, tokens.values())


async def test_every_door_wants_its_scope(stage: Stage, written: io.StringIO) -> None:
    """All other scopes together do not do; admin does."""
    scene = await set_scene(stage)
    guarded = [(door, scope) for door in doors(stage) if (scope := good(door, scene).scope)]
    tokens: list[str] = []
    async with unchanged(stage):
        for door, scope in guarded:
            others = [other for other in Scope if other not in (scope, Scope.ADMIN)]
            tokens.append(keyring().issue("p", others, HOUR))
            problem = await shut(stage, door, scene, {"Authorization": f"Bearer {tokens[-1]}"}, 403)
            assert not problem or (problem["code"] == "insufficient_scope" and scope in problem["detail"])
    assert refusals(written, 403) == len(tokens)
    unsaid(written, tokens)
    for door, _ in guarded:
        await stage.reset()
        scene = await set_scene(stage)
        headers = {"Authorization": f"Bearer {keyring().issue('p', [Scope.ADMIN], HOUR)}"}
        assert (await knock(stage, door, scene, headers)).is_success


async def others(stage: Stage, scene: Scene) -> dict[str, Mapping[str, Any]]:
    """Attempts that are not the running one, each with a token of ours."""
    job_id = scene.order["job_id"]
    over = await stage.until_running(provider="octotel")
    await stage.call("submit_job", "DELETE", f"/jobs/{over['job_id']}")
    await stage.deliver_all()
    other = await stage.until_running(provider="octotel")
    done = await stage.until_running(provider="metrofiber")
    await stage.complete(done)
    return {
        "of another job": {**other, "provider": "octotel"},
        "of another attempt": {"job_id": job_id, "attempt": 2, "provider": "octotel"},
        "of a job that waits": {"job_id": scene.pending, "attempt": 1, "provider": "octotel"},
        "of a job that is over": {"job_id": over["job_id"], "attempt": 1, "provider": "octotel"},
        "of a job that never was": {"job_id": 10**12, "attempt": 1, "provider": "octotel"},
        "of another provider": {"job_id": job_id, "attempt": 1, "provider": "evotel"},
        "of another provider, done": {"job_id": done["job_id"], "attempt": 1, "provider": "octotel"},
    }


async def test_a_workers_token_is_good_for_its_own_attempt_alone(stage: Stage, written: io.StringIO) -> None:
    """Heartbeat and completion name the attempt: another's token is 403, whoever's it is."""
    scene = await set_scene(stage)
    attempts = await others(stage, scene)
    del attempts["of another provider"]  # which names the very attempt: see the test after this
    named = [door for door in doors(stage) if "job_id" in good(door, scene).options.get("json", {})]
    assert {door.path for door in named} == {"/callbacks/heartbeat", "/callbacks/job-complete"}
    tokens = [stage.worker_token(a["job_id"], a["attempt"], a["provider"]) for a in attempts.values()]
    async with unchanged(stage):
        for token in tokens:
            for door in named:
                problem = await shut(stage, door, scene, {"Authorization": f"Bearer {token}"}, 403)
                assert problem["code"] == "wrong_attempt"
    assert refusals(written, 403) == len(tokens) * len(named)
    unsaid(written, tokens)


async def test_a_token_of_an_attempt_that_does_not_run_does_nothing(stage: Stage, written: io.StringIO) -> None:
    """Reporting for its own attempt, asking for its own code: 409, for that attempt is over, or never was."""
    scene = await set_scene(stage)
    attempts = await others(stage, scene)
    del attempts["of another job"]
    guarded = [door for door in doors(stage) if good(door, scene).scope is None]
    tokens: list[str] = []
    async with unchanged(stage):
        for attempt in attempts.values():
            tokens.append(stage.worker_token(attempt["job_id"], attempt["attempt"], attempt["provider"]))
            own = Scene({**scene.order, **attempt}, scene.pending, scene.failed, scene.letter)
            for door in guarded:
                await shut(stage, door, own, {"Authorization": f"Bearer {tokens[-1]}"}, 409)
    assert refusals(written, 409) == len(tokens) * len(guarded)
    unsaid(written, tokens)


async def test_a_token_of_another_provider_gets_no_code(stage: Stage, written: io.StringIO) -> None:
    """403, and no time step is used up."""
    scene = await set_scene(stage)
    door = Door("issue_totp", "POST", "/totp/{provider}")
    names = ("evotel", "metrofiber", "nobody")
    tokens = [stage.worker_token(scene.order["job_id"], 1, provider) for provider in names]
    async with unchanged(stage):
        for token in tokens:
            problem = await shut(stage, door, scene, {"Authorization": f"Bearer {token}"}, 403)
            assert problem["code"] == "wrong_provider"
    assert refusals(written, 403) == len(tokens)
    unsaid(written, tokens)


async def test_evidence_goes_to_the_tokens_own_attempt(stage: Stage) -> None:
    """No path or header names another job: what a worker uploads is its own."""
    scene = await set_scene(stage)
    other = (await others(stage, scene))["of another job"]
    headers = {"Authorization": f"Bearer {other['token']}", "Content-Type": "image/png"}
    door = Door("callback", "PUT", "/callbacks/evidence/{name}")
    assert (await knock(stage, door, scene, headers)).status_code == 201
    rows = await stage.rows("SELECT job_id FROM evidence WHERE name = 'b.png'")
    assert [row["job_id"] for row in rows] == [other["job_id"]]


@pytest.mark.parametrize("claim", ["job_id", "attempt", "provider"])
async def test_a_workers_token_names_its_attempt(stage: Stage, claim: str) -> None:
    """One that does not is none, though we signed it."""
    scene = await set_scene(stage)
    token = signed(WORKER, scene.order, **{claim: None})
    async with unchanged(stage):
        for door in doors(stage):
            if good(door, scene).scope is None:
                await shut(stage, door, scene, {"Authorization": f"Bearer {token}"}, 401)


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
