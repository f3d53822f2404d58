"""What job.submitted and job.finished do to browsers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.browsers import Browser, BrowserFailed, BrowsersUnavailable
from tests.functions.refusals import unchanged
from tests.functions.stage import Stage, keyring


async def arrive(stage: Stage) -> list[int]:
    """Deliver the one event that waits."""
    (bell,) = await stage.outbox()
    return await stage.deliver(bell)


async def events(stage: Stage, job_id: int) -> list[str]:
    return [entry["event"] for entry in (await stage.job(job_id))["history"]]


async def test_an_attempt_gets_a_browser_of_its_own(stage: Stage) -> None:
    """Its way in is secret and can be derived again; the place ends it whoever else is dead."""
    job = await stage.submit()
    assert await arrive(stage) == [204]
    (browser,) = await stage.rows("SELECT * FROM browsers")
    (spec,) = stage.place.created
    assert (browser["job_id"], browser["attempt"]) == (job["id"], 1)
    assert spec.name == browser["name"]
    assert spec.secret_path == keyring().browser_path(browser["name"], browser["key_id"])
    assert spec.secret_path not in repr(spec)
    assert spec.lifetime_seconds >= 1800 + 60 + 300
    assert await events(stage, job["id"]) == ["submitted", "claimed", "browser_ready"]


async def test_a_job_without_a_browser_gets_none(stage: Stage) -> None:
    """A provider that needs no browser goes to a worker without one."""
    order = await stage.until_running(provider="openserve")
    assert (order["browser_service_url"], order["browser_service_id"]) == (None, None)
    assert stage.place.created == []


async def test_a_browser_that_fails_costs_an_attempt(stage: Stage) -> None:
    """The place's own words stand in the job; the next attempt gets another browser; the last one fails the job."""
    job = await stage.submit(max_retries=1)
    stage.place.fails_with = BrowserFailed("exit code 1")
    await arrive(stage)
    found = await stage.job(job["id"])
    assert (found["status"], found["attempt"]) == ("pending", 2)
    assert found["error"] == {"kind": "application", "code": "browser_failed", "message": "exit code 1"}
    await arrive(stage)
    assert (await stage.job(job["id"]))["status"] == "failed"
    assert len({spec.name for spec in stage.place.created}) == 2


async def test_no_room_costs_no_attempt(stage: Stage) -> None:
    """The place is given back, the job waits a little, and the limits are free for others."""
    job = await stage.submit()
    stage.place.fails_with = BrowsersUnavailable("quota exceeded")
    await arrive(stage)
    found = await stage.job(job["id"])
    assert (found["status"], found["attempt"], found["account"]) == ("pending", 1, None)
    assert found["history"][-1]["event"] == "given_back"
    assert found["history"][-1]["detail"] == {"reason": "quota exceeded"}
    wait = datetime.fromisoformat(found["run_after"]) - datetime.now(UTC)
    assert 4 < wait.total_seconds() <= 15
    stage.place.fails_with = None
    await stage.execute("UPDATE jobs SET run_after = now()")
    for bell in await stage.tick():
        await stage.deliver(bell)
    await stage.deliver_all()
    assert (await stage.job(job["id"]))["status"] == "running"


@pytest.mark.parametrize("end", ["a node comes", "cancelled"])
async def test_a_browser_that_waits_for_a_node_is_kept(stage: Stage, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its job gives the place back, but the pod stays, for an autoscaler to see, until the job has ended."""

    async def no_node(_name: str, *, timeout: float) -> Browser:  # noqa: ARG001
        raise BrowsersUnavailable("0/3 nodes are available: 3 Insufficient memory.")

    job = await stage.submit()
    with monkeypatch.context() as patch:
        patch.setattr(stage.place, "wait_ready", no_node)
        await arrive(stage)
        await stage.tick()
    (name,) = stage.place.browsers
    assert (await stage.job(job["id"]))["status"] == "pending"
    if end == "cancelled":
        await stage.call("submit_job", "DELETE", f"/jobs/{job['id']}")
        await stage.deliver_all()
        assert stage.place.browsers == {}
    else:
        await stage.execute("UPDATE jobs SET run_after = now()")
        for bell in await stage.tick():
            await stage.deliver(bell)
        await stage.deliver_all()
        assert (await stage.job(job["id"]))["status"] == "running"
        assert list(stage.place.browsers) == [name]


@pytest.mark.parametrize(("seconds", "status"), [(15, 503), (3600, 204)])
async def test_a_job_due_soon_is_waited_for(stage: Stage, seconds: int, status: int) -> None:
    """An event that comes a little too early is asked to come again; one far too early is done."""
    await stage.submit()
    await stage.execute("UPDATE jobs SET run_after = now() + make_interval(secs => %s)", seconds)
    (bell,) = await stage.outbox()
    answer = await stage.send("provision_browser", bell)
    assert (answer.status_code, answer.content) == (status, b"")
    assert status == 204 or 10 <= int(answer.headers["retry-after"]) <= 15
    assert stage.place.created == []


async def test_who_was_killed_half_way_is_followed_by_another(stage: Stage) -> None:
    """An attempt claimed by somebody who died gets its browser when its event comes again."""
    job = await stage.submit()
    (bell,) = await stage.outbox()
    stage.place.has_time.clear()
    killed = asyncio.create_task(stage.send("provision_browser", bell))
    while (await stage.job(job["id"]))["status"] != "provisioning":
        pass
    killed.cancel()
    stage.place.has_time.set()
    assert await stage.deliver(bell) == [204]
    assert (await stage.job(job["id"]))["status"] == "dispatching"
    assert len({spec.name for spec in stage.place.created}) == 1


async def test_a_job_past_its_deadline_is_not_begun(stage: Stage) -> None:
    """Nothing is started that is too late already."""
    await stage.submit()
    await stage.execute("UPDATE jobs SET deadline = now() - interval '1 s'")
    (bell,) = await stage.outbox()
    async with unchanged(stage):
        assert (await stage.send("provision_browser", bell)).status_code == 204


async def finish(stage: Stage, order: dict[str, Any]) -> None:
    await stage.complete(order)
    await arrive(stage)


async def test_a_finished_jobs_browser_goes_and_the_next_job_starts(stage: Stage) -> None:
    """One event frees the place and fills it."""
    orders = [await stage.until_running(), await stage.until_running()]
    waits = await stage.submit()
    await arrive(stage)
    assert (await stage.job(waits["id"]))["status"] == "pending"
    await finish(stage, orders[0])
    assert orders[0]["browser_service_id"] not in stage.place.browsers
    assert (await stage.job(waits["id"]))["status"] == "dispatching"


async def test_a_browser_that_cannot_be_deleted_now_is_left_to_reaping(stage: Stage) -> None:
    """The event is done all the same; the browser's row stays until the browser is gone."""
    order = await stage.until_running()
    stage.place.away = True
    await finish(stage, order)
    assert (await stage.job(order["job_id"]))["reported_at"]
    assert len(await stage.rows("SELECT FROM browsers")) == len(stage.place.browsers) == 1
    stage.place.away = False
    await stage.tick()
    assert len(await stage.rows("SELECT FROM browsers")) == len(stage.place.browsers) == 0


async def test_a_job_cancelled_while_its_browser_starts_leaves_none(stage: Stage) -> None:
    """Whoever comes first, no browser is left of a cancelled job."""
    job = await stage.submit()
    (bell,) = await stage.outbox()
    stage.place.has_time.clear()
    starting = asyncio.create_task(stage.deliver(bell))
    while (await stage.job(job["id"]))["status"] != "provisioning":
        pass
    await stage.call("submit_job", "DELETE", f"/jobs/{job['id']}")
    stage.place.has_time.set()
    assert await starting == [204]
    await stage.deliver_all()
    await stage.tick()
    assert (await stage.job(job["id"]))["status"] == "cancelled"
    assert stage.place.browsers == {}
    assert await stage.rows("SELECT FROM browsers") == []
