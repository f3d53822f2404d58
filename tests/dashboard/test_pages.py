"""What people see and do with a browser, while the system runs."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, Request, expect
from psycopg.types.json import Jsonb

from demo.api import Api
from local.system import LocalSystem
from shared.events import SOURCE, Doorbell, Type
from tests.dashboard.conftest import LATER, PHONE, Visit, keep

HELD = {
    "provider": "metrofiber",
    "action": "validation",
    "parameters": {"circuit": "MF-1", "demo": {"hold_seconds": 60}},
}
WATCHED = {
    "provider": "octotel",
    "action": "validation",
    "parameters": {"circuit": "UNKNOWN-1", "demo": {"step_seconds": 8}},
}
PIXELS = """image => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 640, height: 360 });
  canvas.getContext("2d").drawImage(image, 0, 0, 640, 360);
  return canvas.toDataURL();
}"""
MANY = """
INSERT INTO jobs (content_digest, external_job_id, provider, action, parameters, priority, max_retries, traceparent,
    created_by, state, run_after, claimed_at, finished_at, reported_at, error)
SELECT '', 'MANY-' || n, CASE WHEN n % 2 = 0 THEN 'octotel' ELSE 'evotel' END, 'validation', '{}', 5, 3,
    '00-' || repeat('a', 32) || '-' || repeat('b', 16) || '-01', 'test',
    CASE WHEN n % 10 = 0 THEN 'failed' ELSE 'completed' END,
    at - interval '40 s' - n % 60 * interval '1 s', at - interval '40 s', at, at,
    CASE WHEN n % 10 = 0 THEN '{"kind": "business", "code": "circuit_unknown", "message": "no"}'::jsonb END
FROM generate_series(1, 100000) n, LATERAL (SELECT now() - n * interval '0.8 s' AS at) ended
"""
LETTER = """
INSERT INTO dead_letters (event_source, event_id, event_type, destination, reason, event)
VALUES (%s, %s, %s, 'http://notify.rpa.svc.cluster.local', 'delivery failed with 500', %s) RETURNING id
"""
QUICK_SECONDS = 2.0
"""For a page of 100,000 jobs, browser and busy machine included."""

pytestmark = pytest.mark.timeout(240)
expect.set_options(timeout=30_000)


async def letter(database: psycopg.AsyncConnection[Any], job_id: int) -> int:
    bell = Doorbell(Type.JOB_SUBMITTED, job_id, 1, "")
    event = Jsonb({"attributes": {"source": SOURCE}, "data": {"job_id": job_id, "attempt": 1}})
    row = await (await database.execute(LETTER, (SOURCE, bell.id, bell.type.value, event))).fetchone()
    assert row
    return int(row[0])


async def no_sideways_scroll(page: Page) -> bool:
    return bool(await page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


async def test_who_signs_in_comes_to_where_they_wanted(visit: Visit, system: LocalSystem) -> None:
    """Not with a wrong password; scripts cannot read the session, and it ends with signing out."""
    page = await visit("/ui/jobs?status=failed", known=False)
    await page.get_by_label("Name").fill("admin")
    await page.get_by_label("Password").fill("wrong")
    await page.get_by_label("Password").press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("not known together")
    await page.get_by_label("Name").fill("admin")
    await page.get_by_label("Password").fill(system.env["ADMIN_PASSWORD"])
    await page.get_by_role("button", name="Sign in").click()
    await expect(page).to_have_url(re.compile(r"/ui/jobs\?status=failed$"))
    await keep(page, "signed-in")
    (cookie,) = await page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("rpa", True, "Strict")
    assert await page.evaluate("document.cookie") == ""
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="RPA orchestrator")).to_be_visible()
    await page.goto("/")
    await expect(page).to_have_url(re.compile(r"/ui/sign-in"))


async def test_a_job_is_watched_and_cancelled(visit: Visit, api: Api) -> None:
    """Its page goes along with it without being loaded again, until a button of the page ends it."""
    _, job = await api.submit(HELD)
    page = await visit(f"/ui/jobs/{job['id']}")
    loads: list[Request] = []
    page.on("request", lambda request: loads.append(request) if request.is_navigation_request() else None)
    await expect(page.locator("#state")).to_have_text("running")
    await expect(page.locator("#timeline li", has_text="run")).to_contain_text("so far")
    assert loads == []
    await page.locator("summary", has_text="Cancel job").click()
    await page.get_by_role("button", name="Cancel job").click()
    await expect(page.get_by_role("status")).to_have_text("The job is cancelled.")
    await expect(page.locator("#state")).to_have_text("cancelled")
    assert (await api.job(job["id"]))["status"] == "cancelled"
    await keep(page, "job-cancelled")
    await page.locator("summary", has_text="Retry job").click()
    await page.get_by_role("button", name="Retry job").click()
    await expect(page.get_by_role("link", name=f"job {job['id']}")).to_be_visible()
    await expect(page.locator("#state")).to_have_text(re.compile("pending|provisioning|dispatching|running"))
    await page.locator("summary", has_text="Cancel job").click()
    await page.get_by_role("button", name="Cancel job").click()
    await expect(page.locator("#state")).to_have_text("cancelled")


async def test_a_browser_is_watched(visit: Visit, api: Api, system: LocalSystem) -> None:
    """Pictures follow one another while the attempt runs, and only then; its trace is there afterwards."""
    _, job = await api.submit(WATCHED)
    page = await visit(f"/ui/jobs/{job['id']}")
    picture = page.locator("#browser img")
    await expect(picture).to_be_visible(timeout=60_000)
    await accessible(page, "job-watched")
    for _ in range(2):
        before = await picture.evaluate(PIXELS)
        async with asyncio.timeout(30):
            while await picture.evaluate(PIXELS) == before:  # noqa: ASYNC110 - a worker brings it about
                await asyncio.sleep(0.2)
    await expect(page.locator("#browser figcaption")).to_have_text("Now")
    await expect(page.locator("#state")).to_have_text("failed", timeout=90_000)
    await expect(page.locator("#browser")).to_be_empty()
    # Each second or so one is taken, and one is fetched: on a busy machine not always, but for some seconds.
    assert most_pictures(system, "callback", "/callbacks/picture") >= 5
    assert most_pictures(system, "monitor", "/ui/jobs/{id}/picture/{attempt}") >= 5
    async with page.context.expect_page() as opened:
        await page.get_by_role("link", name="Open the trace").click()
    trace = await opened.value
    steps = trace.get_by_role("treeitem")
    await expect(steps.filter(has_text="Fill")).to_have_count(4)
    await expect(steps.filter(has_text="[hidden]")).to_have_count(2)
    await steps.filter(has_text="Click").nth(1).click()
    await trace.mouse.move(0, 0)  # over another step it would show that one
    shown = trace.frame_locator("iframe.snapshot-visible")
    await expect(shown.get_by_role("heading")).to_have_text("One more step")
    await expect(shown.locator("#code")).to_have_value("[hidden]")
    await keep(trace, "trace")


def most_pictures(system: LocalSystem, function: str, route: str) -> int:
    """How many a function answered in the ten seconds that had most."""
    log = (system.state / "log" / f"{function}.log").read_text()
    lines = re.findall(rf'"time": "([^"]+)".*"route": "{re.escape(route)}", "status": 200', log)
    times = [datetime.fromisoformat(time) for time in lines]
    return max((sum(first <= time < first + timedelta(seconds=10) for time in times) for first in times), default=0)


async def test_a_priority_is_changed(visit: Visit, api: Api) -> None:
    """While the job waits."""
    _, job = await api.submit(LATER)
    page = await visit(f"/ui/jobs/{job['id']}")
    await page.get_by_label("Priority").select_option("9")
    await page.get_by_role("button", name="Change").click()
    await expect(page.get_by_role("status")).to_have_text("The priority is changed.")
    assert (await api.job(job["id"]))["priority"] == 9
    await api.cancel(job["id"])


async def test_a_provider_is_paused_and_resumed(visit: Visit, api: Api) -> None:
    """Its jobs wait, for everybody to see why, and are done once it is resumed."""
    page = await visit("/ui/providers")
    row = page.get_by_role("row", name=re.compile("^openserve"))
    await row.locator("summary").click()
    await row.get_by_label("Reason").fill("they <migrate>")
    await row.get_by_role("button", name="Pause openserve").click()
    await expect(page.get_by_role("status")).to_contain_text("Paused")
    await expect(row).to_contain_text("they <migrate> by admin")
    _, job = await api.submit({"provider": "openserve", "action": "validation", "parameters": {"circuit": "OPS-1"}})
    await expect(row.get_by_role("cell").nth(2)).to_have_text("1")
    overview = await visit("/ui/")
    await expect(overview.get_by_role("row", name=re.compile("^openserve"))).to_contain_text("paused")
    assert (await api.job(job["id"]))["status"] == "pending"
    await row.get_by_role("button", name="Resume openserve").click()
    await expect(page.get_by_role("status")).to_contain_text("Resumed")
    watched = await visit(f"/ui/jobs/{job['id']}")
    await expect(watched.locator("#state")).to_have_text("completed", timeout=90_000)
    picture = watched.locator("#files img").first
    await expect(picture).to_be_visible()
    await expect(picture).not_to_have_js_property("naturalWidth", 0)


async def test_a_dead_letter_is_replayed(visit: Visit, api: Api, database: psycopg.AsyncConnection[Any]) -> None:
    """One, and then all that are left."""
    _, job = await api.submit(LATER)
    number = await letter(database, job["id"])
    page = await visit("/ui/dead-letters")
    row = page.get_by_role("row", name=re.compile(f"^{number} "))
    await expect(row).to_contain_text("open")
    await row.get_by_role("button").click()
    await expect(page.get_by_role("status")).to_have_text("Replayed.")
    await expect(row).to_contain_text("replayed")
    await page.get_by_role("button", name="Replay all").click()
    await expect(page.get_by_role("status")).to_have_text("There was nothing to replay.")
    await row.get_by_role("link", name=str(number), exact=True).click()
    await expect(page.get_by_text("by admin")).to_be_visible()
    await keep(page, "dead-letter-replayed")
    await api.cancel(job["id"])


async def test_everything_is_reached_by_keyboard(visit: Visit, api: Api) -> None:
    """The first key leads past the menu; a job is cancelled without a mouse, while the page goes on being refreshed."""
    _, job = await api.submit(LATER)
    page = await visit(f"/ui/jobs/{job['id']}")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    await page.keyboard.press("Enter")
    while await page.evaluate("document.activeElement.textContent") != "Cancel job":
        await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Cancel job")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#state")).to_have_text("cancelled")


async def test_a_hundred_thousand_jobs(visit: Visit, database: psycopg.AsyncConnection[Any]) -> None:
    """Searched, narrowed and paged through, each page at once."""
    await database.execute(MANY)
    await database.execute("ANALYZE jobs")
    page = await visit("/ui/jobs?status=failed&provider=octotel")
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(50)
    seen: list[str] = []
    for _ in range(5):
        seen += await page.locator("tbody th").all_inner_texts()
        await at_once(page, "Older")
    await keep(page, "jobs-many")
    assert sorted(set(seen), key=int, reverse=True) == seen
    fifth = await page.locator("tbody th").all_inner_texts()
    await at_once(page, "Newer")
    assert await page.locator("tbody th").all_inner_texts() == seen[-50:]
    await at_once(page, "Older")
    assert await page.locator("tbody th").all_inner_texts() == fifth
    await page.get_by_label("External or job id").fill("MANY-99990")
    await page.get_by_label("State").select_option("any")
    await page.get_by_label("Provider").select_option("any")
    await at_once(page, "Show")
    await expect(rows).to_have_count(1)
    await rows.get_by_role("link").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(r"Job \d+"))
    for path in ("/ui/", "/ui/jobs", "/ui/jobs?before=50000", "/ui/providers"):
        begun = time.monotonic()
        await page.goto(path)
        assert time.monotonic() - begun < QUICK_SECONDS, path
    await keep(page, "providers-many")


async def at_once(page: Page, name: str) -> None:
    """Follow a link or send a form, without waiting long."""
    begun = time.monotonic()
    async with page.expect_navigation():
        await page.get_by_role("link", name=name, exact=True).or_(page.get_by_role("button", name=name)).click()
    assert time.monotonic() - begun < QUICK_SECONDS


@pytest.fixture
async def paths(api: Api, database: psycopg.AsyncConnection[Any], done: int) -> dict[str, str]:
    """Every page, with something on it."""
    _, job = await api.submit(LATER)
    number = await letter(database, job["id"])
    return {
        "overview": "/ui/",
        "jobs": "/ui/jobs",
        "job": f"/ui/jobs/{done}",
        "job-waiting": f"/ui/jobs/{job['id']}",
        "providers": "/ui/providers",
        "dead-letters": "/ui/dead-letters",
        "dead-letter": f"/ui/dead-letters/{number}",
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_everybody_can_use_it(visit: Visit, paths: dict[str, str], scheme: str) -> None:
    """axe finds no violation on any page, light and dark, also with what opens opened."""
    page = await visit("/ui/sign-in", scheme, known=False)
    await accessible(page, f"sign-in-{scheme}")
    page = await visit("/ui/", scheme)
    dark = await page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert dark == (scheme == "dark")
    for name, path in paths.items():
        await page.goto(path)
        await accessible(page, f"{name}-{scheme}")
    await page.goto(paths["providers"])
    await page.evaluate("document.querySelectorAll('details').forEach((it) => { it.open = true })")
    await accessible(page, f"pausing-{scheme}")


async def accessible(page: Page, name: str) -> None:
    await keep(page, name)
    found = await Axe().run(page)
    violations = found.response["violations"]
    assert [(it["id"], it["nodes"][0]["html"]) for it in violations] == [], name
    assert len(found.response["passes"]) > 10


async def test_it_fits_a_phone(visit: Visit, paths: dict[str, str]) -> None:
    """No page scrolls sideways; wide tables do so by themselves."""
    page = await visit("/ui/", size=PHONE)
    for name, path in paths.items():
        await page.goto(path)
        await keep(page, f"{name}-phone")
        assert await no_sideways_scroll(page), name
    page = await visit("/ui/sign-in", size=PHONE, known=False)
    assert await no_sideways_scroll(page)
