"""A whole system on this machine: stores, functions, broker, ticks, browsers, and the demo's pieces."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from local.accounts import Account, accounts, logins, periods, prefixes, seeds
from local.broker import Broker
from local.datastores import Datastores, start_datastores
from local.environment import environment, here
from local.kustomize import ManifestError
from local.manifests import Manifests, Overrides, Service, Trigger
from local.overlay import overlay, public_environment, write_environment
from local.pings import ping
from local.process import Children, Program, marked
from local.readiness import NotReady, ready
from local.running import SystemRunning, sole
from local.secrets import local_secrets
from local.serving import listen, reserve, serving, url
from shared.logs import JsonLines

CANNOT_START = (SystemRunning, ManifestError, RuntimeError)
"""Why a system does not start; the message is for people."""

ROOT = Path(__file__).parents[1]
MANIFESTS = ROOT / "knative" / "overlays" / "local"
NEIGHBOURS = {"portal": "/health", "worker": "/status", "ords": "/health"}
"""What a real system meets outside, here the demo's, and where each says that it is up."""
LOGINS, SEEDS = "logins.env", "seeds.env"
"""Accounts at the demo's portals, for people and workers; the seeds of their codes, for people alone."""
NODE = "browser-node"
NODE_USERS = ("provision-browser", "reap-idle")
BrokerFactory = Callable[[str, Sequence[Trigger], Mapping[str, str]], Broker]
"""From its path, its triggers and the functions' addresses."""


class LocalSystem:
    """Runs what the manifests say. `env` has the addresses once it is entered, `children` every process by name."""

    def __init__(
        self,
        state: Path,
        *,
        overrides: Overrides | None = None,
        schedules: Mapping[str, str] | None = None,
        manifests: Path = MANIFESTS,
        ticks: bool = True,
        broker: BrokerFactory = Broker,
    ) -> None:
        self.state = state.resolve()
        self.env: dict[str, str] = {}
        self.children = Children()
        self._overrides = overrides or {}
        self._schedules = schedules or {}
        self._folder = manifests
        self._ticks = ticks
        self._broker = broker
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start it. Raises SystemRunning, NotReady, ManifestError."""
        async with AsyncExitStack() as stack:
            stack.enter_context(sole(self.state))
            self._forget_environment()
            stack.enter_context(_logging(self.state / "log" / "broker.log"))
            stack.push_async_callback(self.children.stop_all)
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._forget_environment()
        await self._stack.aclose()

    def _forget_environment(self) -> None:
        for name in ("env", LOGINS, SEEDS):
            (self.state / name).unlink(missing_ok=True)

    async def _start(self, stack: AsyncExitStack) -> None:
        manifests = Manifests(self._folder)
        manifests.reschedule(self._schedules)
        manifests.lay_over(self._overrides)
        entries = manifests.config_maps["rpa-providers"]
        secrets = local_secrets(self.state, [prefix.lower() for prefix in prefixes(entries)])
        known = accounts(entries, secrets)
        listeners = {service.name: stack.enter_context(listen()) for service in manifests.services()}
        holders = {name: stack.enter_context(reserve()) for name in (*NEIGHBOURS, NODE)}
        addresses = {name: url(bound) for name, bound in (listeners | holders).items()}
        await self._start_outside(addresses, secrets, known, manifests.config_maps["rpa-config"])
        stores = await start_datastores(self.children, self.state, secrets)
        await self._migrate(stores)
        manifests.lay_over(overlay(stores, secrets, known))
        manifests.lay_over(self._overrides)
        broker_url = await stack.enter_async_context(_serving(manifests, self._broker, addresses))
        for service in manifests.services():
            own = environment(manifests, service, self.state / "mounts", addresses) | {"K_SERVICE": service.name}
            if service.name in manifests.publishers():
                own["K_SINK"] = broker_url
            if service.name in NODE_USERS:
                own |= {"BROWSER_NODE_URL": addresses[NODE], "BROWSER_NODE_TOKEN": secrets["node_token"]}
            await self._start_function(service, own, listeners[service.name].fileno())
        await ready(self._probes(addresses), self.children)
        self.env = public_environment(addresses, broker_url, stores, secrets)
        write_environment(self.state / LOGINS, logins(known, addresses["portal"]))
        write_environment(self.state / SEEDS, seeds(known) | periods(known))
        write_environment(self.state / "env", self.env)
        if self._ticks:
            await stack.enter_async_context(_ticking(manifests, addresses))

    async def _start_outside(
        self,
        addresses: Mapping[str, str],
        secrets: Mapping[str, str],
        known: Iterable[Account],
        settings: Mapping[str, str],
    ) -> None:
        """The browser node and the demo's pieces: nothing of them is in the manifests."""
        own = logins(known, addresses["portal"])
        telemetry = {name: value for name, value in settings.items() if name.startswith("OTEL_")}
        ords = {"ORDS_TOKEN": secrets["ords_token"], "STATE_FILE": str(self.state / "ords.json")}
        await self._run(NODE, "local.browser_node", addresses, {"BROWSER_NODE_TOKEN": secrets["node_token"]})
        await self._run("portal", "demo.portal", addresses, own | seeds(known) | periods(known))
        await self._run("worker", "demo.worker", addresses, own | telemetry)
        await self._run("ords", "demo.ords", addresses, ords)

    async def _run(self, name: str, module: str, addresses: Mapping[str, str], own: Mapping[str, str]) -> None:
        port = addresses[name].rpartition(":")[2]
        await self._python(name, [module], {"PORT": port, "HOST": "127.0.0.1", **own})

    async def _start_function(self, service: Service, own: Mapping[str, str], listener: int) -> None:
        # Its socket is open before it runs and stays open while it restarts: callers wait, none is refused.
        words = [word for word in service.argv if not word.startswith(("--host=", "--port="))]
        await self._python(service.name, [*words, f"--fd={listener}"], own, [listener])

    async def _python(
        self, name: str, argv: Iterable[str], own: Mapping[str, str], sockets: Iterable[int] = ()
    ) -> None:
        values = marked(self.state) | {"PYTHONPATH": str(ROOT), **own}
        log = self.state / "log" / f"{name}.log"
        await self.children.start(Program(name, [sys.executable, "-m", *argv], values, log, pass_fds=tuple(sockets)))

    def _probes(self, addresses: Mapping[str, str]) -> dict[str, str]:
        ours = {name: address for name, address in addresses.items() if name in self.children}
        return {name: address + NEIGHBOURS.get(name, "/health/ready") for name, address in ours.items()}

    async def _migrate(self, stores: Datastores) -> None:
        values = marked(self.state) | {"PYTHONPATH": str(ROOT), "DATABASE_URL": stores.database_url}
        log = self.state / "log" / "migrate.log"
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "shared.migrate", env=values, stdout=file, stderr=file
            )
        if await process.wait():
            raise NotReady("migrate", log)


@contextlib.asynccontextmanager
async def _serving(manifests: Manifests, make: BrokerFactory, addresses: Mapping[str, str]) -> AsyncIterator[str]:
    path = manifests.broker_path()
    broker = make(path, manifests.triggers(), addresses)
    try:
        async with serving(broker.app) as base:
            yield base + path
    finally:
        await broker.aclose()


@contextlib.asynccontextmanager
async def _ticking(manifests: Manifests, addresses: Mapping[str, str]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(ping(source, here(source.sink, addresses))) for source in manifests.pings()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def _logging(file: Path) -> Iterator[None]:
    """The broker's and the ticks' log lines, as the functions write theirs."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(file)
    handler.setFormatter(JsonLines("broker"))
    logger = logging.getLogger("local")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
