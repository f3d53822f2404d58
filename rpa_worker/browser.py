"""Playwright: one driver a process, one remote browser an attempt, connected when first used."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
from pathlib import Path

from playwright.async_api import Browser, BrowserContext, BrowserType, Error, Page, Playwright, async_playwright

from rpa_worker import masking, tracing
from rpa_worker.errors import WorkerError
from rpa_worker.redaction import Redactor

PICTURE_TIMEOUT = 10.0
TRACE_TIMEOUT = 20.0
CLOSE_TIMEOUT = 5.0

logger = logging.getLogger(__name__)


class Driver:
    """Playwright's helper process, started with the first browser and shared by all."""

    def __init__(self, engine: str = "firefox") -> None:
        if engine not in {"firefox", "chromium"}:
            raise ValueError(f"BROWSER: {engine!r} is neither firefox nor chromium")
        self.engine = engine
        self._playwright: Playwright | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    async def connect(self, url: str) -> Browser:
        """The browser behind this WebSocket. Raises playwright's Error."""
        playwright = await self.playwright()
        return await self.browser_type(playwright).connect(url)

    async def playwright(self) -> Playwright:
        """The helper process, started if it does not run."""
        async with self._starting:
            if self._playwright is None:
                self._playwright = await async_playwright().start()
                self._watcher = asyncio.create_task(self._watch(self._playwright))
            return self._playwright

    def browser_type(self, playwright: Playwright) -> BrowserType:
        """Firefox or Chromium."""
        return playwright.chromium if self.engine == "chromium" else playwright.firefox

    async def stop(self) -> None:
        """End the helper process, if there is one."""
        if self._playwright is not None and self._watcher is not None:
            await self._playwright.stop()
            await self._watcher

    async def _watch(self, playwright: Playwright) -> None:
        """Once the helper process ends, fail the calls that wait for it: Playwright lets them hang."""
        transport = playwright._impl_obj._connection._transport
        await transport._proc.wait()  # type: ignore[attr-defined]
        self._playwright = None
        await playwright.stop()


class Session:
    """One attempt's browser."""

    def __init__(self, driver: Driver, url: str | None, redactor: Redactor, *, traced: bool = False) -> None:
        self._driver = driver
        self._url = url
        self._redactor = redactor
        self._traced = traced
        self._browser: Browser | None = None
        self._page: Page | None = None
        self._pages: list[Page] = []
        """All, in the order in which they were opened."""
        self._opening = asyncio.Lock()
        self._picturing = asyncio.Lock()

    async def browser(self) -> Browser:
        async with self._opening:
            return await self._connected()

    async def page(self) -> Page:
        """The attempt's first page, the same one each time."""
        async with self._opening:
            if self._page is None:
                context: BrowserContext = await (await self._connected()).new_context()
                await self._record(context)
                self._page = await context.new_page()
            return self._page

    async def _record(self, context: BrowserContext) -> None:
        """A trace is welcome; that there is none must not keep the action from its page."""
        try:
            if self._traced:
                await context.tracing.start(snapshots=True)  # without its pictures, which nobody could mask
        except Error as error:
            self._traced = False
            logger.warning("no trace: %s", error.message)

    async def _connected(self) -> Browser:
        if self._url is None:
            raise WorkerError("this job has no browser: its provider is configured without one")
        if self._browser is None:
            self._browser = await self._driver.connect(self._url)
            self._browser.on("context", self._opened_context)
        return self._browser

    def _opened_context(self, context: BrowserContext) -> None:
        context.on("page", self._opened_page)

    def _opened_page(self, page: Page) -> None:
        self._pages.append(page)

    async def picture(
        self, kind: masking.Kind = "png", *, quality: int | None = None, timeout: float = PICTURE_TIMEOUT
    ) -> bytes | None:
        """The page that was opened last, passwords and codes masked; None where no page is open or none can be shown.

        `timeout` in seconds. Raises playwright's Error, TimeoutError.
        """
        self._pages = [page for page in self._pages if not page.is_closed()]
        if not self._pages:
            return None
        page = self._pages[-1]
        async with asyncio.timeout(timeout), self._picturing:
            return await masking.picture(page, self._redactor, kind, quality=quality, timeout=timeout * 1000)

    async def trace(self) -> bytes | None:
        """What was recorded, secrets removed; None where nothing was.

        Raises playwright's Error, TraceNotKept, TimeoutError.
        """
        if not (self._traced and self._page):
            return None
        with tempfile.TemporaryDirectory(prefix="trace-") as folder:
            path = Path(folder) / "trace.zip"
            async with asyncio.timeout(TRACE_TIMEOUT):
                await self._page.context.tracing.stop(path=path)
                return await asyncio.to_thread(tracing.cleaned, path, self._redactor)

    async def close(self) -> None:
        """Let the browser go, even one that is gone already."""
        if self._browser is not None:
            with contextlib.suppress(Error, TimeoutError):
                await asyncio.wait_for(self._browser.close(), CLOSE_TIMEOUT)
