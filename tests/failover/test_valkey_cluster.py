"""Login codes while a Valkey cluster loses servers and moves slots."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.failover.rush import LATE, SOON, ask_at_once, portal, rush
from tests.failover.valkey import FAST, Cluster, Server, clustered, free_port
from tests.functions.refusals import refusal
from tests.serving import eventually

pytestmark = pytest.mark.alone

KEY = "rpa:totp:{octotel}:last:OCTOTEL"


@pytest.fixture(scope="module")
async def one_cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """Three primaries and their replicas for all tests."""
    async with clustered(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
async def cluster(one_cluster: Cluster) -> Cluster:
    """They are empty and whole."""
    await one_cluster.whole()
    for server in one_cluster.servers:
        server.ask("FLUSHALL")
    return one_cluster


async def test_primaries_are_lost_under_two_hundred_workers(
    cluster: Cluster, database_url: str, tmp_path: Path
) -> None:
    """Killed, or paused until its replica is promoted: no code twice, and codes again as soon as anybody can write."""
    async with portal(database_url, cluster.settings, tmp_path / "p") as stage, rush(stage) as workers:
        late = []
        for loss in ("kill", "pause") * 2:
            owner = cluster.owner(KEY)
            getattr(owner, loss)()
            lost = time.monotonic()
            others = [server for server in cluster.servers if server is not owner]
            await eventually(lambda others=others: any(it.ask("SET", "probe{octotel}", "1") for it in others))
            anybody = time.monotonic() - lost
            late.append(await workers.code_after(lost) - anybody)
            owner.resume()
            await cluster.whole()
        assert max(late) < LATE
        assert min(late) < SOON


async def test_a_slot_moves_under_two_hundred_workers(cluster: Cluster, database_url: str, tmp_path: Path) -> None:
    """Key by key, and at once: no code twice, and codes again where the slot now is."""
    async with portal(database_url, cluster.settings, tmp_path / "p") as stage, rush(stage) as workers:
        for move in (move_keys, move_slot):
            source = cluster.owner(KEY)
            target = next(it for it in cluster.servers if it.info("role") == "master" and it is not source)
            await move(cluster, source, target)
            await eventually(lambda target=target: cluster.owner(KEY) is target)
            await workers.code_after(time.monotonic())


async def move_keys(cluster: Cluster, source: Server, target: Server) -> None:
    """As `valkey-cli --cluster reshard` does it."""
    slot = source.ask("CLUSTER", "KEYSLOT", KEY)
    ids = {server: server.ask("CLUSTER", "MYID") for server in (source, target)}
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 10):
        source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 1000, "KEYS", *keys)
        await asyncio.sleep(0)
    for server in (target, source, *(it for it in cluster.servers if it.info("role") == "master")):
        server.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[target])


async def move_slot(_cluster: Cluster, source: Server, target: Server) -> None:
    """As Valkey 9 does it by itself."""
    slot = source.ask("CLUSTER", "KEYSLOT", KEY)
    source.ask("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.ask("CLUSTER", "MYID"))


async def test_a_code_is_given_when_a_replica_has_it(cluster: Cluster, database_url: str, tmp_path: Path) -> None:
    """None while the replica of the slot does not answer, however many others do, and all afterwards."""
    settings = {**cluster.settings, "VALKEY_MIN_REPLICAS": "1"}
    owner = cluster.owner(KEY)
    (replica,) = [it for it in cluster.servers if it.info("master_port") == owner.port]
    async with portal(database_url, settings, tmp_path / "p", TOTP_MAX_WAIT="60") as stage:
        assert {answer.status_code for answer in await ask_at_once(stage, 20)} == {200}
        replica.pause()
        for answer in await ask_at_once(stage, 20):
            assert "replicas" in refusal(answer, 503)["detail"]
        replica.resume()
        assert {answer.status_code for answer in await ask_at_once(stage, 20)} == {200}


async def test_all_servers_are_lost_and_come_back(cluster: Cluster, database_url: str, tmp_path: Path) -> None:
    """503 meanwhile, and codes again without a new start of the function."""
    async with portal(database_url, cluster.settings, tmp_path / "p", TOTP_MAX_WAIT="60") as stage:
        assert {answer.status_code for answer in await ask_at_once(stage, 20)} == {200}
        for server in cluster.servers:
            server.kill()
        for _ in range(3):
            for answer in await ask_at_once(stage, 20):
                refusal(answer, 503)
        await cluster.whole()
        await eventually(lambda: cluster.owner(KEY).info("role") == "master")
        assert {answer.status_code for answer in await ask_at_once(stage, 20)} == {200}


async def test_the_only_server_is_lost_and_comes_back(database_url: str, tmp_path: Path) -> None:
    """The library forgets a server that failed; with the last one it would have none to ask."""
    server = Server(tmp_path / "node", (*FAST, "--cluster-enabled", "yes", "--cluster-port", str(free_port())))
    settings = Cluster([server]).settings
    try:
        server.start()
        await eventually(lambda: server.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383))
        await eventually(lambda: (server.ask("CLUSTER INFO") or {}).get("cluster_state") == "ok")
        async with portal(database_url, settings, tmp_path / "p", TOTP_MAX_WAIT="60") as stage:
            assert {answer.status_code for answer in await ask_at_once(stage, 5)} == {200}
            server.kill()
            for _ in range(2):
                for answer in await ask_at_once(stage, 5):
                    refusal(answer, 503)
            server.start()
            await eventually(lambda: (server.ask("CLUSTER INFO") or {}).get("cluster_state") == "ok")
            assert {answer.status_code for answer in await ask_at_once(stage, 5)} == {200}
    finally:
        server.kill()
