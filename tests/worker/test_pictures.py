"""Pictures for those who watch: what is masked in them, and that the action goes on as if nobody watched."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from playwright.async_api import Page
from starlette.responses import JSONResponse

from rpa_worker import Job, Worker, watching
from rpa_worker.browser import Driver, Session
from rpa_worker.redaction import Redactor
from rpa_worker.runner.local_browser import Launcher
from tests.counterparts import Client, OrchestratorStandIn
from tests.engines import ENGINES
from tests.serving import eventually

PASSWORD, CODE = 'pass"word', "123456"
STYLE = """<style>input { display: block; border: 0; width: 300px; background: red; color: red }
.plain { background: lime }</style>"""
SECRET_FIELDS = f"""
<input type=password value='{PASSWORD}'><input autocomplete=one-time-code value=1><input name=smsCode value=1>
<input id=otp-2 value=1><input id=shown-password value=x><input maxlength=1 value=1>
<input name=zed value={CODE}><input name=zed value='123 456'><input name=zed value=12345>
<input name=zed value='{PASSWORD}!'>
<div id=host></div>
<script>host.attachShadow({{mode: "open"}}).innerHTML = "<input style='background: red' value={CODE}>"</script>
<iframe srcdoc="{STYLE}<input class=plain><input name=zed value={CODE}>"></iframe>"""
COUNT = """async ([kind, data]) => {
  const image = new Image();
  image.src = `data:${kind};base64,${data}`;
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, image.width, image.height).data;
  const found = { red: 0, green: 0 };
  for (let i = 0; i < pixels.length; i += 4) {
    if (pixels[i] > 200 && pixels[i + 1] < 80 && pixels[i + 2] < 80) found.red++;
    if (pixels[i] < 80 && pixels[i + 1] > 200 && pixels[i + 2] < 80) found.green++;
  }
  return found;
}"""
Count = Callable[[bytes], Awaitable[dict[str, int]]]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures 20 times a second, as far as the browser can."""
    monkeypatch.setattr(watching, "PAUSE_SECONDS", 0.05)


@pytest.fixture(params=ENGINES)
async def session(browser_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Session]:
    """A browser's session that knows a password and a code."""
    driver = Driver() if request.param == "firefox" else Launcher(request.param, visible=False)
    opened = Session(driver, browser_url, Redactor(PASSWORD, CODE))
    yield opened
    await opened.close()
    await driver.stop()


@pytest.fixture
async def count(session: Session) -> Count:
    """Counts a picture's red and green pixels."""
    page = await (await (await session.browser()).new_context()).new_page()

    async def counted(picture: bytes) -> dict[str, int]:
        kind = "image/png" if picture.startswith(b"\x89PNG") else "image/jpeg"
        found: dict[str, int] = await page.evaluate(COUNT, [kind, base64.b64encode(picture).decode()])
        return found

    return counted


async def taken(session: Session) -> bytes:
    picture = await session.picture("jpeg", quality=50)
    assert picture
    return picture


async def page_last(session: Session, content: str) -> Page:
    """A page that is the last opened, so that it is the one pictured."""
    page = await (await (await session.browser()).new_context()).new_page()
    await page.set_content(STYLE + content)
    return page


@contextlib.asynccontextmanager
async def pictured(session: Session) -> AsyncIterator[list[bytes | None]]:
    """Pictures are taken one after the other meanwhile."""
    pictures: list[bytes | None] = []

    async def take() -> None:
        while True:
            pictures.append(await session.picture("jpeg", quality=50))

    taking = asyncio.create_task(take())
    yield pictures
    taking.cancel()
    await asyncio.wait([taking])


async def test_secrets_are_masked(session: Session, count: Count) -> None:
    """Password and code fields, and any field that shows a known secret or its beginning; in frames, too."""
    page = await page_last(session, SECRET_FIELDS + "<input class=plain value=visible>")
    assert (await count(await page.screenshot()))["red"] > 20_000
    pixels = await count(await taken(session))
    assert pixels["red"] == 0
    assert pixels["green"] > 5_000


async def test_a_secret_in_the_text_is_not_pictured(session: Session) -> None:
    """Then there is no picture at all."""
    page = await page_last(session, f"<p>The code {CODE} is wrong.</p>")
    assert await session.picture() is None
    await page.set_content("<p>The code is wrong.</p>")
    assert await session.picture() is not None


async def test_what_is_typed_meanwhile_is_not_shown(session: Session, count: Count) -> None:
    """A field of any name that gets the code, comes, moves or goes just while a picture is taken."""
    page = await page_last(
        session,
        f"""<div id=place></div><script>(function change() {{
          place.style.paddingTop = Math.random() < 0.5 ? "0" : Math.random() * 300 + "px";
          place.innerHTML = Math.random() < 0.5 ? "<input class=plain value=none>" : "<input name=zed value={CODE}>";
          setTimeout(change, Math.random() < 0.7 ? 40 : 1500);
        }})()</script>""",
    )
    pictures: list[bytes] = []
    for tried in itertools.count():
        if picture := await session.picture("jpeg", quality=50):
            pictures.append(picture)
        if tried > 20 and len(pictures) > 4:
            break
    await page.close()
    assert [(await count(picture))["red"] for picture in pictures] == [0] * len(pictures)


async def test_the_action_is_not_disturbed(session: Session) -> None:
    """Clicks on masked fields and keys arrive, and the page itself does not change."""
    page = await page_last(
        session, "<input type=password style='height: 400px' onmousedown='clicks = (window.clicks ?? 0) + 1'>"
    )
    before = await page.content()
    async with pictured(session) as pictures:
        for _ in range(15):
            await page.click("input")
            await page.mouse.click(50, 50)
            await page.keyboard.type("x")
    assert len(pictures) > 3
    assert await page.evaluate("clicks") == 30
    assert await page.input_value("input") == "x" * 15
    assert await page.content() == before


async def test_pictures_are_sent_while_somebody_watches(
    worker: Worker, client: Client, orchestrator: OrchestratorStandIn, browser_url: str
) -> None:
    """None before, one after the other meanwhile, none afterwards; the result is the same."""
    pictures = orchestrator.calls

    @worker.action("octotel", "validation")
    async def validate(job: Job) -> dict[str, object]:
        page = await job.page()
        await page.set_content("<h1>Log in</h1>")
        await eventually(lambda: len(orchestrator.calls("heartbeat")) > 2)
        assert pictures("picture") == []
        orchestrator.watched = True
        await eventually(lambda: len(pictures("picture")) > 2)
        orchestrator.watched = False
        beats = len(orchestrator.calls("heartbeat"))
        await eventually(lambda: len(orchestrator.calls("heartbeat")) > beats + 2)
        seen = len(pictures("picture"))
        await eventually(lambda: len(orchestrator.calls("heartbeat")) > beats + 20)
        return {"more": len(pictures("picture")) - seen}

    await client.execute(browser_service_url=browser_url)
    report = await orchestrator.completed()
    assert report["result"]["more"] <= 1  # one was under way
    assert all(picture.startswith(b"\xff\xd8\xff") for picture in pictures("picture"))


@pytest.mark.parametrize("status", [404, 409, 413, 500])
async def test_a_picture_that_is_refused_harms_nothing(
    worker: Worker, client: Client, orchestrator: OrchestratorStandIn, browser_url: str, status: int
) -> None:
    """The action is done and reported; the heartbeat alone says that an attempt is over."""
    orchestrator.watched = True
    orchestrator.answer("picture", *[JSONResponse({"detail": "no"}, status) for _ in range(100)])

    @worker.action("octotel", "validation")
    async def validate(job: Job) -> dict[str, object]:
        await (await job.page()).set_content("<h1>Log in</h1>")
        await eventually(lambda: len(orchestrator.calls("picture")) > (0 if status == 409 else 2))
        await job.browser()
        return {"done": True}

    await client.execute(browser_service_url=browser_url)
    assert (await orchestrator.completed())["result"] == {"done": True}


async def test_no_browser_no_pictures(worker: Worker, client: Client, orchestrator: OrchestratorStandIn) -> None:
    """Nor a page that is open: watching changes nothing."""
    orchestrator.watched = True

    @worker.action("octotel", "validation")
    async def validate(_: Job) -> None:
        await eventually(lambda: len(orchestrator.calls("heartbeat")) > 10)

    await client.execute()
    assert (await orchestrator.completed())["status"] == "completed"
    assert orchestrator.calls("picture") == []


async def test_pictures_end_with_the_action(
    worker: Worker, client: Client, orchestrator: OrchestratorStandIn, browser_url: str
) -> None:
    """None is taken while the report waits for an answer."""
    orchestrator.watched = True
    orchestrator.answer("complete", *[JSONResponse({}, 503) for _ in range(5)])

    @worker.action("octotel", "validation")
    async def validate(job: Job) -> None:
        await (await job.page()).set_content("<h1>Log in</h1>")
        await eventually(lambda: orchestrator.calls("picture"))

    await client.execute(browser_service_url=browser_url)
    await eventually(lambda: len(orchestrator.calls("complete")) == 6)
    calls = [call for call, _ in orchestrator.heard]
    assert "picture" not in calls[calls.index("complete") :]
