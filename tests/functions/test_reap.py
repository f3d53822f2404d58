"""One round of reaping: what is late, lost, left over or out of date."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.browsers import Browser, Phase
from shared.events import PING, Doorbell, Type
from tests.functions.refusals import refusal, unchanged
from tests.functions.stage import Stage, load_function

EXPIRE = "UPDATE jobs SET lease_expires_at = now() - interval '1 s' WHERE lease_expires_at IS NOT NULL"


async def age(stage: Stage, table: str, column: str, interval: str) -> None:
    """Time passes for the rows of a table, past every guard."""
    async with stage.connection.transaction():
        await stage.execute("SET LOCAL session_replication_role = replica")
        await stage.execute(f"UPDATE {table} SET {column} = {column} - %s::interval", interval)  # noqa: S608 - our names


async def until(stage: Stage, state: str, **job: Any) -> int:
    """A job in this state."""
    stage.worker.available = state == "running"
    stage.worker.execute_status = 500 if state == "unclear" else 200
    if state == "unclear":
        stage.worker.available = True
    made = await stage.submit(**job)
    if state == "provisioning":
        await stage.execute(
            "UPDATE jobs SET state = 'provisioning', claimed_at = now(), lease_expires_at = now() + interval '30 s'"
        )
    elif state != "pending":
        (bell,) = await stage.outbox()
        await stage.deliver(bell)
        (bell,) = await stage.outbox()
        await stage.deliver(bell)
    await stage.execute("DELETE FROM outbox")
    return int(made["id"])


# Leases and deadlines


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("provisioning", "browser_late"),
        ("dispatching", "no_worker"),
        ("unclear", "worker_unclear"),
        ("running", "worker_lost"),
    ],
)
async def test_silence_costs_an_attempt(stage: Stage, state: str, code: str) -> None:
    """A lease that ran out: the next attempt, and the reason why; its event is sent at once."""
    job_id = await until(stage, state)
    assert await stage.tick() == []
    await stage.execute(EXPIRE)
    assert [(b.type, b.job_id, b.attempt) for b in await stage.tick()] == [(Type.JOB_SUBMITTED, job_id, 2)]
    job = await stage.job(job_id)
    assert (job["status"], job["attempt"]) == ("pending", 2)
    assert (job["error"]["kind"], job["error"]["code"]) == ("application", code)
    assert (job["history"][-1]["event"], job["history"][-1]["detail"]["by"]) == ("attempt_failed", "reap_idle")
    assert await stage.outbox() == []


async def test_a_heartbeat_at_the_last_moment_counts(stage: Stage) -> None:
    """The lease had run out when the round looked, and was extended before it acted: the attempt goes on."""
    job_id = await until(stage, "running")
    await stage.execute(EXPIRE)
    async with stage.connection.transaction():
        await stage.execute("UPDATE jobs SET lease_expires_at = now() + interval '1 minute'")
        round_ = asyncio.create_task(stage.tick())
        while not await stage.rows("SELECT FROM pg_locks WHERE NOT granted"):
            pass
    assert await round_ == []
    job = await stage.job(job_id)
    assert (job["status"], job["attempt"]) == ("running", 1)


async def test_the_last_attempts_silence_fails_the_job(stage: Stage) -> None:
    """With no retry left the job fails and is reported."""
    job_id = await until(stage, "running", max_retries=0)
    await stage.execute(EXPIRE)
    assert [(b.type, b.job_id) for b in await stage.tick()] == [(Type.JOB_FINISHED, job_id)]
    assert (await stage.job(job_id))["status"] == "failed"


@pytest.mark.parametrize("state", ["pending", "provisioning", "dispatching", "running"])
async def test_a_missed_deadline_fails_a_job_wherever_it_is(stage: Stage, state: str) -> None:
    """For good, whatever retries are left; its browser goes, and ORDS is told."""
    job_id = await until(stage, state)
    await stage.execute("UPDATE jobs SET deadline = now() - interval '1 s'")
    bells = await stage.tick()
    assert [(b.type, b.job_id) for b in bells] == [(Type.JOB_FINISHED, job_id)]
    job = await stage.job(job_id)
    assert (job["status"], job["error"]["code"]) == ("failed", "deadline_missed")
    for bell in bells:
        await stage.deliver(bell)
    assert stage.place.browsers == {}
    assert [report["status"] for report in stage.ords.reports] == ["failed"]


async def test_rounds_may_overlap(stage: Stage) -> None:
    """Several rounds at once cost each attempt once, and miss each deadline once."""
    await until(stage, "running", max_retries=1)
    await until(stage, "running", max_retries=1)
    await until(stage, "pending", provider="octotel")
    await stage.execute("UPDATE jobs SET deadline = now() WHERE provider = 'octotel'")
    await stage.execute(EXPIRE)
    _, other = load_function("reap_idle", stage.settings, stage.place)  # another pod
    await asyncio.gather(*(stage.tick() for _ in range(4)), other.REAPER(), other.REAPER())
    await other.DATABASE.aclose()
    jobs = await stage.rows("SELECT state, attempt FROM jobs ORDER BY id")
    assert [(job["state"], job["attempt"]) for job in jobs] == [("pending", 2), ("pending", 2), ("failed", 1)]
    events = await stage.rows("SELECT FROM history WHERE event IN ('attempt_failed', 'deadline_missed')")
    assert len(events) == 3


async def test_a_round_with_nothing_late_changes_nothing(stage: Stage) -> None:
    """Rounds may come as often as they like."""
    await until(stage, "running")
    async with unchanged(stage):
        assert await stage.tick() == []
        assert await stage.tick() == []


# Events


async def test_unsent_events_are_sent(stage: Stage) -> None:
    """What a publisher could not send goes out once it is older than a publisher's patience, and is forgotten."""
    await stage.submit(run_after="2040-01-01T00:00:00Z")
    unsent = await stage.outbox()
    assert (len(unsent), await stage.tick()) == (1, [])
    await age(stage, "outbox", "created_at", "10 s")
    assert (await stage.tick(), await stage.outbox()) == (unsent, [])


async def test_a_broker_that_is_down_loses_nothing(stage: Stage) -> None:
    """Events stay in the outbox until the broker takes them."""
    await stage.submit(run_after="2040-01-01T00:00:00Z")
    await age(stage, "outbox", "created_at", "10 s")
    stage.broker.status = 503
    await stage.tick()
    assert len(await stage.outbox()) == 1
    stage.broker.status = 202
    assert len(await stage.tick()) == 1
    assert await stage.outbox() == []


@pytest.mark.parametrize("state", ["pending", "dispatching"])
async def test_a_lost_event_is_sent_again(stage: Stage, state: str) -> None:
    """What waits and was not acted on is rung for again."""
    job_id = await until(stage, state)
    await stage.lose_events()
    kind = {"pending": Type.JOB_SUBMITTED, "dispatching": Type.BROWSER_READY}[state]
    assert [(b.type, b.job_id, b.attempt) for b in await stage.tick()] == [(kind, job_id, 1)]


async def test_one_event_for_each_provider_is_enough(stage: Stage) -> None:
    """However many jobs are due, a provider is rung for once in a round."""
    for _ in range(3):
        await stage.submit()
        await stage.submit(provider="octotel")
    await stage.execute("DELETE FROM outbox")
    assert len(await stage.tick()) == 2


async def test_an_unreported_job_is_rung_for_until_it_is_reported(stage: Stage) -> None:
    """job.finished was lost: it comes again, but not while the report is on its way."""
    job_id = await until(stage, "running")
    await stage.complete(stage.worker.orders[-1])
    await stage.lose_events()
    (bell,) = await stage.tick()
    assert (bell.type, bell.job_id) == (Type.JOB_FINISHED, job_id)
    await stage.execute("UPDATE jobs SET report_due = now() + interval '5 s'")
    assert await stage.tick() == []
    await stage.execute("UPDATE jobs SET report_due = now()")
    await stage.deliver(bell)
    assert await stage.tick() == []


# Browsers


async def test_a_browser_that_nobody_asked_for_goes(stage: Stage) -> None:
    """A browser without a row is an orphan; those of live attempts stay."""
    await until(stage, "running")
    (mine,) = stage.place.browsers.values()
    stage.place.browsers["orphan"] = replace(mine, name="orphan")
    await stage.tick()
    assert list(stage.place.browsers) == [mine.name]


@pytest.mark.parametrize("how", ["vanished", "died"])
@pytest.mark.parametrize("state", ["dispatching", "running"])
async def test_a_lost_browser_costs_an_attempt(stage: Stage, state: str, how: str) -> None:
    """A live attempt whose browser is gone or dead starts again, with the place's own words."""
    job_id = await until(stage, state)
    (browser,) = stage.place.browsers.values()
    await age(stage, "browsers", "ready_at", "10 s")
    if how == "vanished":
        stage.place.browsers.clear()
    else:
        dead = Browser(browser.name, Phase.FAILED, datetime.now(UTC), None, "OOMKilled", job_id, 1)
        stage.place.browsers[browser.name] = dead
    assert [(b.type, b.attempt) for b in await stage.tick()] == [(Type.JOB_SUBMITTED, 2)]
    error = (await stage.job(job_id))["error"]
    assert (error["code"], error["message"]) == (
        "browser_lost",
        {"vanished": "the browser is gone", "died": "OOMKilled"}[how],
    )
    await stage.tick()
    assert (stage.place.browsers, await stage.rows("SELECT FROM browsers")) == ({}, [])


async def test_a_live_attempts_browser_stays(stage: Stage) -> None:
    """However long it has been ready."""
    await until(stage, "running")
    await age(stage, "browsers", "ready_at", "1 hour")
    async with unchanged(stage):
        assert await stage.tick() == []
    assert len(stage.place.browsers) == 1


MANY = """
WITH made AS (
    INSERT INTO jobs (content_digest, provider, action, parameters, priority, max_retries, traceparent, created_by,
        state, worker, claimed_at, lease_expires_at)
    SELECT '', 'metrofiber', 'validation', '{}', 5, 3, '', 'test', 'running', 'w', now(), now() + interval '1 hour'
    FROM generate_series(1, 1000) RETURNING id)
INSERT INTO browsers (name, job_id, attempt, key_id, address, created_at, ready_at)
SELECT 'rpa-browser-' || id || '-1', id, 1, 'k', '127.0.0.1:9', now() - interval '1 hour', now() - interval '1 hour'
FROM made
"""


async def test_a_thousand_browsers_are_reconciled_both_ways(stage: Stage) -> None:
    """Forty are nobody's and go, thirty have died and cost an attempt; the other jobs keep theirs."""
    await stage.execute(MANY)
    names = [row["name"] for row in await stage.rows("SELECT name FROM browsers ORDER BY job_id")]
    dead, well = names[:30], names[30:]
    for name in [*well, *(f"rpa-browser-orphan-{n}" for n in range(40))]:
        stage.place.browsers[name] = Browser(name, Phase.READY, datetime.now(UTC), "127.0.0.1:9")
    await stage.tick()
    lost = await stage.rows(
        "SELECT state, attempt, error ->> 'code' AS code FROM jobs WHERE attempt = 2 OR state <> 'running'"
    )
    assert [(row["state"], row["attempt"], row["code"]) for row in lost] == [("pending", 2, "browser_lost")] * len(dead)
    assert set(stage.place.browsers) == set(well)
    await stage.tick()
    assert {row["name"] for row in await stage.rows("SELECT name FROM browsers")} == set(well)


async def test_a_browser_ready_just_now_is_not_missed(stage: Stage) -> None:
    """A list that is a moment old need not have it."""
    await until(stage, "running")
    stage.place.browsers.clear()
    async with unchanged(stage):
        assert await stage.tick() == []


async def test_while_the_place_is_away_the_rest_is_done(stage: Stage) -> None:
    """Kubernetes does not answer: leases, deadlines and events are seen to all the same."""
    job_id = await until(stage, "running")
    await stage.execute(EXPIRE)
    stage.place.away = True
    assert [(b.type, b.job_id) for b in await stage.tick()] == [(Type.JOB_SUBMITTED, job_id)]
    assert len(stage.place.browsers) == 1
    stage.place.away = False
    await stage.tick()
    assert stage.place.browsers == {}


# Retention


async def test_what_ended_long_ago_is_forgotten(stage: Stage) -> None:
    """After RETENTION_DAYS jobs go with history and evidence, dead letters too; what ORDS has not heard of stays."""
    job_id = await until(stage, "running")
    order = stage.worker.orders[-1]
    headers = {"Content-Type": "image/png"}
    path = "/callbacks/evidence/a.png"
    await stage.call("callback", "PUT", path, token=order["token"], content=b"x", headers=headers)
    await stage.complete(order)
    await stage.send("notify", Doorbell(Type.JOB_SUBMITTED, 1, 1, ""))  # a dead letter
    await age(stage, "jobs", "finished_at", "31 days")
    await age(stage, "dead_letters", "last_at", "31 days")
    await stage.execute(
        "INSERT INTO totp_steps VALUES ('A', 1, 1, 1, now() - interval '25 hours'), ('A', 2, 1, 1, now())"
    )
    await stage.tick()
    assert [row["id"] for row in await stage.rows("SELECT id FROM jobs")] == [job_id]
    assert await stage.rows("SELECT FROM dead_letters") == []
    assert [row["step"] for row in await stage.rows("SELECT step FROM totp_steps")] == [2]

    await stage.execute("UPDATE jobs SET reported_at = now()")
    await stage.tick()
    left = {table: len(rows) for table, rows in (await stage.contents()).items()}
    assert (left["jobs"], left["history"], left["evidence"]) == (0, 0, 0)


async def test_what_ended_lately_stays(stage: Stage) -> None:
    """A job that ended 29 days ago and an event that failed then are kept."""
    await until(stage, "running")
    await stage.complete(stage.worker.orders[-1])
    await stage.deliver_all()
    await stage.send("notify", Doorbell(Type.JOB_SUBMITTED, 1, 1, ""))
    await age(stage, "jobs", "finished_at", "29 days")
    await age(stage, "dead_letters", "last_at", "29 days")
    async with unchanged(stage):
        await stage.tick()


# Dead letters


async def test_an_event_that_could_not_be_delivered_is_kept(stage: Stage) -> None:
    """As the broker sends it: with the destination and the error code, once however often it comes."""
    bell = Doorbell(Type.JOB_SUBMITTED, 7, 1, "")
    attributes = {
        **bell.cloud_event().get_attributes(),
        "knativeerrordest": "http://provision-browser.rpa.svc.cluster.local/",
        "knativeerrorcode": "500",
        "knativeerrordata": "b29wcw==",
    }
    headers = {f"ce-{name}": str(value) for name, value in attributes.items()}
    for _ in range(2):
        answer = await stage.clients["reap_idle"].post("/", json={"job_id": 7, "attempt": 1}, headers=headers)
        assert (answer.status_code, answer.content) == (204, b"")
    (row,) = await stage.rows("SELECT * FROM dead_letters")
    assert (row["event_id"], row["event_type"], row["times"]) == (bell.id, "rpa.job.submitted.v1", 2)
    assert row["destination"] == "http://provision-browser.rpa.svc.cluster.local/"
    assert row["reason"] == "delivery failed with 500"
    assert row["event"]["data"] == {"job_id": 7, "attempt": 1}


async def test_a_dead_letter_may_lack_a_code(stage: Stage) -> None:
    """A destination that never answered; a ping that was not delivered is kept, too, and reaps nothing."""
    await until(stage, "running")
    await stage.execute(EXPIRE)
    headers = {"ce-id": "1", "ce-source": "/ping", "ce-type": PING, "ce-specversion": "1.0", "ce-knativeerrordest": "x"}
    assert (await stage.clients["reap_idle"].post("/", json={}, headers=headers)).status_code == 204
    (row,) = await stage.rows("SELECT reason FROM dead_letters")
    assert row["reason"] == "delivery failed with no answer"
    assert [job["state"] for job in await stage.rows("SELECT state FROM jobs")] == ["running"]


async def test_a_tick_is_an_event(stage: Stage) -> None:
    """A request that is none is refused and reaps nothing."""
    refusal(await stage.clients["reap_idle"].post("/", json={}), 422, "ce-id")
