"""What workers do in a browser: open a page in Firefox, or shake hands with a light one."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from playwright.async_api import Error, Playwright, async_playwright

from local.launching import browser_kind

BROWSE_SECONDS = 10.0
_driver: Playwright | None = None
_starting = asyncio.Lock()


class BrowserLost(Exception):
    """It does not answer."""


async def browse(url: str, name: str, page: str | None) -> None:
    """Prove that the browser is there and ours. Raises BrowserLost."""
    try:
        async with asyncio.timeout(BROWSE_SECONDS):
            # Warm browsers are light ones here, whoever claims them.
            if page and not name.startswith("rpa-browser-warm-"):
                await _open_page(url, page)
            else:
                await _shake_hands(url)
    except (OSError, TimeoutError, Error) as error:
        raise BrowserLost(type(error).__name__) from None


async def _shake_hands(url: str) -> None:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(f"GET {parts.path} HTTP/1.1\r\nUpgrade: websocket\r\n\r\n".encode())
        status = await reader.readline()
    finally:
        writer.close()
    if b" 101 " not in status:
        raise ConnectionError


async def _open_page(url: str, page: str) -> None:
    global _driver
    async with _starting:
        _driver = _driver or await async_playwright().start()
    kind = _driver.chromium if browser_kind() == "chromium" else _driver.firefox
    browser = await kind.connect(url)
    try:
        tab = await browser.new_page()
        await tab.goto(page)
        await tab.wait_for_selector("#ready")
    finally:
        await browser.close()


async def stop() -> None:
    """Give the driver back."""
    global _driver
    if _driver is not None:
        await _driver.stop()
        _driver = None
