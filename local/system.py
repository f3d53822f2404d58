"""A whole system on this machine: stores, functions, broker, ticks, browsers, and the demo's pieces."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shlex
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self, TextIO

import httpx
import uvicorn

from local.broker import Broker
from local.datastores import Datastores, start_datastores
from local.manifests import Manifests, Overrides, Service
from local.pings import ping
from local.process import Children, Program, free_port, marked
from local.secrets import local_secrets

ROOT = Path(__file__).parents[1]
MANIFESTS = ROOT / "knative" / "overlays" / "local"
READY_SECONDS = 60.0
PROVIDERS = ("metrofiber", "octotel", "openserve", "evotel")
NEIGHBOURS = ("portal", "worker", "ords")
"""What a real system meets outside; here the demo's."""


class SystemRunning(Exception):
    """Another process runs a system in this state folder; stop it, or choose another folder with RPA_LOCAL."""


class LocalSystem:
    """Runs what the manifests say. `env` has the addresses once it is entered."""

    def __init__(
        self, state: Path, *, overrides: Overrides | None = None, manifests: Path = MANIFESTS, ticks: bool = True
    ) -> None:
        self.state = state.resolve()
        self.env: dict[str, str] = {}
        self.children = Children()
        self._overrides = overrides or {}
        self._folder = manifests
        self._ticks = ticks
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.state.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.state)
        self._stack.callback(self._lock.close)
        self._stack.push_async_callback(self.children.stop_all)
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        secrets = local_secrets(self.state, PROVIDERS)
        stores = await start_datastores(self.children, self.state, secrets)
        await self._migrate(stores)
        manifests = Manifests(self._folder, _overlay(stores, secrets, self._overrides))
        services = manifests.services()
        addresses = {name: f"http://127.0.0.1:{free_port()}" for name in (*(s.name for s in services), *NEIGHBOURS)}
        broker_url = await self._start_broker(manifests, addresses)
        await self._start_node(secrets)
        await self._start_neighbours(addresses, secrets)
        for service in services:
            sink = broker_url if service.name in manifests.publishers() else None
            environment = manifests.environment(service, self.state / "mounts")
            await self._start_function(service, environment, addresses, sink)
        await self._ready(addresses)
        self.env = _env(addresses, broker_url, stores, secrets)
        _write_env(self.state / "env", self.env)
        if self._ticks:
            await self._start_ticks(manifests, addresses)

    def _environment(self, **own: str) -> dict[str, str]:
        return {**marked(self.state), "PYTHONPATH": str(ROOT), **own}

    async def _run(self, name: str, argv: list[str], environment: Mapping[str, str]) -> None:
        log = self.state / "log" / f"{name}.log"
        await self.children.start(Program(name, [sys.executable, "-m", *argv], environment, log))

    async def _migrate(self, stores: Datastores) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "shared.migrate",
            env=self._environment(DATABASE_URL=stores.database_url),
            stdout=asyncio.subprocess.DEVNULL,
        )
        if await process.wait():
            raise RuntimeError("the migration failed; its message is above")

    async def _start_broker(self, manifests: Manifests, addresses: Mapping[str, str]) -> str:
        broker = Broker(manifests.triggers(), addresses)
        self._stack.push_async_callback(broker.aclose)
        port = free_port()
        config = uvicorn.Config(
            broker.app(), host="127.0.0.1", port=port, log_config=None, access_log=False, lifespan="off"
        )
        server = _Server(config)
        task = asyncio.create_task(server.serve())

        async def stop() -> None:
            server.force_exit = server.should_exit = True
            await task

        self._stack.push_async_callback(stop)
        return f"http://127.0.0.1:{port}/rpa/default"

    async def _start_node(self, secrets: Mapping[str, str]) -> None:
        port = free_port()
        token = secrets["node_token"]
        own = {"PORT": str(port), "BROWSER_NODE_TOKEN": token}
        await self._run("browser-node", ["local.browser_node"], self._environment(**own))
        self._node = {"BROWSER_NODE_URL": f"http://127.0.0.1:{port}", "BROWSER_NODE_TOKEN": token}

    async def _start_neighbours(self, addresses: Mapping[str, str], secrets: Mapping[str, str]) -> None:
        accounts = {f"{p.upper()}_USERNAME": f"robot@{p}.example" for p in PROVIDERS}
        accounts |= {f"{p.upper()}_PASSWORD": secrets[f"{p}_password"] for p in PROVIDERS}
        seeds = {"OCTOTEL_TOTP_SECRET": secrets["octotel_seed"]}
        urls = {f"{p.upper()}_URL": f"{addresses['portal']}/{p}" for p in PROVIDERS}
        ords = {"ORDS_TOKEN": secrets["ords_token"], "STATE_FILE": str(self.state / "ords.json")}
        for name, own in (("portal", accounts | seeds), ("worker", accounts | urls), ("ords", ords)):
            environment = self._environment(PORT=addresses[name].rpartition(":")[2], HOST="127.0.0.1", **own)
            await self._run(name, [f"demo.{name}"], environment)

    async def _start_function(
        self, service: Service, environment: Mapping[str, str], addresses: Mapping[str, str], sink: str | None
    ) -> None:
        own = {key: _addressed(value, addresses) for key, value in environment.items()}
        own |= {"K_SERVICE": service.name, **({"K_SINK": sink} if sink else {})}
        if "BROWSER_NODE_URL" not in own:
            own |= self._node if service.name in ("provision-browser", "reap-idle") else {}
        here = {
            "--host=0.0.0.0": "--host=127.0.0.1",
            "--port=8080": f"--port={addresses[service.name].rpartition(':')[2]}",
        }
        await self._run(service.name, [here.get(word, word) for word in service.argv], self._environment(**own))

    async def _ready(self, addresses: Mapping[str, str]) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
            await asyncio.gather(*(self._answers(http, name, url) for name, url in addresses.items()))

    async def _answers(self, http: httpx.AsyncClient, name: str, url: str) -> None:
        path = {"worker": "/status", "portal": "/health", "ords": "/health"}.get(name, "/health/ready")
        try:
            async with asyncio.timeout(READY_SECONDS):
                while True:
                    try:
                        if (await http.get(url + path)).is_success:
                            return
                    except httpx.HTTPError:
                        pass
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise RuntimeError(f"{name} does not get ready; see {self.state / 'log' / name}.log") from None

    async def _start_ticks(self, manifests: Manifests, addresses: Mapping[str, str]) -> None:
        tasks = [asyncio.create_task(ping(source, addresses[source.sink])) for source in manifests.pings()]

        async def stop() -> None:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._stack.push_async_callback(stop)


class _Server(uvicorn.Server):
    """A server inside this process, whose signals are its owner's."""

    def install_signal_handlers(self) -> None: ...

    async def serve(self, sockets: object = None) -> None:
        await self._serve(sockets)  # type: ignore[arg-type]


def _lock(state: Path) -> TextIO:
    file = (state / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise SystemRunning(f"a system runs in {state} already; stop it with `make down`, or set RPA_LOCAL") from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _overlay(stores: Datastores, secrets: Mapping[str, str], overrides: Overrides) -> Overrides:
    own: dict[str, dict[str, str]] = {
        "rpa-database": {"DATABASE_URL": stores.database_url},
        "rpa-valkey": {"VALKEY_PASSWORD": stores.valkey_password},
        "rpa-tokens": {"JWT_SECRET_KEY": secrets["jwt_key"]},
        "rpa-admin": {"ADMIN_USERNAME": "admin", "ADMIN_PASSWORD": secrets["admin_password"]},
        "rpa-ords": {"CALLBACK_AUTH_TOKEN": secrets["ords_token"]},
        "rpa-totp": {f"{p.upper()}_TOTP_SECRET": secrets[f"{p}_seed"] for p in PROVIDERS},
        "rpa-config": {"VALKEY_HOST": stores.valkey_host, "VALKEY_PORT": str(stores.valkey_port)},
    }
    for name, values in overrides.items():
        own[name] = {**own.get(name, {}), **values}
    return own


def _addressed(value: str, addresses: Mapping[str, str]) -> str:
    for name, url in addresses.items():
        value = value.replace(f"http://{name}.rpa.svc.cluster.local", url)
    return value


def _env(
    addresses: Mapping[str, str], broker_url: str, stores: Datastores, secrets: Mapping[str, str]
) -> dict[str, str]:
    return {
        "SUBMIT_URL": addresses["submit-job"],
        "TOTP_URL": addresses["issue-totp"],
        "CALLBACK_URL": addresses["callback"],
        "MONITOR_URL": addresses["monitor"],
        "BROKER_URL": broker_url,
        "DATABASE_URL": stores.database_url,
        "VALKEY_URL": stores.valkey_url,
        "ADMIN_USERNAME": "admin",
        "ADMIN_PASSWORD": secrets["admin_password"],
        "ORDS_INBOX_URL": addresses["ords"],
        "PORTAL_URL": addresses["portal"],
        "WORKER_URL": addresses["worker"],
    }


def _write_env(file: Path, env: Mapping[str, str]) -> None:
    file.touch(0o600)
    file.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in env.items()))
