"""Reports to ORDS: what is told, until it is acknowledged, and never twice."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.events import Doorbell, Type
from tests.functions.refusals import unchanged
from tests.functions.stage import Stage

FAILED = {"status": "failed", "failure": {"kind": "business", "code": "no", "message": "the portal says no"}}


async def finished(stage: Stage, report: dict[str, Any] | None = None, **job: Any) -> Doorbell:
    """A job that ended and is not reported yet."""
    order = await stage.until_running(**job)
    await stage.complete(order, **(report or {"result": {"valid": True}}))
    (bell,) = await stage.outbox()
    return bell


async def tell(stage: Stage, bell: Doorbell) -> tuple[int, str | None]:
    answer = await stage.send("notify", bell)
    assert answer.content == b""
    return answer.status_code, answer.headers.get("retry-after")


async def test_ords_is_told_all_that_it_needs(stage: Stage) -> None:
    """The body that ORDS knows, and a key by which it can tell a repetition."""
    bell = await finished(stage, external_job_id="X-1")
    assert await tell(stage, bell) == (204, None)
    job = await stage.job(bell.job_id)
    (report,) = stage.ords.reports
    assert datetime.fromisoformat(report.pop("completed_at")) == datetime.fromisoformat(job["finished_at"])
    assert report == {
        "job_id": bell.job_id,
        "external_job_id": "X-1",
        "status": "completed",
        "result": {"valid": True},
        "error": None,
    }
    assert stage.ords.keys == [f"rpa-job-{bell.job_id}"]
    assert (job["report_attempts"], job["report_error"]) == (1, None)
    assert job["reported_at"]
    assert (job["history"][-1]["event"], job["history"][-1]["detail"]) == ("reported", {"tries": 1})


async def test_a_failure_is_reported_with_its_reason(stage: Stage) -> None:
    """Kind, code and message of what went wrong."""
    await tell(stage, await finished(stage, FAILED))
    (report,) = stage.ords.reports
    assert (report["status"], report["error"]) == ("failed", FAILED["failure"])


async def test_what_is_acknowledged_is_not_told_again(stage: Stage) -> None:
    """Ten deliveries at once and one later are one report."""
    bell = await finished(stage)
    answers = await asyncio.gather(*(tell(stage, bell) for _ in range(10)))
    assert {status for status, _ in answers} <= {204, 503}  # those who came while it was on its way come again
    async with unchanged(stage):
        assert await tell(stage, bell) == (204, None)
    assert len(stage.ords.reports) == len(stage.ords.keys) == 1


@pytest.mark.parametrize("status", [500, 503, 404, 401, 409, 302])
async def test_ords_is_told_again_until_it_acknowledges(stage: Stage, status: int) -> None:
    """Whatever is no 2xx is tried again under the same key, ever later, and the job says why."""
    bell = await finished(stage)
    stage.ords.status = status
    for attempt in (1, 2, 3):
        code, again = await tell(stage, bell)
        assert code == 503
        assert again
        assert 0.75 * 2 ** (attempt - 1) - 0.5 <= int(again) <= 1.25 * 2 ** (attempt - 1) + 0.5
        job = await stage.job(bell.job_id)
        assert (job["reported_at"], job["report_attempts"]) == (None, attempt)
        assert job["report_error"] == f"ORDS answered {status}"
        # Whoever comes before it is due is asked to come again, and sends nothing.
        await stage.execute("UPDATE jobs SET report_due = now() + interval '15 s'")
        assert (await tell(stage, bell))[0] == 503
        await stage.execute("UPDATE jobs SET report_due = now()")
    stage.ords.status = 200
    assert await tell(stage, bell) == (204, None)
    assert stage.ords.keys == [f"rpa-job-{bell.job_id}"] * 4
    assert len(stage.ords.reports) == 1
    assert (await stage.job(bell.job_id))["history"][-1]["detail"] == {"tries": 4}


async def test_a_late_try_is_left_to_reaping(stage: Stage) -> None:
    """After many tries the wait is longer than an event can be kept: done for now, and rung again when it is due."""
    bell = await finished(stage)
    stage.ords.status = 500
    await stage.execute("UPDATE jobs SET report_attempts = 30")
    assert await tell(stage, bell) == (204, None)
    (row,) = await stage.rows("SELECT report_due FROM jobs")
    assert 440 <= (row["report_due"] - datetime.now(UTC)).total_seconds() <= 750
    assert await tell(stage, bell) == (204, None)
    await stage.lose_events()
    assert await stage.tick() == []
    await stage.execute("UPDATE jobs SET report_due = now()")
    assert [rung.id for rung in await stage.tick()] == [bell.id]


async def test_ords_has_its_time_and_no_more(stage: Stage) -> None:
    """After CALLBACK_TIMEOUT an answer is given up; its late acknowledgement does not count, the same key does."""
    bell = await finished(stage)
    stage.ords.seconds = 2.3
    code, _ = await tell(stage, bell)
    assert code == 503
    assert (await stage.job(bell.job_id))["report_error"] == "TimeoutError"
    stage.ords.seconds = 0
    await stage.execute("UPDATE jobs SET report_due = now()")
    assert await tell(stage, bell) == (204, None)
    assert len(set(stage.ords.keys)) == 1


async def test_a_job_that_goes_on_is_not_reported(stage: Stage) -> None:
    """An event that says finished of a job that is not: nothing is told."""
    order = await stage.until_running()
    async with unchanged(stage):
        assert await tell(stage, Doorbell(Type.JOB_FINISHED, order["job_id"], 1, "")) == (204, None)
    assert stage.ords.keys == []
