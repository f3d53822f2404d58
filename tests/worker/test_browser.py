"""The worker library with a real browser."""

from __future__ import annotations

import pytest
from starlette.responses import JSONResponse

from rpa_worker import Job, Worker
from tests.counterparts import Client, OrchestratorStandIn
from tests.serving import eventually

PNG = b"\x89PNG\r\n\x1a\n"
LOGIN = "data:text/html,<h1>Log in</h1><input type=password value=pass-word><input name=code value=123456>"


async def test_page(worker: Worker, client: Client, orchestrator: OrchestratorStandIn, browser_url: str) -> None:
    """An action gets one page in the attempt's browser, and it is closed afterwards."""
    pages = []

    @worker.action("octotel", "validation")
    async def validate(job: Job) -> dict[str, object]:
        page = await job.page()
        pages.append(page)
        await page.goto(LOGIN)
        await job.evidence("login.png", await page.screenshot(), "image/png")
        return {"same": page is await job.page(), "title": await page.inner_text("h1")}

    await client.execute(browser_service_url=browser_url)
    report = await orchestrator.completed()
    assert report["result"] == {"same": True, "title": "Log in"}
    assert orchestrator.calls("evidence")[0][2].startswith(PNG)
    await eventually(lambda: pages[0].is_closed())


async def test_failure_is_pictured(
    worker: Worker, client: Client, orchestrator: OrchestratorStandIn, browser_url: str
) -> None:
    """A failure comes with a picture of the page in which passwords and codes are masked."""
    plain: list[bytes] = []

    @worker.action("octotel", "validation")
    async def validate(job: Job) -> None:
        page = await job.page()
        await page.goto(LOGIN)
        plain.append(await page.screenshot())
        await page.click("#missing", timeout=100)

    await client.execute(browser_service_url=browser_url)
    report = await orchestrator.completed()
    assert report["failure"]["code"] == "timeout_error"
    assert report["evidence"] == ["failure.png", "trace.zip"]
    picture = orchestrator.calls("evidence")[0][2]
    assert picture.startswith(PNG)
    assert picture != plain[0]


async def test_picture_refused(
    worker: Worker, client: Client, orchestrator: OrchestratorStandIn, browser_url: str
) -> None:
    """A picture and a trace that cannot be kept do not hide the failure."""
    orchestrator.answer("evidence", *[JSONResponse({"detail": "no room"}, 413) for _ in range(2)])

    @worker.action("octotel", "validation")
    async def validate(job: Job) -> None:
        await (await job.page()).goto(LOGIN)
        raise ValueError("the real reason")

    await client.execute(browser_service_url=browser_url)
    report = await orchestrator.completed()
    assert report["failure"]["message"] == "the real reason"
    assert report["evidence"] == []


async def test_driver_dies(worker: Worker, client: Client, orchestrator: OrchestratorStandIn, browser_url: str) -> None:
    """When Playwright's helper process dies, the attempt fails and the next one has a new helper."""

    @worker.action("octotel", "validation")
    async def validate(job: Job) -> None:
        await (await job.page()).goto(LOGIN)
        if job.id == 1:
            worker._driver._playwright._impl_obj._connection._transport._proc.kill()
            await (await job.page()).reload()

    await client.execute(1, browser_service_url=browser_url)
    assert (await orchestrator.completed())["status"] == "failed"
    await eventually(lambda: worker.status()["running"] == 0)
    await client.execute(2, browser_service_url=browser_url)
    await eventually(lambda: len(orchestrator.calls("complete")) == 2)
    assert orchestrator.calls("complete")[1]["status"] == "completed"


@pytest.mark.parametrize(("url", "code"), [(None, "worker_error"), ("ws://127.0.0.1:9/secret-path", "error")])
async def test_no_browser(
    worker: Worker, client: Client, orchestrator: OrchestratorStandIn, url: str | None, code: str
) -> None:
    """A job without a browser, or with one that is gone, fails when the action asks for a page."""

    @worker.action("octotel", "validation")
    async def validate(job: Job) -> None:
        await job.page()

    await client.execute(browser_service_url=url)
    failure = (await orchestrator.completed())["failure"]
    assert (failure["kind"], failure["code"]) == ("application", code)
    assert "secret-path" not in failure["message"]


def test_engine() -> None:
    """A browser that Playwright cannot drive is refused at the start."""
    with pytest.raises(ValueError, match="BROWSER"):
        Worker(browser="lynx")
