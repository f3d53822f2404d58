"""The local system with faults laid in: its broker, node, portals, workers and ORDS are ours."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from local import process
from local.accounts import Account
from local.serving import serving
from local.system import NODE, ROOT, LocalSystem
from tests.faults import browsing
from tests.faults.broker import FaultyBroker, Weather
from tests.faults.configuration import SCHEDULES, TIMES, overrides
from tests.faults.drawing import Lots
from tests.faults.ords import Ords
from tests.faults.portal import Portals
from tests.faults.statements import statements
from tests.faults.worker import Workers

process.STABLE_SECONDS = 1.0  # what dies here dies often, and by no fault of its own
INJECTED = Path(__file__).with_name("injected")


class FaultySystem(LocalSystem):
    """A system that is about to suffer. `faults` is the folder through which its functions are reached."""

    def __init__(self, state: Path, lots: Lots, scale: int = 1) -> None:
        self.faults = state.resolve() / "faults"
        self.lots = lots
        self.weather = Weather(lots)
        self.portals: Portals
        self.workers: Workers
        self.ords: Ords
        self.portal_url = ""
        self._outside = AsyncExitStack()
        self._lay_in()
        super().__init__(
            state,
            overrides=overrides(self.faults, f"{INJECTED}:{ROOT}", scale),
            schedules=SCHEDULES,
            broker=partial(FaultyBroker, weather=self.weather),
        )

    def _lay_in(self) -> None:
        for folder in ("clock", "armed", "met"):
            (self.faults / folder).mkdir(parents=True, exist_ok=True)
        for file in ("fired", "browsers"):
            (self.faults / file).touch()
        (self.faults / "statements.json").write_text(json.dumps(statements()))
        (self.faults / "times.json").write_text(json.dumps(TIMES))
        drawn = {"seed": self.lots.seed, "classes": sorted(self.lots.classes)}
        (self.faults / "lots.json").write_text(json.dumps(drawn))

    async def _start_outside(
        self,
        addresses: Mapping[str, str],
        secrets: Mapping[str, str],
        known: Iterable[Account],
        _config: Mapping[str, str],
    ) -> None:
        own = {"BROWSER_NODE_TOKEN": secrets["node_token"], "RPA_FAULTS": str(self.faults)}
        await self._run(NODE, "tests.faults.node", addresses, own)
        self.portals = Portals({account.prefix: account.seed for account in known})
        self.workers = Workers(self.lots, self.portals)
        self.ords = Ords(secrets["ords_token"], self.lots)
        self.portal_url = addresses["portal"]
        self._outside.push_async_callback(browsing.stop)
        self._outside.push_async_callback(self.workers.aclose)
        for name, app in (("portal", self.portals.app), ("worker", self.workers.app), ("ords", self.ords.app)):
            await self._outside.enter_async_context(serving(app, urlsplit(addresses[name]).port or 0))

    async def __aenter__(self) -> Self:
        try:
            return await super().__aenter__()
        except BaseException:
            await self._outside.aclose()
            raise

    async def __aexit__(self, *error: object) -> None:
        try:
            await super().__aexit__(*error)
        finally:
            await self._outside.aclose()
