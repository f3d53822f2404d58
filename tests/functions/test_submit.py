"""The job resource: create, list, get, change, cancel, retry, evidence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.functions.refusals import refusal, unchanged
from tests.functions.stage import Stage
from tests.serving import eventually

WISH = {"provider": "metrofiber", "action": "validation"}
LIMIT = 256 * 1024
INSERT = """
INSERT INTO jobs (content_digest, provider, action, parameters, priority, max_retries, traceparent, created_by)
SELECT '', CASE WHEN mod(n, 2) = 0 THEN 'octotel' ELSE 'evotel' END, 'validation', '{}', 5, 3, '', 'test'
FROM generate_series(1, %s) n
"""


async def create(stage: Stage, **job: Any) -> httpx.Response:
    return await stage.call("submit_job", "POST", "/jobs", json={**WISH, **job})


async def batch(stage: Stage, *jobs: dict[str, Any]) -> httpx.Response:
    return await stage.call("submit_job", "POST", "/jobs:batch", json={"jobs": [{**WISH, **job} for job in jobs]})


async def listed(stage: Stage, query: str = "") -> httpx.Response:
    return await stage.call("submit_job", "GET", f"/jobs?{query}")


async def cancel(stage: Stage, job_id: int) -> httpx.Response:
    return await stage.call("submit_job", "DELETE", f"/jobs/{job_id}")


async def change(stage: Stage, job_id: int, **wish: Any) -> httpx.Response:
    return await stage.call("submit_job", "PATCH", f"/jobs/{job_id}", json=wish)


async def retry(stage: Stage, job_id: int) -> httpx.Response:
    return await stage.call("submit_job", "POST", f"/jobs/{job_id}:retry")


async def failed(stage: Stage, **job: Any) -> int:
    """A job that failed for good."""
    order = await stage.until_running(**job)
    failure = {"kind": "business", "code": "unknown_circuit", "message": "no such circuit"}
    await stage.complete(order, status="failed", failure=failure)
    return int(order["job_id"])


# Create


async def test_a_new_job_is_201_with_its_place(stage: Stage) -> None:
    """A job is answered whole, with defaults filled in, and rung for once."""
    answer = await create(stage, parameters={"circuit": "C-1"}, external_job_id="X-1")
    assert answer.status_code == 201
    job = answer.json()
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert (job["status"], job["attempt"], job["priority"], job["max_retries"]) == ("pending", 1, 5, 3)
    assert (job["external_job_id"], job["parameters"]) == ("X-1", {"circuit": "C-1"})
    assert job["evidence"] == []
    assert [bell.job_id for bell in await stage.outbox()] == [job["id"]]


async def test_the_same_job_again_is_200(stage: Stage) -> None:
    """Submitting an external id again answers the first job and rings no second time."""
    first = await create(stage, external_job_id="X-1", parameters={"a": 1, "b": 2})
    again = await create(stage, external_job_id="X-1", parameters={"b": 2, "a": 1})
    assert (again.status_code, again.json()) == (200, first.json())
    assert len(await stage.outbox()) == 1


async def test_a_job_whose_deadline_has_passed_is_still_the_same_job(stage: Stage) -> None:
    """Whoever got no answer and asks again learns of it; a new job with such a deadline is none."""
    deadline = datetime.now(UTC) + timedelta(seconds=1)
    wish = {"external_job_id": "X-1", "deadline": deadline.isoformat()}
    first = await create(stage, **wish)
    assert first.status_code == 201
    await eventually(lambda: datetime.now(UTC) > deadline)
    again = await create(stage, **wish)
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    async with unchanged(stage):
        refusal(await batch(stage, wish, {**wish, "external_job_id": "X-2"}), 422, "jobs.1.deadline")
        refusal(await create(stage, **wish, priority=6), 409, "external_job_id")


async def test_an_external_id_with_other_content_is_409(stage: Stage) -> None:
    """One external id cannot stand for two jobs."""
    await create(stage, external_job_id="X-1")
    async with unchanged(stage):
        answer = await create(stage, external_job_id="X-1", priority=6)
    assert refusal(answer, 409, "external_job_id")["code"] == "external_job_id_taken"


async def test_the_same_job_many_times_at_once_is_one_job(stage: Stage) -> None:
    """Twenty submissions of one external id at once make one job: one 201, nineteen 200."""
    answers = await asyncio.gather(*(create(stage, external_job_id="X-1") for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(await stage.rows("SELECT FROM jobs")) == 1


async def test_a_batch_keeps_its_order_and_repeats_what_is_known(stage: Stage) -> None:
    """A batch answers its jobs in the order given; those submitted before are answered as they are."""
    known = (await create(stage, external_job_id="B", priority=1)).json()
    answer = await batch(stage, {}, {"external_job_id": "B", "priority": 1}, {"priority": 9}, {"external_job_id": "A"})
    assert answer.status_code == 201
    items = answer.json()["items"]
    assert [(j["external_job_id"], j["priority"]) for j in items] == [(None, 5), ("B", 1), (None, 9), ("A", 5)]
    assert items[1]["id"] == known["id"]
    again = await batch(stage, {"external_job_id": "A"}, {"external_job_id": "B", "priority": 1})
    assert (again.status_code, [j["id"] for j in again.json()["items"]]) == (200, [items[3]["id"], known["id"]])


@pytest.mark.parametrize(
    ("bad", "status", "field"),
    [
        ({"provider": "nobody"}, 422, "jobs.1.provider"),
        ({"priority": 11}, 422, "jobs.1.priority"),
        ({"external_job_id": "first"}, 422, "jobs.1.external_job_id"),
        ({"external_job_id": "taken"}, 409, "external_job_id"),
    ],
)
async def test_a_batch_is_taken_whole_or_not_at_all(stage: Stage, bad: dict[str, Any], status: int, field: str) -> None:
    """One bad job refuses the batch, names its place in it and leaves nothing of it."""
    await create(stage, external_job_id="taken", priority=1)
    async with unchanged(stage):
        refusal(await batch(stage, {"external_job_id": "first"}, bad, {}), status, field)


@pytest.mark.parametrize("size", [0, 101])
async def test_a_batch_has_1_to_100_jobs(stage: Stage, size: int) -> None:
    """An empty batch and one of 101 are refused, one of 100 is taken."""
    async with unchanged(stage):
        refusal(await batch(stage, *[{}] * size), 422, "jobs")
    assert len((await batch(stage, *[{}] * 100)).json()["items"]) == 100


async def test_batches_in_each_others_way_are_none_or_all(stage: Stage) -> None:
    """Two batches of the same jobs in opposite order: PostgreSQL refuses one, which may come again and left nothing."""
    other = INSERT.replace("(content_digest", "(external_job_id, content_digest").replace("SELECT", "SELECT %s,")
    async with stage.connection.transaction():
        await stage.execute("SET LOCAL deadlock_timeout = '1 min'")  # so that it is the request that is refused
        await stage.execute(other, "X-1", 1)
        loser = asyncio.create_task(batch(stage, {"external_job_id": "X-2"}, {"external_job_id": "X-1"}))
        while not await stage.rows("SELECT FROM pg_locks WHERE NOT granted"):
            pass
        await stage.execute(other, "X-2", 1)
        answer = await loser
    assert refusal(answer, 503)["code"] == "unavailable"
    assert int(answer.headers["retry-after"]) > 0
    assert [row["created_by"] for row in await stage.rows("SELECT created_by FROM jobs")] == ["test", "test"]


# What is refused


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"provider": "nobody"}, "provider"),
        ({"provider": 5}, "provider"),
        ({"provider": None}, "provider"),
        ({"action": "demolition"}, "action"),
        ({"action": ["validation"]}, "action"),
        ({"parameters": "circuit"}, "parameters"),
        ({"parameters": None}, "parameters"),
        ({"parameters": {"a": {"b": ["c\0"]}}}, "parameters"),
        ({"parameters": {"c\0": 1}}, "parameters"),
        ({"provider": "metro\0fiber"}, "provider"),
        ({"external_job_id": "X\0"}, "external_job_id"),
        ({"external_job_id": ""}, "external_job_id"),
        ({"external_job_id": "x" * 201}, "external_job_id"),
        ({"external_job_id": 7}, "external_job_id"),
        ({"priority": -1}, "priority"),
        ({"priority": 11}, "priority"),
        ({"priority": "5"}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": 10**30}, "priority"),
        ({"max_retries": -1}, "max_retries"),
        ({"max_retries": 21}, "max_retries"),
        ({"run_after": "tomorrow"}, "run_after"),
        ({"run_after": "2040-01-01T00:00:00"}, "run_after"),
        ({"run_after": 1700000000}, "run_after"),
        ({"run_after": "9999-12-31T23:59:59-12:00"}, "run_after"),
        ({"run_after": "0001-01-01T00:00:00+14:00"}, "run_after"),
        ({"deadline": "9999-12-31T23:59:59Z"}, "deadline"),
        ({"deadline": "2001-01-01T00:00:00Z"}, "deadline"),
        ({"deadline": "2040-01-01T00:00:00Z", "run_after": "2040-01-01T00:00:00Z"}, "deadline"),
        ({"surprise": 1}, "surprise"),
        ({"status": "completed"}, "status"),
        ({"id": 1}, "id"),
    ],
    ids=str,
)
async def test_a_bad_field_is_named_and_nothing_made(stage: Stage, wish: dict[str, Any], field: str) -> None:
    """Whatever is wrong with a job, the answer names the field and what would be right, and no job is made."""
    async with unchanged(stage):
        refusal(await create(stage, **wish), 422, field)


async def test_all_that_is_wrong_is_named_at_once(stage: Stage) -> None:
    """One answer names every wrong field."""
    refusal(await create(stage, priority=11, max_retries=-1, surprise=1), 422, "priority", "max_retries", "surprise")
    refusal(await create(stage, action="demolition", deadline="2001-01-01T00:00:00Z"), 422, "action", "deadline")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        rb'{"provider": "\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 10_000,
    ],
    ids=lambda body: str(body[:20]),
)
async def test_what_is_no_json_object_is_refused(stage: Stage, body: bytes) -> None:
    """Malformed JSON is 422, never an error of ours."""
    headers = {"Content-Type": "application/json"}
    refusal(await stage.call("submit_job", "POST", "/jobs", content=body, headers=headers), 422, "body")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400", "9" * 5000])
async def test_numbers_that_json_or_the_database_cannot_hold_are_refused(stage: Stage, number: str) -> None:
    """NaN, Infinity, and numbers beyond all bounds."""
    body = json.dumps({**WISH, "parameters": {"n": 0}}).replace("0}", f"{number}}}")
    headers = {"Content-Type": "application/json"}
    async with unchanged(stage):
        answer = await stage.call("submit_job", "POST", "/jobs", content=body, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] in ("body", "parameters")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_another_content_type_is_415(stage: Stage, kind: str) -> None:
    """Only application/json is read."""
    content, headers = json.dumps(WISH), {"Content-Type": kind}
    refusal(await stage.call("submit_job", "POST", "/jobs", content=content, headers=headers), 415, "Content-Type")
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert (await stage.call("submit_job", "POST", "/jobs", content=content, headers=headers)).status_code == 201


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    """A body that does not say how long it will be."""
    for part in parts:
        yield part


async def test_a_body_has_256_kib_at_most(stage: Stage) -> None:
    """One byte more is 413, whether the length is declared or not; exactly as many are taken."""
    empty = len(json.dumps({**WISH, "parameters": {"p": ""}}))
    body = json.dumps({**WISH, "parameters": {"p": "x" * (LIMIT - empty)}}).encode()
    assert len(body) == LIMIT
    headers = {"Content-Type": "application/json"}
    async with unchanged(stage):
        for content in (body + b" ", chunks(body, b" ")):
            answer = await stage.call("submit_job", "POST", "/jobs", content=content, headers=headers)
            assert refusal(answer, 413, "body")["code"] == "too_large"
        # What is declared too large is refused unread.
        declared = {**headers, "Content-Length": str(LIMIT + 1)}
        refusal(await stage.call("submit_job", "POST", "/jobs", content=chunks(), headers=declared), 413, "body")
    for content in (body, chunks(body[:1000], body[1000:])):
        answer = await stage.call("submit_job", "POST", "/jobs", content=content, headers=headers)
        assert answer.status_code == 201


# List


async def test_every_job_is_listed_once(stage: Stage) -> None:
    """Pages of 250 jobs hold each once, newest first, though jobs are added meanwhile."""
    await stage.execute(INSERT, 250)
    jobs = [row["id"] for row in await stage.rows("SELECT id FROM jobs ORDER BY id DESC")]
    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await listed(stage, f"limit=60&cursor={cursor}")).json()
        seen += [job["id"] for job in page["items"]]
        cursor = page["next_cursor"]
        await stage.execute(INSERT, 1)
    assert seen == jobs
    assert len((await listed(stage)).json()["items"]) == 50


async def test_filters_hold_together(stage: Stage) -> None:
    """Status, provider and external id each narrow the list, alone and combined."""
    a = (await create(stage, external_job_id="A")).json()["id"]
    b = (await create(stage, provider="octotel", external_job_id="B")).json()["id"]
    c = (await create(stage, provider="octotel")).json()["id"]
    await cancel(stage, c)

    async def ids(query: str) -> list[int]:
        answer = (await listed(stage, query)).json()
        assert answer["next_cursor"] is None
        return [job["id"] for job in answer["items"]]

    assert await ids("") == [c, b, a]
    assert await ids("provider=octotel") == [c, b]
    assert await ids("status=pending") == [b, a]
    assert await ids("external_job_id=A") == [a]
    assert await ids("provider=octotel&status=cancelled") == [c]
    assert await ids("provider=octotel&external_job_id=A") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("limit=%D9%A1", "limit"),
        (f"limit={'9' * 5000}", "limit"),
        ("status=done", "status"),
        ("status=", "status"),
        ("provider=a%00b", "provider"),
        ("external_job_id=%00", "external_job_id"),
        ("page=2", "page"),
        ("cursor=2", "cursor"),
        ("cursor=YmVmb3JlOjA", "cursor"),  # before:0
        ("cursor=YmVmb3JlOi0x", "cursor"),  # before:-1
        ("cursor=YmVmb3JlOjE%3D", "cursor"),  # before:1, with padding
    ],
)
async def test_a_bad_query_is_refused(stage: Stage, query: str, field: str) -> None:
    """Filters and cursors that are none of ours are named."""
    refusal(await listed(stage, query), 422, field)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(cursor=st.text(max_size=40) | st.binary(max_size=30).map(lambda b: b.decode("latin-1")))
async def test_no_cursor_is_an_error_of_ours(stage: Stage, cursor: str) -> None:
    """Any text for a cursor is a page or a refusal."""
    answer = await stage.call("submit_job", "GET", "/jobs", params={"cursor": cursor})
    assert answer.status_code in (200, 422)


# Get, change, cancel, retry


async def test_a_job_comes_with_its_history(stage: Stage) -> None:
    """One job is answered with all that happened to it, in order."""
    order = await stage.until_running()
    job = await stage.job(order["job_id"])
    assert (job["status"], job["attempt"]) == ("running", 1)
    assert [(e["event"], e["from"], e["to"]) for e in job["history"]] == [
        ("submitted", None, "pending"),
        ("claimed", "pending", "provisioning"),
        ("browser_ready", "provisioning", "dispatching"),
        ("accepted", "dispatching", "running"),
    ]
    assert job["history"][0]["detail"] == {"by": "admin"}
    assert [entry["at"] for entry in job["history"]] == sorted(entry["at"] for entry in job["history"])


@pytest.mark.parametrize("job_id", ["0", "999999999", str(2**63 - 1), str(2**63), "9" * 5000])
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", ":retry"), ("GET", "/evidence/a.png")],
)
async def test_an_unknown_job_is_404(stage: Stage, method: str, path: str, job_id: str) -> None:
    """No such job, whatever is asked of it and however large its number."""
    body = {"json": {"priority": 1}} if method == "PATCH" else {}
    refusal(await stage.call("submit_job", method, f"/jobs/{job_id}{path}", **body), 404)


async def test_a_waiting_job_can_be_changed(stage: Stage) -> None:
    """Priority and times change while a job waits; the history says how; it is rung for again."""
    job = await stage.submit(run_after="2040-01-01T00:00:00Z", deadline="2041-01-01T00:00:00Z")
    await stage.lose_events()
    changed = (await change(stage, job["id"], priority=9, run_after=None)).json()
    assert changed["priority"] == 9
    assert changed["run_after"] < "2040"
    assert changed["deadline"].startswith("2041")
    assert [bell.job_id for bell in await stage.outbox()] == [job["id"]]
    cleared = (await change(stage, job["id"], deadline=None)).json()
    assert (cleared["deadline"], cleared["priority"]) == (None, 9)
    assert (await change(stage, job["id"], priority=0)).json()["priority"] == 0
    entries = [e for e in (await stage.job(job["id"]))["history"] if e["event"] == "changed"]
    assert [e["detail"] for e in entries] == [{"priority": 9, "run_after": None}, {"deadline": None}, {"priority": 0}]


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({}, "body"),
        ({"priority": 11}, "priority"),
        ({"priority": None}, "priority"),
        ({"provider": "octotel"}, "provider"),
        ({"status": "completed"}, "status"),
        ({"deadline": "2001-01-01T00:00:00Z"}, "deadline"),
        ({"deadline": "2040-01-01T00:00:00Z"}, "deadline"),
        ({"run_after": "2043-01-01T00:00:00Z"}, "deadline"),
        ({"run_after": "9999-12-31T23:59:59-12:00"}, "run_after"),
    ],
    ids=str,
)
async def test_a_bad_change_is_refused(stage: Stage, wish: dict[str, Any], field: str) -> None:
    """What cannot change, and times that can never work out, also with those that the job has."""
    job = await stage.submit(run_after="2041-01-01T00:00:00Z", deadline="2042-01-01T00:00:00Z")
    async with unchanged(stage):
        refusal(await change(stage, job["id"], **wish), 422, field)


async def test_a_job_on_its_way_cannot_be_changed(stage: Stage) -> None:
    """Only a pending job can be changed."""
    order = await stage.until_running()
    async with unchanged(stage):
        answer = await change(stage, order["job_id"], priority=1)
    assert refusal(answer, 409)["code"] == "not_pending"


@pytest.mark.parametrize("state", ["pending", "provisioning", "dispatching", "running"])
async def test_a_job_is_cancelled_wherever_it_is(stage: Stage, state: str) -> None:
    """Cancelled once however often it is asked; the history says by whom; its browser goes; ORDS is told."""
    job = await stage.submit()
    (bell,) = await stage.outbox()
    if state == "provisioning":
        stage.place.has_time.clear()
    arrival = asyncio.create_task(stage.deliver(bell)) if state != "pending" else None
    if arrival and state != "provisioning":
        await arrival
    if state == "running":
        await stage.deliver_all()
    while (await stage.job(job["id"]))["status"] != state:
        pass

    first, second = await cancel(stage, job["id"]), await cancel(stage, job["id"])
    stage.place.has_time.set()
    if arrival:
        await arrival
    assert (first.status_code, second.status_code) == (200, 200)
    assert (first.json()["status"], second.json()) == ("cancelled", first.json())
    (entry,) = [e for e in first.json()["history"] if e["to"] == "cancelled"]
    assert (entry["from"], entry["detail"]) == (state, {"by": "admin"})
    await stage.deliver_all()
    assert stage.place.browsers == {}
    assert [(r["job_id"], r["status"]) for r in stage.ords.reports] == [(job["id"], "cancelled")]


async def test_many_cancel_at_once(stage: Stage) -> None:
    """However many cancel a job, each is told that it is cancelled, and it ends once."""
    job = await stage.submit()
    answers = await asyncio.gather(*(cancel(stage, job["id"]) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(await stage.rows("SELECT FROM history WHERE to_state = 'cancelled'")) == 1


async def test_what_ended_cannot_be_cancelled(stage: Stage) -> None:
    """Completed and failed are final."""
    order = await stage.until_running()
    await stage.complete(order)
    for job_id in (order["job_id"], await failed(stage)):
        async with unchanged(stage):
            assert refusal(await cancel(stage, job_id), 409)["code"] == "finished"


async def test_a_retry_is_a_new_job(stage: Stage) -> None:
    """A retry has the old one's content and a life of its own; asked again, also at once, it is the same new job."""
    old = await failed(stage, external_job_id="X-1", parameters={"circuit": "C"}, priority=7)
    answers = [await retry(stage, old), *await asyncio.gather(*(retry(stage, old) for _ in range(5)))]
    assert [answer.status_code for answer in answers] == [201] + [200] * 5
    (new,) = {answer.json()["id"] for answer in answers}
    assert answers[0].headers["location"] == f"/jobs/{new}"
    job = answers[0].json()
    assert (job["retry_of"], job["status"], job["attempt"]) == (old, "pending", 1)
    assert (job["external_job_id"], job["parameters"], job["priority"]) == ("X-1", {"circuit": "C"}, 7)
    assert (await stage.job(old))["status"] == "failed"
    # The external id still answers the first job; a retry can be retried in its turn.
    assert (await create(stage, external_job_id="X-1", parameters={"circuit": "C"}, priority=7)).json()["id"] == old
    await cancel(stage, new)
    assert (await retry(stage, new)).json()["retry_of"] == new


async def test_retries_at_once_are_one(stage: Stage) -> None:
    """Ten who retry a job at once get one new job."""
    old = await failed(stage)
    answers = await asyncio.gather(*(retry(stage, old) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] * 9 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1


async def test_what_runs_or_is_done_cannot_be_retried(stage: Stage) -> None:
    """Only failed and cancelled jobs can be retried."""
    order = await stage.until_running()
    assert refusal(await retry(stage, order["job_id"]), 409)["code"] == "not_retryable"
    await stage.complete(order)
    async with unchanged(stage):
        assert refusal(await retry(stage, order["job_id"]), 409)["code"] == "not_retryable"


# Evidence
