"""The warm pool: each of its browsers serves one attempt, and it mends itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.browsers import Browser, BrowserFailed, BrowsersUnavailable, Phase
from shared.browsers.pool_hours import PoolHours, parse_pool_hours
from shared.config import ConfigError, WarmPoolSettings, load
from tests.functions.stage import Stage, open_stage
from tests.functions.test_figures import figures

POOL = "SELECT name FROM browsers WHERE job_id IS NULL AND ready_at IS NOT NULL ORDER BY ready_at"


@pytest.fixture
async def warm(database_url: str, valkey_settings: dict[str, str], tmp_path: Path) -> AsyncIterator[Stage]:
    """A stage that keeps two warm browsers; a first tick has made them."""
    async with open_stage(database_url, valkey_settings, tmp_path / "p", BROWSER_WARM_POOL="2") as stage:
        await stage.tick()
        yield stage


async def pool(stage: Stage) -> list[str]:
    """Names of the warm browsers, the oldest first."""
    return [row["name"] for row in await stage.rows(POOL)]


async def test_a_job_gets_a_warm_browser_and_the_pool_is_filled_again(warm: Stage) -> None:
    """None is started for the job; it is deleted with its attempt, and another takes its place."""
    first, second = await pool(warm)
    order = await warm.until_running()
    assert order["browser_service_id"] == first
    assert {spec.job_id for spec in warm.place.created} == {None}
    left = await pool(warm)
    assert left[0] == second
    assert len(left) == 2

    await warm.complete(order)
    await warm.deliver_all()
    assert set(warm.place.browsers) == set(left)
    claimed = next(e for e in (await warm.job(order["job_id"]))["history"] if e["event"] == "claimed")
    assert claimed["detail"] == {"warm_browser": first}


async def test_warm_browsers_are_told_from_those_that_work(warm: Stage) -> None:
    """In the figures of people and of Prometheus; how long each took to start, once."""
    await warm.until_running()
    told = await figures(warm)
    assert (told["rpa_browsers"], told["rpa_browsers_warm"]) == (3, 2)
    assert (told["rpa_browser_start_seconds_count warm"], "rpa_browser_start_seconds_count own" in told) == (3, False)
    status = (await warm.call("monitor", "GET", "/status")).json()
    assert (status["browsers"], status["browsers_warm"]) == (3, 2)


async def test_the_secret_path_of_a_warm_browser_is_its_own(warm: Stage) -> None:
    """The worker is given the path that the browser was started with."""
    order = await warm.until_running()
    (spec,) = [spec for spec in warm.place.created if spec.name == order["browser_service_id"]]
    assert order["browser_service_url"] == f"ws://127.0.0.1:9{spec.secret_path}"


async def test_no_two_jobs_get_one_browser(warm: Stage) -> None:
    """More jobs than warm browsers, all at once: each has a browser of its own, and the warm ones come first."""
    ready = set(await pool(warm))
    for provider in ("metrofiber", "octotel", "metrofiber"):
        await warm.submit(provider=provider)
    await asyncio.gather(*(warm.send("provision_browser", bell) for bell in await warm.outbox()))
    rows = await warm.rows("SELECT name FROM browsers WHERE job_id IS NOT NULL")
    assert len(rows) == 3
    assert ready < {row["name"] for row in rows}


async def test_a_job_without_a_browser_takes_none(warm: Stage) -> None:
    """The pool is for those who need it."""
    before = await pool(warm)
    order = await warm.until_running(provider="openserve")
    assert order["browser_service_id"] is None
    assert await pool(warm) == before


async def test_a_dead_warm_browser_costs_no_attempt(warm: Stage) -> None:
    """The job gets a browser of its own, and the dead one is deleted."""
    first, _ = await pool(warm)
    wait_ready = warm.place.wait_ready

    async def only_first_is_dead(name: str, *, timeout: float) -> Browser:
        if name == first:
            raise BrowserFailed("OOMKilled")
        return await wait_ready(name, timeout=timeout)

    warm.place.wait_ready = only_first_is_dead  # type: ignore[method-assign]
    order = await warm.until_running()
    assert (order["attempt"], order["browser_service_id"]) == (1, f"rpa-browser-{order['job_id']}-1")
    await warm.tick()
    assert first not in warm.place.browsers


@pytest.mark.parametrize("error", [BrowserFailed("no such image"), BrowsersUnavailable("quota")])
async def test_a_pool_that_cannot_be_filled_hinders_nobody(warm: Stage, error: Any) -> None:
    """Neither the tick nor a job; the pool is filled once that is possible again."""
    await warm.execute("DELETE FROM browsers")
    warm.place.fails_with = error
    await warm.tick()
    assert await warm.rows("SELECT * FROM browsers") == []
    warm.place.fails_with = None
    await warm.tick()
    assert len(await pool(warm)) == 2
    assert set(warm.place.browsers) == set(await pool(warm))


async def test_a_browser_that_takes_its_time_keeps_no_round_waiting(warm: Stage) -> None:
    """While one tick waits for a warm browser to start, the next one does all of its work."""
    await warm.execute("DELETE FROM browsers")
    wait_ready, started, may_end = warm.place.wait_ready, asyncio.Event(), asyncio.Event()

    async def slowly(name: str, *, timeout: float) -> Browser:
        started.set()
        await may_end.wait()
        return await wait_ready(name, timeout=timeout)

    warm.place.wait_ready = slowly  # type: ignore[method-assign]
    filling = asyncio.create_task(warm.tick())
    await started.wait()
    job = await warm.submit(deadline="2099-01-01T00:00:00Z")
    await warm.execute("UPDATE jobs SET deadline = now()")
    async with asyncio.timeout(10):
        await warm.tick()
    assert (await warm.job(job["id"]))["error"]["code"] == "deadline_missed"
    may_end.set()
    await filling
    assert len(await pool(warm)) == 2


async def test_a_browser_whose_starter_was_killed_joins_the_pool(warm: Stage) -> None:
    """Started, but nobody lived to say that it is ready: the next tick does."""
    names = await pool(warm)
    await warm.execute("UPDATE browsers SET ready_at = NULL, address = NULL")
    await warm.tick()
    assert sorted(await pool(warm)) == sorted(names)


async def test_what_is_dead_gone_or_old_is_replaced(warm: Stage) -> None:
    """By the next tick, with nothing left over."""
    dead, gone = await pool(warm)
    warm.place.browsers[dead] = Browser(dead, Phase.FAILED, datetime.now(UTC), None, "Evicted")
    del warm.place.browsers[gone]
    await warm.execute("UPDATE browsers SET created_at = created_at - interval '1 minute'")
    await warm.tick()
    fresh = await pool(warm)
    assert not {dead, gone} & set(fresh)
    await warm.execute("UPDATE browsers SET created_at = created_at - interval '2 hours'")
    await warm.tick()
    assert not set(fresh) & set(await pool(warm))
    assert set(warm.place.browsers) == set(await pool(warm))


async def test_an_old_warm_browser_is_not_given_out(warm: Stage) -> None:
    """Its place might end it in the middle of the attempt."""
    await warm.execute("UPDATE browsers SET created_at = created_at - interval '2 hours'")
    order = await warm.until_running()
    assert order["browser_service_id"] == f"rpa-browser-{order['job_id']}-1"


async def test_the_pool_shrinks_when_its_hours_end(
    warm: Stage, database_url: str, valkey_settings: dict[str, str], tmp_path: Path
) -> None:
    """Whatever is more than wanted goes; an idle system has no browser."""
    async with open_stage(database_url, valkey_settings, tmp_path / "night", BROWSER_WARM_POOL="0") as night:
        night.place.browsers.update(warm.place.browsers)
        await night.tick()
        assert night.place.browsers == {}
        assert await night.rows("SELECT * FROM browsers") == []


def test_hours() -> None:
    """The first window that holds decides, over midnight too; else the plain number."""
    hours = parse_pool_hours("1 5@07:30-18:00, 0@23:00-05:00")
    at = {text: hours.at(time.fromisoformat(text)) for text in ("07:29", "07:30", "17:59", "18:00", "23:00", "04:59")}
    assert at == {"07:29": 1, "07:30": 5, "17:59": 5, "18:00": 1, "23:00": 0, "04:59": 0}
    assert parse_pool_hours("3") == PoolHours(3)


@pytest.mark.parametrize(
    ("utc", "wanted"),
    [
        ("2026-01-05T05:29", 1),
        ("2026-01-05T05:30", 5),
        ("2026-01-05T15:59", 5),
        ("2026-01-05T16:00", 1),
        ("2026-01-05T20:59", 1),
        ("2026-01-05T21:00", 0),
        ("2026-01-06T02:59", 0),
        ("2026-01-06T03:00", 1),
    ],
)
@pytest.mark.parametrize("seen_from", ["UTC", "America/New_York"])
def test_hours_are_those_of_their_zone(utc: str, wanted: int, seen_from: str) -> None:
    """Two hours before UTC's in Johannesburg, wherever a function's clock is; over midnight there."""
    hours = "1 5@07:30-18:00 0@23:00-05:00"
    settings = load(WarmPoolSettings, {"BROWSER_WARM_POOL": hours, "BROWSER_WARM_POOL_ZONE": "Africa/Johannesburg"})
    now = datetime.fromisoformat(utc).replace(tzinfo=UTC).astimezone(ZoneInfo(seen_from))
    assert settings.wanted_warm(now) == wanted


def test_hours_follow_summer_time() -> None:
    """Half past seven is half past seven, all year; without a zone it is UTC's."""
    settings = load(WarmPoolSettings, {"BROWSER_WARM_POOL": "1@07:30-18:00", "BROWSER_WARM_POOL_ZONE": "Europe/Berlin"})
    begin = {month: datetime(2026, month, 1, hour, 30, tzinfo=UTC) for month, hour in ((1, 6), (7, 5))}
    assert [settings.wanted_warm(time) for time in begin.values()] == [1, 1]
    assert [settings.wanted_warm(time - timedelta(minutes=1)) for time in begin.values()] == [0, 0]
    plain = load(WarmPoolSettings, {"BROWSER_WARM_POOL": "1@07:30-18:00"})
    assert [plain.wanted_warm(datetime(2026, 7, 1, hour, 30, tzinfo=UTC)) for hour in (6, 7)] == [0, 1]


@pytest.mark.parametrize("zone", ["Mars/Olympus", "/etc/localtime", "../UTC", "Africa"])
def test_a_zone_that_is_none_is_named(zone: str) -> None:
    """At start, with what would be right."""
    with pytest.raises(ConfigError, match=r"\ABROWSER_WARM_POOL_ZONE: .*Africa/Johannesburg"):
        load(WarmPoolSettings, {"BROWSER_WARM_POOL_ZONE": zone})


@given(st.text(max_size=30))
def test_hours_that_make_no_sense_are_refused(text: str) -> None:
    """With a ValueError that says what would be right, and no other."""
    try:
        assert 0 <= parse_pool_hours(text).at(time(12)) <= 1000
    except ValueError as error:
        assert "must be" in str(error)  # noqa: PT017
