"""Login codes while Valkey loses servers: none twice, 503 while there is no order, and back when Valkey is."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from valkey.asyncio.sentinel import Sentinel
from valkey.exceptions import ValkeyError

from tests.failover.rush import ACCOUNTS, LATE, SOON, ask_at_once, portal, rush
from tests.failover.valkey import SERVICE, Group, Server, replicated
from tests.functions.refusals import refusal
from tests.functions.stage import Stage
from tests.functions.test_totp import ask, running
from tests.serving import eventually

pytestmark = pytest.mark.alone

SLOW_PERIOD = 8


@pytest.fixture(scope="module")
def one_group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    """A primary, two replicas and three Sentinels for all tests."""
    with replicated(tmp_path_factory.mktemp("group")) as group:
        yield group


@pytest.fixture
async def group(one_group: Group) -> Group:
    """They are empty and whole."""
    await one_group.whole()
    one_group.primary.ask("FLUSHALL")
    return one_group


@pytest.fixture
async def slow(group: Group, database_url: str, tmp_path: Path) -> AsyncIterator[Stage]:
    """Time steps long enough for several requests in one."""
    async with portal(database_url, group.settings, tmp_path / "p", period=SLOW_PERIOD, TOTP_MAX_WAIT="9") as stage:
        yield stage


async def in_one_step() -> None:
    """Wait until a time step of `slow` begins."""
    await asyncio.sleep(SLOW_PERIOD - time.time() % SLOW_PERIOD)


async def writable_after(group: Group, moment: float) -> float:
    """Wait until a client of its own that tries all the time can write again; how many seconds after a moment."""
    sentinels = [("127.0.0.1", sentinel.port) for sentinel in group.sentinels]
    async with asyncio.timeout(30):
        while True:
            sentinel = Sentinel(sentinels, socket_timeout=0.5)
            client = sentinel.master_for(SERVICE)
            try:
                with contextlib.suppress(ValkeyError, OSError):
                    await client.set("probe", "1")
                    return time.monotonic() - moment
            finally:
                for opened in (client, *sentinel.sentinels):
                    await opened.aclose()
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(("replicas", "losses"), [(0, ["kill", "pause"] * 3), (1, ["pause", "kill"])])
async def test_primaries_are_lost_under_two_hundred_workers(
    replicas: int, losses: list[str], group: Group, database_url: str, tmp_path: Path
) -> None:
    """Killed, or paused until another is promoted: no code twice, and codes again as soon as anybody can write."""
    settings = {**group.settings, "VALKEY_MIN_REPLICAS": str(replicas)}
    async with portal(database_url, settings, tmp_path / "p") as stage, rush(stage) as workers:
        late = []
        for loss in losses:
            primary = group.primary
            getattr(primary, loss)()
            lost = time.monotonic()
            anybody = await writable_after(group, lost)
            late.append(await workers.code_after(lost) - anybody)
            primary.resume()  # for a moment there are two, and what it had not read it does now
            await group.whole()
        assert max(late) < LATE
        assert min(late) < SOON


async def lose_primary(group: Group) -> None:
    """Another is promoted, which has nothing of what was written since the replicas were cut off."""
    primary = group.primary
    primary.kill()
    for server in group.servers:
        server.resume()
    await eventually(lambda: group.primary is not primary and group.primary.info("role") == "master")


async def restart_primary(group: Group) -> None:
    """It comes back empty, before anybody missed it, and its replicas follow."""
    primary = group.primary
    primary.kill()
    primary.start()
    await eventually(lambda: primary.ask("PING"))


@pytest.mark.parametrize("forget", [lose_primary, restart_primary])
async def test_a_code_that_valkey_forgot_is_given_once(
    forget: Callable[[Group], Awaitable[None]], slow: Stage, group: Group, caplog: pytest.LogCaptureFixture
) -> None:
    """The ledger in PostgreSQL knows it."""
    *jobs, other = await running(slow, "octotel", len(ACCOUNTS) + 1)
    for replica in group.replicas:
        replica.pause()
    group.primary.ask("CLIENT", "KILL", "TYPE", "replica")
    await in_one_step()
    given = [(await ask(slow, token)).json() for _, token in jobs]
    assert len({it["expires_at"] for it in given}) == 1
    await forget(group)
    assert group.primary.ask("KEYS", "rpa:totp:*") == []

    another = (await ask(slow, other[1])).json()
    assert (another["account"], another["expires_at"]) not in [(it["account"], it["expires_at"]) for it in given]
    assert "totp step not given" in caplog.messages  # Valkey did offer it again


async def test_a_code_is_given_when_a_replica_has_it(group: Group, database_url: str, tmp_path: Path) -> None:
    """However many ask at once: none while no replica answers, not to who asked before either, and all afterwards."""
    settings = {**group.settings, "VALKEY_MIN_REPLICAS": "1"}
    async with portal(database_url, settings, tmp_path / "p", TOTP_MAX_WAIT="60") as stage:
        ((_, token),) = await running(stage, "octotel", 1)
        assert (await ask(stage, token)).status_code == 200  # so that connections have a write that replicas know of
        await ask_at_once(stage, 20)
        for replica in group.replicas:
            replica.pause()
        dark = [*await ask_at_once(stage, 20), await ask(stage, token), await ask(stage, token)]
        for answer in dark:
            assert "replicas" in refusal(answer, 503)["detail"]
        for replica in group.replicas:
            replica.resume()
        assert {answer.status_code for answer in await ask_at_once(stage, 20)} == {200}


async def test_all_sentinels_are_down(group: Group, database_url: str, tmp_path: Path) -> None:
    """Connections that stand go on; without them there is no code until a Sentinel is back, whichever it is."""
    first, *others = group.sentinels
    first.kill()
    async with portal(database_url, group.settings, tmp_path / "p", TOTP_MAX_WAIT="60") as stage:
        assert {answer.status_code for answer in await ask_at_once(stage, 50)} == {200}
        primary = group.primary
        for sentinel in others:
            sentinel.kill()
        assert {answer.status_code for answer in await ask_at_once(stage, 10)} == {200}
        primary.ask("CLIENT", "KILL", "TYPE", "normal")
        for answer in await ask_at_once(stage, 10):
            assert refusal(answer, 503)["detail"] == "Valkey does not answer; try again"
        first.start("--sentinel")
        await eventually(lambda: first.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE))
        await eventually(lambda: first.ask("SENTINEL", "CKQUORUM", SERVICE) is None)
        assert {answer.status_code for answer in await ask_at_once(stage, 10)} == {200}


async def test_sentinels_that_err_or_hang_hold_nobody_up(group: Group, database_url: str, tmp_path: Path) -> None:
    """One is no Sentinel, one knows no such primary, one does not answer: the others are heard."""
    stranger, hung = Server(tmp_path / "stranger"), group.sentinels[0]
    stranger.folder.mkdir()
    (stranger.folder / "conf").write_text("bind 127.0.0.1\n")
    stranger.arguments = (str(stranger.folder / "conf"),)
    stranger.start("--sentinel")
    hung.pause()
    addresses = [group.primary.port, stranger.port, *(sentinel.port for sentinel in group.sentinels)]
    settings = {**group.settings, "VALKEY_SENTINELS": ",".join(f"127.0.0.1:{port}" for port in addresses)}
    try:
        await eventually(lambda: stranger.ask("PING"))
        async with portal(database_url, settings, tmp_path / "p", TOTP_MAX_WAIT="60") as stage:
            assert {answer.status_code for answer in await ask_at_once(stage, 20)} == {200}
    finally:
        stranger.kill()


async def test_a_paused_account_stays_paused(group: Group, database_url: str, tmp_path: Path) -> None:
    """The primary that counted the refusals dies: the portal is spared all the same."""
    async with portal(database_url, group.settings, tmp_path / "p", TOTP_MAX_WAIT="60") as stage:
        ((_, token),) = await running(stage, "evotel", 1)
        await ask(stage, token, "evotel")
        for _ in range(2):
            assert (await ask(stage, token, "evotel", rejected=True)).status_code == 200
        assert refusal(await ask(stage, token, "evotel", rejected=True), 503)["code"] == "paused"
        key = "rpa:totp:{evotel}:paused:EVOTEL"
        await eventually(lambda: all(replica.ask("EXISTS", key) for replica in group.replicas))
        await lose_primary(group)
        assert refusal(await ask(stage, token, "evotel"), 503)["code"] == "paused"


async def test_without_valkey_jobs_go_on(group: Group, database_url: str, tmp_path: Path) -> None:
    """All servers are dead: no code is given, calls are not counted, and jobs are taken and end."""
    async with portal(database_url, group.settings, tmp_path / "p") as stage:
        order = await stage.until_running()
        for server in group.servers:
            server.kill()
        for answer in await ask_at_once(stage, 10):
            refusal(answer, 503)
        await stage.submit()
        failure = {"kind": "application", "code": "totp_rejected", "message": "the portal refused the code"}
        assert (await stage.complete(order, status="failed", failure=failure)).status_code == 200
        await group.whole()
        assert {answer.status_code for answer in await ask_at_once(stage, 10)} == {200}
