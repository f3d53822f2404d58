"""A trace is opened from its job's page, and what is in it can do nothing there."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect
from starlette.types import Receive, Scope, Send

from shared.tokens import Scope as Right
from tests.functions.stage import Stage, keyring, open_stage
from tests.intruders.forging import HOUR
from tests.serving import serving

ACT = "fetch('/ui/evil'); top.document.title = 'evil'"
POLICY = "async path => (await fetch(path)).headers.get('content-security-policy')"
FILE = "/ui/trace-viewer/file/resources/evil.html"


class Monitor:
    """The function, and which paths were asked for."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.asked: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append(scope["path"])
        await self._app(scope, receive, send)


@pytest.fixture
async def stage(database_url: str, valkey_settings: dict[str, str], tmp_path: Path) -> AsyncIterator[Stage]:
    async with open_stage(database_url, valkey_settings, tmp_path / "providers") as opened:
        yield opened


@pytest.fixture
async def recorded(browsers: dict[str, Browser], tmp_path: Path) -> dict[str, bytes]:
    """A trace of one click, by member."""
    context = await browsers["light"].new_context()
    await context.tracing.start(snapshots=True)
    page = await context.new_page()
    await page.set_content("<h1>Log in</h1><input id=user value=ann><button>Go</button>")
    await page.click("button")
    await context.tracing.stop(path=tmp_path / "trace.zip")
    await context.close()
    with zipfile.ZipFile(tmp_path / "trace.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


async def keep_trace(stage: Stage, members: dict[str, bytes]) -> int:
    """A job with this trace."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    order = await stage.until_running()
    upload = {"content": written.getvalue(), "headers": {"Content-Type": "application/zip"}}
    await stage.call("callback", "PUT", "/callbacks/evidence/trace.zip", token=order["token"], **upload)
    await stage.complete(order, evidence=["trace.zip"])
    return int(order["job_id"])


async def opened(browser: Browser, url: str, job_id: int) -> tuple[BrowserContext, Page]:
    """The viewer, as a person comes to it."""
    context = await browser.new_context(base_url=url)
    token = keyring().issue("ann", [Right.ADMIN], HOUR)
    await context.add_cookies([{"name": "rpa", "value": token, "url": url, "httpOnly": True, "sameSite": "Strict"}])
    page = await context.new_page()
    await page.goto(f"/ui/jobs/{job_id}")
    async with context.expect_page() as viewer:
        await page.get_by_role("link", name="Open the trace").click()
    return context, await viewer.value


async def test_a_trace_is_shown(stage: Stage, browsers: dict[str, Browser], recorded: dict[str, bytes]) -> None:
    """Steps, and what the page looked like, with what stood in its fields."""
    job_id = await keep_trace(stage, recorded)
    async with serving(Monitor(stage.apps["monitor"])) as url:
        context, viewer = await opened(browsers["light"], url, job_id)
        await viewer.get_by_role("treeitem").filter(has_text="Click").click()
        shown = viewer.frame_locator("iframe.snapshot-visible")
        await expect(shown.get_by_role("heading")).to_have_text("Log in")
        await expect(shown.locator("#user")).to_have_value("ann")
        await context.close()


def evil(members: dict[str, bytes], trace: str) -> dict[str, bytes]:
    """The trace with pages that try to act as who looks."""
    script = f'<script>{ACT}</script><img src=x onerror="{ACT}">'
    file, act = f"{FILE}?trace={trace}", f"javascript:{ACT}"
    html = ["HTML", {}, ["HEAD", {}, ["SCRIPT", {}, ACT]],
        ["BODY", {"onload": ACT, "ONPAGESHOW": ACT},
         ["H1", {}, "evil"],
         ["FORM", {"action": "/ui/evil", "method": "post"}, ["BUTTON", {"id": "form"}, "form"]],
         ["A", {"href": act, "id": "script"}, "script"], ["A", {"href": file, "id": "file"}, "file"],
         ["script", {}, ACT], ["IMG", {"src": "x", "onerror": ACT, "oNerror": ACT}],
         ["IFRAME", {"__playwright_src__": act}], ["IFRAME", {"src": act}],
         ["IFRAME", {"srcdoc": script}], ["IFRAME", {"__playwright_srcdoc__": script}],
         ["IFRAME", {"src": file}], ["IFRAME", {"__playwright_src__": file}],
         ["P", {f"x><script>{ACT}</script": ""}], [f"svg onload=\"{ACT}\"", {}],
         ["P x=y><script", {}, ACT]]]  # fmt: skip
    events = [json.loads(line) for line in members["trace.trace"].decode().split("\n") if line]
    for event in events:
        if event["type"] == "frame-snapshot":
            event["snapshot"]["html"] = html
            event["snapshot"]["doctype"] = f"html><script>{ACT}</script>"
    text = "\n".join(map(json.dumps, events)).encode()
    return {**members, "trace.trace": text, "resources/evil.html": f"<!doctype html>{script}".encode()}


async def test_a_trace_does_nothing(stage: Stage, browsers: dict[str, Browser], recorded: dict[str, bytes]) -> None:
    """No script in it runs, no form is sent, and none of its files becomes a page with our rights."""
    trace = "/ui/jobs/1/evidence/1/trace.zip"
    assert await keep_trace(stage, evil(recorded, trace)) == 1
    monitor = Monitor(stage.apps["monitor"])
    async with serving(monitor) as url:
        context, viewer = await opened(browsers["light"], url, 1)
        click = viewer.get_by_role("treeitem").filter(has_text="Click")
        shown = viewer.frame_locator("iframe.snapshot-visible")
        await click.click()
        await expect(shown.get_by_role("heading", name="evil")).to_be_visible()
        for name in ("form", "script", "file"):
            await shown.locator(f"#{name}").evaluate("it => it.click()")
        assert await viewer.evaluate(POLICY, f"{FILE}?trace={trace}") == "sandbox; default-src 'none'"
        file = await context.new_page()
        await file.goto(f"/ui/trace-viewer/?trace={trace}")
        await file.get_by_role("treeitem").first.wait_for()
        async with file.expect_navigation():
            await file.evaluate("path => location.assign(path)", f"{FILE}?trace={trace}")
        await (await context.new_page()).goto("/ui/static/icon.svg")  # after whatever the others asked for
        assert "/ui/evil" not in monitor.asked
        assert "evil" not in {await page.title() for page in context.pages}
        await context.close()
