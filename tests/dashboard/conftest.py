"""A real system, and people who look at it with a real browser."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from demo.api import Api
from demo.play import signed_in
from local.launching import launch_options
from local.system import LocalSystem

SCREENSHOTS = Path(__file__).parents[2] / ".local" / "screenshots"
DARK_PREFERENCE = "layout.css.prefers-color-scheme.content-override"
LATER = {"provider": "openserve", "action": "validation", "run_after": "2990-01-01T00:00:00Z"}
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 860}
Visit = Callable[..., Awaitable[Page]]


@pytest.fixture(scope="package")
async def system() -> AsyncIterator[LocalSystem]:
    """All of it, wired by the manifests."""
    with tempfile.TemporaryDirectory(prefix="rpa-test-dashboard-") as state:
        async with LocalSystem(Path(state)) as running:
            yield running


@pytest.fixture(scope="package")
async def done(system: LocalSystem) -> int:
    """A job that is completed, with its evidence."""
    async with signed_in(system.env) as api, asyncio.timeout(120):
        _, job = await api.submit({"provider": "octotel", "action": "validation", "parameters": {"circuit": "OCT-1"}})
        while (await api.job(job["id"]))["status"] != "completed":  # noqa: ASYNC110 - another process brings it about
            await asyncio.sleep(0.2)
    return int(job["id"])


@pytest.fixture
async def api(system: LocalSystem) -> AsyncIterator[Api]:
    """The administrator's API."""
    async with signed_in(system.env) as api:
        yield api


@pytest.fixture
async def database(system: LocalSystem) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """The system's database."""
    async with await psycopg.AsyncConnection.connect(system.env["DATABASE_URL"], autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="package")
async def browsers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Browser]]:
    """One for people who like it light, one for those who like it dark."""
    options = launch_options(tmp_path_factory.mktemp("browser"), "/")
    options = {"executable_path": options.get("executablePath"), "channel": options.get("channel")}
    async with AsyncExitStack() as stack:
        playwright = await stack.enter_async_context(async_playwright())
        opened = {}
        for scheme, number in (("light", 1), ("dark", 0)):
            browser = await playwright.firefox.launch(**options, firefox_user_prefs={DARK_PREFERENCE: number})
            stack.push_async_callback(browser.close)
            opened[scheme] = browser
        yield opened


@pytest.fixture
async def visit(system: LocalSystem, browsers: dict[str, Browser]) -> AsyncIterator[Visit]:
    """Opens a page as somebody who is signed in; what browsers complain of, a broken policy above all, is an error."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    async def opened(
        path: str,
        scheme: str = "light",
        size: dict[str, int] = DESK,
        *,
        known: bool = True,
        complaining: bool = False,
    ) -> Page:
        context = await browsers[scheme].new_context(base_url=system.env["MONITOR_URL"], viewport=size)
        contexts.append(context)
        if known:
            await context.add_cookies(
                [{"name": "rpa", "value": await token(system), "url": system.env["MONITOR_URL"], "httpOnly": True}]
            )
        page = await context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        if not complaining:
            page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
        await page.goto(path)
        return page

    yield opened
    for context in contexts:
        await context.close()
    # For a picture Playwright adds a style of its own; that no page of ours has one is tested without a browser.
    assert [it for it in complaints if "an inline style (style-src-elem)" not in it] == []


async def token(system: LocalSystem) -> str:
    """An administrator's."""
    form = {"grant_type": "password", "username": "admin", "password": system.env["ADMIN_PASSWORD"]}
    async with httpx.AsyncClient(base_url=system.env["SUBMIT_URL"], trust_env=False) as client:
        return str((await client.post("/auth/token", data=form)).json()["access_token"])


async def keep(page: Page, name: str) -> None:
    """A picture for people to look at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
