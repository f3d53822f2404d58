"""A page goes along with what happens, while somebody looks at it and without getting in their way."""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest
from playwright.async_api import Page, Route, expect

from demo.api import Api
from tests.dashboard.conftest import LATER, Visit

HELD = {
    "provider": "metrofiber",
    "action": "validation",
    "parameters": {"circuit": "MF-1", "demo": {"step_seconds": 600}},
}
MARK = "place => getSelection().setBaseAndExtent(place.firstChild, 0, place.firstChild, place.firstChild.length)"
VISIBLE = "seen => Object.defineProperty(document, 'visibilityState', {value: seen, configurable: true})"

pytestmark = pytest.mark.timeout(240)
expect.set_options(timeout=30_000)


async def timed(page: Page) -> None:
    """The page again, its time in our hands."""
    await page.clock.install()
    await page.reload()


async def refreshed(page: Page) -> None:
    """Five seconds later; what they brought is shown."""
    async with page.expect_response(page.url):
        await page.clock.run_for(5_000)
    await idle(page)


async def idle(page: Page) -> None:
    """Nothing is on its way."""
    await expect(page.locator("#live")).not_to_have_class(re.compile("htmx-request"))


@pytest.mark.parametrize("running", [False, True], ids=["overview", "running"])
async def test_a_page_that_nobody_looks_at_asks_nothing(visit: Visit, api: Api, running: bool) -> None:
    """It asks every 5 s while it is seen, so do pictures; hidden, or told to stop, never: so the function sleeps."""
    page = await visit("/ui/")
    asks = [re.compile("/ui/$")]
    if running:
        _, job = await api.submit(HELD)
        await page.goto(f"/ui/jobs/{job['id']}")
        await expect(page.locator("[data-picture]")).to_be_visible(timeout=90_000)
        asks = [re.compile(r"/ui/jobs/\d+$"), re.compile(r"/picture/1\?at=\d+$")]
    await timed(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    async def asking() -> None:
        for path in asks:
            async with page.expect_response(path):
                await page.clock.run_for(5_000)

    async def silent() -> None:
        await idle(page)
        asked.clear()
        await page.clock.run_for(120_000)
        assert asked == []

    await asking()
    await page.evaluate(VISIBLE, "hidden")
    await silent()
    await page.evaluate(VISIBLE, "visible")
    await asking()
    await page.get_by_role("button", name="Live").click()
    await silent()
    async with page.expect_response(asks[0]):  # at once
        await page.get_by_role("button", name="Live").click()
    await asking()
    if running:
        await api.cancel(job["id"])


async def test_a_picture_stays_until_the_next(visit: Visit, api: Api) -> None:
    """Though the page is refreshed meanwhile."""
    _, job = await api.submit(HELD)
    page = await visit(f"/ui/jobs/{job['id']}")
    await timed(page)
    picture = page.locator("#browser img")
    await expect(picture).to_be_visible(timeout=90_000)
    await page.route("**/picture/1?*", lambda route: route.fulfill(status=204))
    await refreshed(page)
    await expect(picture).to_be_visible()
    await api.cancel(job["id"])


USES = {
    "opened": (["#deeds summary", "click"], ["#deeds summary", "click"]),
    "chosen": (["#deeds select", "select_option", "9"], ["#deeds select", "select_option", "5"]),
    "focused": (["#deeds select", "focus"], []),
}


async def use(page: Page, place: str = "body", deed: str = "focus", *values: str) -> None:
    await getattr(page.locator(place), deed)(*values)


@pytest.mark.parametrize("how", USES)
async def test_what_somebody_is_about_to_do_stays(visit: Visit, api: Api, how: str) -> None:
    """While it is open, chosen or focused; around it the page goes on, and so it does itself afterwards."""
    _, job = await api.submit(LATER)
    page = await visit(f"/ui/jobs/{job['id']}")
    await timed(page)
    begin, end = USES[how]
    await use(page, *begin)
    if how != "focused":
        await leave(page)
    before = await page.locator("#deeds").inner_html()
    await api.cancel(job["id"])
    await refreshed(page)
    await expect(page.locator("#state")).to_have_text("cancelled")
    assert await page.locator("#deeds").inner_html() == before
    if how == "chosen":
        await expect(page.get_by_label("Priority")).to_have_value("9")
    if end:
        await use(page, *end)
    await leave(page)
    await refreshed(page)
    await expect(page.locator("#deeds summary")).to_have_text("Retry job")


async def leave(page: Page) -> None:
    """Nothing is focused."""
    await page.evaluate("document.activeElement.blur()")


async def test_what_somebody_writes_stays(visit: Visit, database: psycopg.AsyncConnection[Any]) -> None:
    """Though somebody else was faster."""
    page = await visit("/ui/providers")
    await timed(page)
    row = page.locator("#provider-evotel")
    await row.locator("summary").click()
    await row.get_by_label("Reason").press_sequentially("they mig")
    await database.execute("INSERT INTO pauses VALUES ('provider', 'evotel', 'slow', 'bob')")
    try:
        await refreshed(page)
        await expect(row).to_contain_text("slow")
        await row.get_by_label("Reason").press_sequentially("rate")
        await expect(row.get_by_label("Reason")).to_have_value("they migrate")
    finally:
        await database.execute("DELETE FROM pauses WHERE name = 'evotel'")


async def test_marked_text_stays(visit: Visit, api: Api, database: psycopg.AsyncConnection[Any]) -> None:
    """As long as it is marked."""
    _, job = await api.submit(LATER)
    page = await visit(f"/ui/jobs/{job['id']}")
    await timed(page)
    facts = page.locator("#facts dd")
    await facts.nth(1).evaluate(MARK)
    await database.execute("UPDATE jobs SET priority = 7, account = 'OTHER' WHERE id = %s", (job["id"],))
    await refreshed(page)
    await expect(facts.filter(has_text="OTHER")).to_be_visible()
    assert await page.evaluate("getSelection().toString()") == "5"
    await page.evaluate("getSelection().removeAllRanges()")
    await refreshed(page)
    await expect(facts.nth(1)).to_have_text("7")
    await api.cancel(job["id"])


async def test_focus_stays_with_its_job(visit: Visit, api: Api) -> None:
    """Whose row has moved, and changed."""
    _, job = await api.submit(LATER)
    page = await visit("/ui/jobs")
    await timed(page)
    link = page.get_by_role("link", name=str(job["id"]), exact=True)
    await link.focus()
    await api.cancel(job["id"])
    _, newer = await api.submit(LATER)
    await refreshed(page)
    await expect(page.locator("tbody th").first).to_have_text(str(newer["id"]))
    await expect(page.locator("tbody tr").nth(1)).to_contain_text("cancelled")
    await expect(link).to_be_focused()
    await api.cancel(newer["id"])


@pytest.mark.parametrize("failure", ["unavailable", "unreachable"])
async def test_a_page_that_gets_no_answer_says_so(visit: Visit, failure: str) -> None:
    """It shows what it has, and asks again."""
    page = await visit("/ui/", complaining=failure == "unreachable")
    await timed(page)

    async def fail(route: Route) -> None:
        await (route.fulfill(status=503, body="<main>no</main>") if failure == "unavailable" else route.abort())

    await page.route("**/ui/", fail)
    async with page.expect_request("**/ui/"):
        await page.clock.run_for(5_000)
    await expect(page.locator("#live")).to_have_text("No answer")
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    await page.unroute("**/ui/")
    await refreshed(page)
    await expect(page.locator("#live")).to_have_text("Live")


async def test_a_session_that_ends_leads_to_the_form(visit: Visit) -> None:
    """And from there back."""
    page = await visit("/ui/jobs?status=failed")
    await timed(page)
    await page.context.clear_cookies()
    await page.clock.run_for(5_000)
    await expect(page).to_have_url(re.compile(r"/ui/sign-in\?next=%2Fui%2Fjobs%3Fstatus%3Dfailed$"))
    await expect(page.locator("#live")).to_have_count(0)


async def test_without_scripts_it_is_a_page(visit: Visit, api: Api) -> None:
    """With all its deeds; it is only not refreshed, and does not say that it is."""
    _, job = await api.submit(LATER)
    page = await visit(f"/ui/jobs/{job['id']}", complaining=True)
    await page.route("**/*.js?*", lambda route: route.abort())
    await page.reload()
    await expect(page.locator("#live")).to_be_hidden()
    await page.locator("summary", has_text="Cancel job").click()
    await page.get_by_role("button", name="Cancel job").click()
    await expect(page.locator("#state")).to_have_text("cancelled")
