"""`kn rpa doctor` where there is no cluster to look at; tests/cluster has the rest."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
import yaml

from kn_rpa.doctor import expected
from kn_rpa.doctor.finding import Mark
from kn_rpa.doctor.secrets import accounts_with_codes
from kn_rpa.doctor.stores import clock_findings
from local.kustomize import build
from local.manifests import Manifests
from tests.conftest import fresh_database
from tests.functions.stage import Stage, open_stage
from tests.functions.test_dead_letters import letter, submitted
from tests.functions.test_diagnosis import set_clock
from tests.plugin.conftest import Door, served
from tests.plugin.terminal import Shell, matches_snapshot
from tests.serving import eventually

BASE = Path(__file__).parents[2] / "knative" / "base"


async def doctor(shell: Shell) -> tuple[int, dict[str, tuple[str, str]]]:
    """Its exit code, and each part's state and words."""
    said = await shell.run("doctor", "-o", "json")
    items = json.loads(said.out)["items"]
    return said.code, {it["part"]: (it["state"], it["says"]) for it in items}


async def test_a_system_that_is_well(shell: Shell) -> None:
    """Every part that can be asked over HTTP is, and the exit code is 0."""
    matches_snapshot("doctor", await shell.says("doctor"))


async def test_a_terminal_shows_what_is_looked_at(shell: Shell) -> None:
    """Before what was found: a function that starts from zero takes its time."""
    async with shell.on_a_terminal("doctor") as screen:
        code = await screen.to_the_end(kept_as="doctor-well")
    assert code == 0
    for part in ("answers", "database", "schema", "valkey", "clock", "events"):
        looked, found = screen.seen.index(f"{part} ..."), screen.seen.index(f" {part:10} ")
        assert looked < found
    assert "PostgreSQL answers" in screen.seen
    assert "!!" not in screen.seen


async def test_a_part_that_cannot_be_looked_at_is_not_called_good(shell: Shell) -> None:
    """Here nobody answers at all."""
    shell.environment["RPA_MONITOR_URL"] = "http://127.0.0.1:1"
    code, parts = await doctor(shell)
    assert code == 2
    assert {state for state, _ in parts.values()} == {"unknown"}
    assert "does not answer" in parts["database"][1]


async def test_a_function_that_does_not_answer_is_asked_once(shell: Shell) -> None:
    """Each check would wait for it as long again."""
    asked: list[asyncio.StreamWriter] = []

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(writer)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        shell.environment["RPA_MONITOR_URL"] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        code, parts = await doctor(shell)
    assert (code, len(asked)) == (2, 1)
    assert parts["clock"][1] == parts["answers"][1]
    assert "does not answer" in parts["clock"][1]


async def test_it_waits_until_all_is_well(shell: Shell, door: Door) -> None:
    """As after an install; what it says is the last that it saw."""
    door.shut = True
    async with shell.running("doctor", "--wait", "60") as process:
        await eventually(lambda: door.turned_away > 1)
        door.shut = False
        said, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    assert b"??" not in said
    assert b"++ database" in said


async def test_stores_that_are_away_are_named(
    database_url: str, valkey_settings: dict[str, str], tmp_path: Path
) -> None:
    """With the reason that they give, and what follows is not checked."""
    gone = database_url.replace("/test_", "/gone_")
    dead = {**valkey_settings, "VALKEY_PORT": "1"}
    async with (
        open_stage(database_url, dead, tmp_path / "p", DATABASE_URL=gone) as stage,
        served(stage, tmp_path) as user,
    ):
        code, parts = await doctor(user)
        told = await user.run("doctor")
        async with user.on_a_terminal("doctor") as screen:
            seen = await screen.to_the_end(kept_as="doctor-stores-away")
    assert (code, seen) == (2, 2)
    assert parts["database"][0] == parts["valkey"][0] == "bad"
    assert "does not exist" in parts["database"][1]
    assert parts["schema"] == ("unknown", "not checked: the database does not answer")
    assert parts["clock"] == ("good", "functions and this machine agree")
    assert parts["events"][0] == "unknown"
    assert "make down && make up" in told.out
    assert told.err == "Error: broken: database, valkey; not checked: schema, events\n"
    assert screen.seen.index("valkey ...") < screen.seen.index("valkey     ")
    assert screen.seen.count("!!") == 2
    assert screen.seen.rstrip().endswith(told.err.rstrip())


async def test_a_schema_that_is_behind_is_named(
    postgres_server_url: str, valkey_settings: dict[str, str], tmp_path: Path
) -> None:
    """By its first migration that is missing."""
    for url in fresh_database(postgres_server_url, "template1"):
        async with open_stage(url, valkey_settings, tmp_path / "p") as stage, served(stage, tmp_path) as user:
            code, parts = await doctor(user)
    assert (code, parts["schema"][0]) == (2, "bad")
    assert parts["schema"][1].startswith("behind: the database has not 0001.initial")


async def test_a_clock_that_is_wrong_is_named(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both stores say so, and this machine."""
    set_clock(monkeypatch, 30)
    said = await shell.run("doctor")
    assert (said.code, said.err) == (2, "Error: broken: clock\n")
    for who in ("database's clock and the functions'", "valkey's clock and the functions'"):
        assert re.search(rf"^!! clock      {who} differ by [23]\d\.\d s$", said.out, re.MULTILINE)
    assert re.search(
        r"^ ! clock      the functions' clock and this machine's differ by [23]\d\.\d s;", said.out, re.MULTILINE
    )
    assert "timedatectl set-ntp true" in said.out


async def test_events_that_nobody_takes_are_named(shell: Shell, stage: Stage) -> None:
    """Once they have waited for longer than a broker takes to come back."""
    await stage.submit()
    for minutes, state in ((1, "good"), (10, "bad")):
        await stage.execute("UPDATE outbox SET created_at = now() - make_interval(mins => %s)", minutes)
        code, parts = await doctor(shell)
        assert (code, parts["events"][0]) == (0 if state == "good" else 2, state)
    assert re.match(r"1 events wait, the oldest for 6\d\d s: the broker does not take them", parts["events"][1])


async def test_dead_letters_are_shown(shell: Shell, stage: Stage) -> None:
    """They break nothing: whether they matter is for people to say."""
    await letter(stage, await submitted(stage))
    code, parts = await doctor(shell)
    assert (code, parts["events"]) == (0, ("warning", "1 dead letters"))


@pytest.mark.parametrize(
    ("ahead", "off_here", "marks"),
    [
        ({"database": 0.1, "valkey": -0.1}, 0.0, [Mark.GOOD]),
        ({"database": 3.0, "valkey": 0.0}, 0.0, [Mark.BAD]),
        ({"database": 0.0, "valkey": -3.0}, 0.0, [Mark.BAD]),
        ({"database": 0.0, "valkey": 0.0}, 30.0, [Mark.WARNING]),
        ({"database": 5.0, "valkey": 5.0}, 30.0, [Mark.BAD, Mark.BAD, Mark.WARNING]),
    ],
)
def test_clocks_that_differ_are_named(ahead: dict[str, float], off_here: float, marks: list[Mark]) -> None:
    """A store's against the functions' is broken; this machine's alone may be this machine's fault."""
    assert [it.mark for it in clock_findings(ahead, off_here)] == marks


@pytest.mark.parametrize(
    ("entry", "accounts"),
    [
        ("totp: on_request", ["MINE"]),
        ("totp: on_request\naccounts: [{credentials: A}, {credentials: B}]", ["A", "B"]),
        ("totp: none", []),
        ("totp: on_request\naccounts:", []),
        ("totp: on_request\naccounts: [A, {max_sessions: 1}]", []),
        ("since: 2026-02-30", []),
        ("[" * 5000, []),
        ("a: b: c", []),
    ],
    ids=lambda it: str(it)[:40],
)
def test_accounts_are_found_in_entries_of_any_kind(entry: str, accounts: list[str]) -> None:
    """An entry that is wrong is what it was called for: it goes on."""
    assert list(accounts_with_codes({"mine.yaml": entry})) == accounts


def test_it_expects_what_the_manifests_have() -> None:
    """Functions, subscriptions, publishers, ticks, rights, Secrets."""
    manifests = Manifests(BASE)
    assert {service.name for service in manifests.services()} == set(expected.FUNCTIONS)
    assert manifests.publishers() == set(expected.PUBLISHERS)
    subscriptions = {(it.attributes["type"], it.subscriber.split("/")[2].split(".")[0]) for it in manifests.triggers()}
    assert subscriptions == set(expected.SUBSCRIPTIONS)
    assert {it.sink.split("/")[2].split(".")[0] for it in manifests.pings()} == set(expected.TICKED)
    assert set(expected.CONFIG_MAPS) == set(manifests.config_maps)
    documents = build(BASE)
    verbs = {it["metadata"]["name"]: tuple(it["rules"][0]["verbs"]) for it in documents if it["kind"] == "Role"}
    bindings = [it for it in documents if it["kind"] == "RoleBinding"]
    granted = {subject["name"]: verbs[it["roleRef"]["name"]] for it in bindings for subject in it["subjects"]}
    assert granted == expected.BROWSER_RIGHTS


def test_it_expects_the_secrets_of_the_template() -> None:
    """Every name, and every key without which a function does not start."""
    templates = list(yaml.safe_load_all((BASE / "22-secrets.template.yaml").read_text()))
    known = {it["metadata"]["name"]: set(it["stringData"]) for it in templates}
    assert {expected.SEEDS, "rpa-valkey", *expected.NEEDED_KEYS} == set(known)
    assert {name: known[name] for name in expected.NEEDED_KEYS} == expected.NEEDED_KEYS
    assert expected.PLACEHOLDER in (BASE / "22-secrets.template.yaml").read_text()
