"""Playwright: one driver a process, one remote browser an attempt, connected when first used."""

from __future__ import annotations

import asyncio
import contextlib

from playwright.async_api import Browser, BrowserContext, BrowserType, Error, Page, Playwright, async_playwright

from rpa_worker.errors import WorkerError

MASKED = "input[type=password], input[autocomplete=one-time-code], input[name*=code i], input[name*=otp i]"
SCREENSHOT_TIMEOUT = 10_000
CLOSE_TIMEOUT = 5.0


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

    def __init__(self, driver: Driver, url: str | None) -> None:
        self._driver = driver
        self._url = url
        self._browser: Browser | None = None
        self._page: Page | None = None
        self._opening = asyncio.Lock()

    async def browser(self) -> Browser:
        async with self._opening:
            return await self._connected()

    async def page(self) -> Page:
        """The attempt's first page, the same one each time."""
        async with self._opening:
            if self._page is None:
                context: BrowserContext = await (await self._connected()).new_context()
                self._page = await context.new_page()
            return self._page

    async def _connected(self) -> Browser:
        if self._url is None:
            raise WorkerError("this job has no browser: its provider is configured without one")
        if self._browser is None:
            self._browser = await self._driver.connect(self._url)
        return self._browser

    async def screenshot(self) -> bytes | None:
        """The page that was opened last, passwords and codes masked; None where no page is open."""
        contexts = self._browser.contexts if self._browser else []
        pages = [page for context in contexts for page in context.pages if not page.is_closed()]
        if not pages:
            return None
        return await pages[-1].screenshot(mask=[pages[-1].locator(MASKED)], timeout=SCREENSHOT_TIMEOUT)

    async def close(self) -> None:
        """Let the browser go, even one that is gone already."""
        if self._browser is not None:
            with contextlib.suppress(Error, TimeoutError):
                await asyncio.wait_for(self._browser.close(), CLOSE_TIMEOUT)
