"""Dispatch: from POST /jobs to the order at the worker, beside the start of the same browser alone."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from playwright.async_api import BrowserType, async_playwright

from benchmarks.figures import Comparison, Sample, compare, in_turns
from benchmarks.worker import Order, Worker, operator, working
from local.launching import browser_kind, launch
from local.sweeping import kill_browsers
from local.system import LocalSystem

ROUNDS = 4
ORDER, CONNECTED = "until the order is there", "until its worker is connected"
ALONE = "the same browser, started alone"
PAUSE_SECONDS = 0.15
SETTLED_SECONDS = 30.0

WISH = {"provider": "metrofiber", "action": "validation", "parameters": {"circuit": "MF-20311"}}
BROWSERLESS = WISH | {"provider": "browserless"}
PROVIDERS = {"browserless.yaml": "actions: [validation]\nbrowser: false\n"}

Browsers = Sequence[Mapping[str, Any]]


async def measure(folder: Path) -> list[Comparison]:
    """A browser started for its job, one that was warm, and a provider that needs none."""
    async with async_playwright() as playwright, working() as worker:
        kind: BrowserType = getattr(playwright, browser_kind())
        return [*await _cold(folder / "cold", worker, kind), *await _warm(folder / "warm", worker, kind)]


async def _cold(folder: Path, worker: Worker, kind: BrowserType) -> list[Comparison]:
    overrides = {"rpa-config": {"WORKER_URLS": worker.url}, "rpa-providers": PROVIDERS}
    async with LocalSystem(folder, overrides=overrides) as system, operator(system) as http:
        job = Dispatch(system, http, worker, kind, lambda browsers: not browsers)
        rounds = await in_turns(ROUNDS, job.with_browser, job.without_browser, Alone(folder, kind))
    return [
        *compare("cold browser", ALONE, {ORDER: "s", CONNECTED: "s"}, ((cold, alone) for cold, _, alone in rounds)),
        *compare("no browser", ALONE, {ORDER: "s"}, ((none, alone) for _, none, alone in rounds)),
    ]


async def _warm(folder: Path, worker: Worker, kind: BrowserType) -> list[Comparison]:
    overrides = {"rpa-config": {"WORKER_URLS": worker.url, "BROWSER_WARM_POOL": "1"}}
    async with LocalSystem(folder, overrides=overrides) as system, operator(system) as http:
        job = Dispatch(system, http, worker, kind, _one_is_warm)
        try:
            await job.settle()
        except TimeoutError:
            print(f"no browser was warm within {SETTLED_SECONDS:g} s: left out", file=sys.stderr)
            return []
        rounds = await in_turns(ROUNDS, job.with_browser, Alone(folder, kind))
    return compare("warm browser", ALONE, {ORDER: "s", CONNECTED: "s"}, rounds)


def _one_is_warm(browsers: Browsers) -> bool:
    return [(browser["job_id"], browser["ready_at"] is not None) for browser in browsers] == [(None, True)]


class Dispatch:
    """Submits a job, takes its order, ends it, and waits until the browsers are as they were."""

    def __init__(
        self,
        system: LocalSystem,
        http: httpx.AsyncClient,
        worker: Worker,
        kind: BrowserType,
        settled: Callable[[Browsers], bool],
    ) -> None:
        self._system = system
        self._http = http
        self._worker = worker
        self._kind = kind
        self._settled = settled

    async def with_browser(self) -> Sample:
        """One job that needs a browser."""
        begun, arrived, order = await self._ordered(WISH)
        browser = await self._kind.connect(order["browser_service_url"])
        connected = time.perf_counter()
        await browser.close()
        await self._end(order)
        return {ORDER: arrived - begun, CONNECTED: connected - begun}

    async def without_browser(self) -> Sample:
        """One job that needs none."""
        begun, arrived, order = await self._ordered(BROWSERLESS)
        await self._end(order)
        return {ORDER: arrived - begun}

    async def _ordered(self, wish: Mapping[str, Any]) -> tuple[float, float, Order]:
        begun = time.perf_counter()
        (await self._http.post("/jobs", json=wish)).raise_for_status()
        return begun, *await self._worker.orders.get()

    async def _end(self, order: Order) -> None:
        report = {"job_id": order["job_id"], "attempt": order["attempt"], "status": "completed"}
        headers = {"Authorization": f"Bearer {order['token']}"}
        url = f"{order['orchestrator_callback']}/callbacks/job-complete"
        (await self._http.post(url, json=report, headers=headers)).raise_for_status()
        await self.settle()

    async def settle(self) -> None:
        """Wait until the browsers are as they should be between two jobs. Raises TimeoutError."""
        url = f"{self._system.env['MONITOR_URL']}/browser-services"
        async with asyncio.timeout(SETTLED_SECONDS):
            while True:
                answer = await self._http.get(url)
                if self._settled(answer.raise_for_status().json()["items"]):
                    return
                await asyncio.sleep(PAUSE_SECONDS)


class Alone:
    """Starts a browser as the browser node does, with nothing around it."""

    def __init__(self, state: Path, kind: BrowserType) -> None:
        self._state = state.resolve()
        self._kind = kind

    async def __call__(self) -> Sample:
        """Until it says that it accepts connections, and until one is there."""
        folder = self._state / "alone"
        folder.mkdir()
        try:
            begun = time.perf_counter()
            process = await launch(self._state, "alone", folder, f"/{secrets.token_hex(20)}")
            assert process.stdout
            address = (await process.stdout.readline()).decode().strip()
            announced = time.perf_counter()
            browser = await self._kind.connect(address)
            connected = time.perf_counter()
            await browser.close()
        finally:
            await asyncio.to_thread(kill_browsers, self._state, "alone")
            shutil.rmtree(folder)
        return {ORDER: announced - begun, CONNECTED: connected - begun}
