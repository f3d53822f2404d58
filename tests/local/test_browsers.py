"""Browsers as processes: one for each name, and nothing left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from playwright.async_api import async_playwright

from local.browsers import browsers_folder
from local.process import MARK, Child, Program, base_environment, free_port
from local.sweeping import browser_processes
from shared.browsers import BrowserFailed, BrowserSpec, BrowsersUnavailable, Phase
from shared.browsers.local import LocalBrowsers
from tests.engines import ENGINES
from tests.serving import eventually

TOKEN = "token-of-the-node"


def marked(state: Path) -> list[psutil.Process]:
    """Processes of browsers of a state folder."""
    return list(browser_processes(state))


def spec(number: int, lifetime: int = 300) -> BrowserSpec:
    """A browser to start."""
    return BrowserSpec(f"rpa-browser-{number}-1", f"/{'s' * 40}", lifetime, number, 1)


class Node:
    """A node that runs, and a client of it."""

    def __init__(self, child: Child, browsers: LocalBrowsers, state: Path) -> None:
        self.child = child
        self.browsers = browsers
        self.state = state


@contextlib.asynccontextmanager
async def run_node(state: Path, **environment: str) -> AsyncIterator[Node]:
    """A browser node."""
    port = free_port()
    own = {"PORT": str(port), "BROWSER_NODE_TOKEN": TOKEN, MARK: str(state), **environment}
    program = Program(
        "node",
        [sys.executable, "-m", "local.browser_node"],
        base_environment() | own,
        state / "node.log",
        restart=False,
    )
    child = Child(program)
    await child.start()
    browsers = LocalBrowsers(f"http://127.0.0.1:{port}", TOKEN)
    try:
        await _answers(browsers)
        yield Node(child, browsers, state)
    finally:
        await browsers.aclose()
        await child.stop()


async def _answers(browsers: LocalBrowsers) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                return [_ async for _ in browsers.list()] and None
            except BrowsersUnavailable:
                await asyncio.sleep(0.05)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A browser node with a state folder of its own."""
    async with run_node(tmp_path) as running:
        yield running


@pytest.mark.parametrize("engine", ENGINES)
async def test_creating_twice_makes_one_that_can_be_used_and_deleted(engine: str, tmp_path: Path) -> None:
    """A second create adopts the first; workers connect with Playwright; delete leaves no process and no file."""
    async with run_node(tmp_path, BROWSER=engine) as node:
        await _lives_and_goes(node, engine)


async def _lives_and_goes(node: Node, engine: str) -> None:
    wanted = spec(1)
    await node.browsers.create(wanted)
    await node.browsers.create(wanted)
    ready = await node.browsers.wait_ready(wanted.name, timeout=60)
    assert [browser.name async for browser in node.browsers.list()] == [wanted.name]
    async with async_playwright() as playwright:
        kind = getattr(playwright, engine)
        browser = await kind.connect(f"ws://{ready.address}{wanted.secret_path}")
        page = await browser.new_page()
        await page.set_content("<title>Works</title>")
        assert await page.title() == "Works"
        with pytest.raises(Exception, match=r"403|404|400|closed|socket"):
            await kind.connect(f"ws://{ready.address}/wrong", timeout=3000)
        await browser.close()
    await node.browsers.delete(wanted.name)
    await node.browsers.delete(wanted.name)
    assert marked(node.state) == []
    assert list(browsers_folder(node.state).iterdir()) == []
    assert [browser async for browser in node.browsers.list()] == []


async def test_a_killed_browser_is_reported(node: Node) -> None:
    """A browser that dies is listed as failed, with a reason."""
    await node.browsers.create(spec(2))
    await node.browsers.wait_ready(spec(2).name, timeout=60)
    for process in marked(node.state):
        with contextlib.suppress(psutil.Error):
            process.kill()

    async def failed() -> bool:
        return [b.phase async for b in node.browsers.list()] == [Phase.FAILED]

    async with asyncio.timeout(10):
        while not await failed():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    (browser,) = [b async for b in node.browsers.list()]
    assert browser.reason
    assert browser.reason.startswith("ended by SIGKILL")


async def test_a_browser_ends_when_its_lifetime_is_over(node: Node) -> None:
    """Whoever else is dead, the node ends it."""
    await node.browsers.create(spec(3, lifetime=1))
    with pytest.raises(BrowserFailed, match="lived its 1 s"):
        await node.browsers.wait_ready(spec(3).name, timeout=60)
    await eventually(lambda: marked(node.state) == [])


async def test_a_browser_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The reason is in the answer, soon, and holds no secret."""
    broken = tmp_path / "bin"
    broken.mkdir()
    (broken / "firefox-esr").write_text("#!/bin/sh\necho no display here >&2\nexit 3\n")
    (broken / "firefox-esr").chmod(0o755)
    path = f"{broken}:{os.environ['PATH']}"
    async with run_node(tmp_path, PATH=path, PLAYWRIGHT_BROWSERS_PATH=str(tmp_path)) as node:
        await node.browsers.create(spec(4))
        with pytest.raises(BrowserFailed) as failed:
            await node.browsers.wait_ready(spec(4).name, timeout=60)
    assert failed.value.reason.startswith("ended with 1: ")
    assert failed.value.reason.endswith("no display here")
    assert spec(4).secret_path not in failed.value.reason


async def test_no_browser_outlives_a_killed_node(node: Node) -> None:
    """SIGKILL of the node takes its browsers with it."""
    await node.browsers.create(spec(5))
    await node.browsers.wait_ready(spec(5).name, timeout=60)
    assert marked(node.state)
    assert node.child.pid
    os.kill(node.child.pid, signal.SIGKILL)
    await eventually(lambda: marked(node.state) == [])
    async with run_node(node.state):
        assert list(browsers_folder(node.state).iterdir()) == []


async def test_the_node_answers_nobody_without_its_token(node: Node) -> None:
    """Browsers are started for those who have the token."""
    stranger = LocalBrowsers(node.browsers._url, "guessed")
    with pytest.raises(BrowsersUnavailable, match="401"):
        await stranger.create(spec(6))
    await stranger.aclose()
