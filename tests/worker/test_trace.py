"""Playwright's trace of an attempt: when it is kept, and that no secret is in it."""

from __future__ import annotations

import base64
import html
import io
import json
import zipfile
from pathlib import Path
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from rpa_worker import Job, Worker, tracing
from rpa_worker.errors import TraceNotKept
from rpa_worker.redaction import HIDDEN, Redactor
from rpa_worker.spellings import spellings
from tests.counterparts import Client, OrchestratorStandIn
from tests.serving import serving

PASSWORD = 'pä<ss"w&rd/1'
UNKNOWN = "answer-to-a-question"
SESSION = "session-of-the-portal-0123456789"


def portal() -> Starlette:
    """A login page that repeats what it is sent, in every way that it can."""

    async def page(request: Request) -> HTMLResponse:
        sent = (await request.body()).decode()
        text = f"""<!doctype html><meta charset=utf-8><form method=post>
            <input id=user name=user><input id=password name=password type=password><input id=zed name=zed>
            <input id=question name=second_password><button>Go</button></form>
            <p>{html.escape(sent)}<script>const sent = {json.dumps(sent)}</script>"""
        answer = HTMLResponse(text)
        answer.set_cookie("sid", SESSION)
        return answer

    return Starlette(routes=[Route("/", page, methods=["GET", "POST"])])


async def log_in(job: Job, url: str) -> None:
    page = await job.page()
    await page.goto(url)
    code = await job.totp()
    await page.fill("#user", "ann")
    await page.fill("#password", job.portal.password)
    await page.fill("#zed", code)
    await page.fill("#question", UNKNOWN)
    await page.click("button")
    await page.locator("#zed").press_sequentially(code)
    for digit in code:
        await page.keyboard.press(digit)
    await page.evaluate(
        "secrets => fetch('?' + new URLSearchParams(secrets), "
        "{method: 'POST', body: JSON.stringify([secrets, JSON.stringify(secrets)]),"
        " headers: {authorization: 'Basic ' + btoa('ann:' + secrets.code)}}).then(it => it.text())",
        {"code": code, "number": int(code), "password": job.portal.password},
    )


@pytest.mark.parametrize("option", ["on", "failures", "off"])
async def test_a_trace_is_kept_where_it_is_wanted(
    client: Client, worker: Worker, orchestrator: OrchestratorStandIn, browser_url: str, option: str
) -> None:
    """on: of every attempt; failures: of those that fail; off: of none, and then none is recorded."""
    worker._trace = option

    @worker.action("octotel", "validation")
    async def validate(job: Job) -> None:
        page = await job.page()
        if option == "off":
            await page.context.tracing.start()  # one of the action's own
        await page.set_content("<h1>Log in</h1>")
        if job.id == 2:
            raise ValueError("no")

    expected = {"on": (True, True), "failures": (False, True), "off": (False, False)}
    for job_id in (1, 2):
        orchestrator.heard.clear()
        await client.execute(job_id, browser_service_url=browser_url)
        report = await orchestrator.completed()
        assert ("trace.zip" in report["evidence"]) is expected[option][job_id - 1]
        assert report["status"] == ("failed" if job_id == 2 else "completed")


async def test_no_secret_is_in_a_trace(
    worker: Worker,
    client: Client,
    orchestrator: OrchestratorStandIn,
    browser_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither password nor code in any spelling, nor what was typed into fields for them, nor the portal's session."""
    async with serving(portal()) as url:
        for name, value in {"URL": url, "USERNAME": "ann", "PASSWORD": PASSWORD}.items():
            monkeypatch.setenv(f"OCTOTEL_{name}", value)

        @worker.action("octotel", "validation")
        async def validate(job: Job) -> None:
            await log_in(job, url)
            raise ValueError("no")

        await client.execute(browser_service_url=browser_url)
        await orchestrator.completed()
    (trace,) = [content for name, _, content in orchestrator.calls("evidence") if name == "trace.zip"]
    with zipfile.ZipFile(io.BytesIO(trace)) as archive:
        members = {name: archive.read(name).decode() for name in archive.namelist()}
    assert {"trace.trace", "trace.network"} < set(members)
    for name, text in members.items():
        found = [it for it in [*spellings([PASSWORD, "111111", UNKNOWN]), SESSION, browser_url] if it in text]
        assert found == [], name
    events = [json.loads(line) for line in members["trace.trace"].splitlines()]
    filled = {e["params"]["selector"]: e["params"]["value"] for e in events if e.get("method") == "fill"}
    assert filled == {"#user": "ann", "#password": HIDDEN, "#zed": HIDDEN, "#question": HIDDEN}
    assert {e["params"]["key"] for e in events if e.get("method") == "keyboardPress"} == {HIDDEN}
    assert HIDDEN in members["trace.network"]


@settings(deadline=None)
@given(st.text(min_size=6, alphabet=st.characters(exclude_categories=["Cs", "Cc"])), st.text(max_size=5))
@example('a"b\\c/d', "")
@example("ä ö&<>'", "x")
def test_a_secret_has_many_spellings(secret: str, before: str) -> None:
    """Each way in which pages and browsers write it holds one of them."""
    known = spellings([secret])
    written = [
        secret,
        json.dumps(secret),
        json.dumps(json.dumps(secret, ensure_ascii=False)),
        json.dumps({"a": json.dumps({"b": secret})}),
        quote(before + secret),
        quote(secret, safe="").lower() if secret.isascii() and secret.islower() else quote(secret, safe=""),
        quote_plus(secret),
        urlencode({"a": secret}),
        html.escape(secret),
        base64.b64encode((before + ":" + secret).encode()).decode(),
        base64.urlsafe_b64encode((before + secret + "x").encode()).decode(),
    ]
    assert [it for it in written if not any(spelling in it for spelling in known)] == []


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "members",
    [
        {"trace.trace": b"no JSON"},
        {"trace.trace": b"[" * 100_000 + b"]" * 100_000},
        {"resources/large.html": bytes(tracing.MEMBER_LIMIT + 1)},
        {f"resources/{n}": bytes(tracing.MEMBER_LIMIT) for n in range(5)},
        {f"resources/{n}": b"" for n in range(tracing.MEMBERS_LIMIT + 1)},
    ],
    ids=["no JSON", "deep", "large", "large together", "many"],
)
def test_what_cannot_be_cleaned_is_not_kept(tmp_path: Path, members: dict[str, bytes]) -> None:
    """Better none than one with a secret."""
    with pytest.raises(TraceNotKept):
        tracing.cleaned(zipped(tmp_path / "trace.zip", members), Redactor("secret"))


def test_no_zip_is_not_kept(tmp_path: Path) -> None:
    """Nor is what only bears its name, nor a secret that our own mark holds."""
    (tmp_path / "trace.zip").write_bytes(b"PK")
    with pytest.raises(TraceNotKept):
        tracing.cleaned(tmp_path / "trace.zip", Redactor("secret"))
    path = zipped(tmp_path / "trace.zip", {"resources/a.html": b"it is hidden"})
    with pytest.raises(TraceNotKept):
        tracing.cleaned(path, Redactor("hidden"))


def test_resources_are_cleaned_and_else_as_they_were(tmp_path: Path) -> None:
    """Bytes that are no text, too; a time that reads like a code is none; strangers' files are left out."""
    members = {
        "resources/a.png": b"\x89PNG\xff\x00secret\xfe",
        "trace.network": '{"time": 1123456.5, "text": "secret\u2028\x85", "more": 7}\n'.encode(),
        "../evil": b"",
    }
    cleaned = tracing.cleaned(zipped(tmp_path / "trace.zip", members), Redactor("secret", "123456"))
    with zipfile.ZipFile(io.BytesIO(cleaned)) as archive:
        assert set(archive.namelist()) == {"resources/a.png", "trace.network"}
        assert archive.read("resources/a.png") == b"\x89PNG\xff\x00[hidden]\xfe"
        assert json.loads(archive.read("trace.network")) == {"time": 0, "text": f"{HIDDEN}\u2028\x85", "more": 7}


def test_trace_option() -> None:
    """One that is unknown is refused at the start."""
    with pytest.raises(ValueError, match="BROWSER_TRACE"):
        Worker(trace="sometimes")
