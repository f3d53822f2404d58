"""Dead letters: listed, and replayed as often as one likes."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from shared.events import SOURCE, Doorbell, Type
from tests.functions.refusals import refusal, unchanged
from tests.functions.stage import Stage
from tests.functions.test_pauses import waiting

KEEP = """
INSERT INTO dead_letters (event_source, event_id, event_type, destination, reason, event)
VALUES (%s, %s, %s, %s, 'delivery failed with 500', %s) RETURNING id
"""


async def letter(stage: Stage, bell: Doorbell, destination: str = "somewhere", **attributes: str) -> int:
    """An event of ours that nobody could handle, but for some attributes."""
    said = {"source": SOURCE, "id": bell.id, "type": bell.type.value, **attributes}
    event = Jsonb({"attributes": said, "data": {"job_id": bell.job_id, "attempt": bell.attempt}})
    (row,) = await stage.rows(KEEP, said["source"], said["id"], said["type"], destination, event)
    return int(row["id"])


async def submitted(stage: Stage, **job: Any) -> Doorbell:
    """A job whose event was lost."""
    made = await stage.submit(**job)
    await stage.execute("DELETE FROM outbox")
    return Doorbell(Type.JOB_SUBMITTED, made["id"], 1, "")


async def replay(stage: Stage, letter_id: int) -> Any:
    return await stage.call("monitor", "POST", f"/dead-letters/{letter_id}:replay")


async def replay_all(stage: Stage) -> dict[str, Any]:
    answer = await stage.call("monitor", "POST", "/dead-letters:replay")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_letters_are_listed_newest_first_in_pages(stage: Stage) -> None:
    """With where they failed and why; the event as it came is told of one alone."""
    bell = await submitted(stage)
    ids = [await letter(stage, bell, f"place-{n}") for n in range(3)]
    first = (await stage.call("monitor", "GET", "/dead-letters?limit=2")).json()
    assert [item["id"] for item in first["items"]] == ids[:0:-1]
    second = (await stage.call("monitor", "GET", f"/dead-letters?limit=2&cursor={first['next_cursor']}")).json()
    assert ([item["id"] for item in second["items"]], second["next_cursor"]) == ([ids[0]], None)
    (item,) = second["items"]
    assert (item["status"], item["replayable"], item["job_id"], item["attempt"]) == ("open", True, bell.job_id, 1)
    assert (item["destination"], item["reason"]) == ("place-0", "delivery failed with 500")
    one = (await stage.call("monitor", "GET", f"/dead-letters/{ids[0]}")).json()
    assert one.pop("event")["data"] == {"job_id": bell.job_id, "attempt": 1}
    assert one == item


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "cursor=x", "page=2"])
async def test_a_bad_query_is_refused(stage: Stage, query: str) -> None:
    """And its field named."""
    refusal(await stage.call("monitor", "GET", f"/dead-letters?{query}"), 422, query.partition("=")[0])


async def test_replaying_rings_again(stage: Stage) -> None:
    """What the lost event would have done is done, under the trace of the job; the letter says who replayed it."""
    bell = await submitted(stage)
    answer = await replay(stage, await letter(stage, bell))
    assert answer.status_code == 200
    found = answer.json()
    assert (found["status"], found["replayed_by"]) == ("replayed", "admin")
    (rung,) = await stage.outbox()
    assert (rung.type, rung.job_id, rung.attempt) == (bell.type, bell.job_id, 1)
    (row,) = await stage.rows("SELECT traceparent FROM jobs")
    assert rung.traceparent == row["traceparent"]
    assert await stage.deliver(rung) == [204]
    assert (await stage.job(bell.job_id))["status"] == "dispatching"
    assert (await stage.call("monitor", "GET", "/status")).json()["dead_letters"] == 0


@pytest.mark.parametrize("kind", list(Type))
async def test_every_event_of_ours_can_be_replayed(stage: Stage, kind: Type) -> None:
    """The database derives the same id for a happening as the code does."""
    bell = await submitted(stage)
    assert (await replay(stage, await letter(stage, Doorbell(kind, bell.job_id, 1, "")))).status_code == 200


async def test_replaying_twice_is_harmless(stage: Stage) -> None:
    """However many do it at once or later, it rings once; the job runs once, and nothing is other than before."""
    bell = await submitted(stage)
    number = await letter(stage, bell)
    answers = await asyncio.gather(*(replay(stage, number) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(await stage.outbox()) == 1
    await stage.deliver_all()
    (order,) = stage.worker.orders
    await stage.complete(order)
    await stage.deliver_all()
    async with unchanged(stage):
        assert (await replay(stage, number)).status_code == 200
        assert await replay_all(stage) == {"replayed": 0, "more": False}
    assert [report["job_id"] for report in stage.ords.reports] == [bell.job_id]


async def test_two_who_replay_at_once_replay_once(stage: Stage) -> None:
    """Who comes second finds nothing left to replay."""
    number = await letter(stage, await submitted(stage))
    async with await psycopg.AsyncConnection.connect(stage.settings["DATABASE_URL"]) as other:
        await other.execute("SELECT FROM dead_letters WHERE id = %s FOR UPDATE", (number,))
        both = [asyncio.create_task(replay_all(stage)) for _ in range(2)]
        await waiting(stage, 2)
        await other.rollback()
        assert sorted([(await each)["replayed"] for each in both]) == [0, 1]


async def test_a_replay_of_what_is_over_changes_nothing(stage: Stage) -> None:
    """The letter of an event that came late: rung again, it finds that all is done."""
    order = await stage.until_running()
    number = await letter(stage, Doorbell(Type.JOB_SUBMITTED, order["job_id"], 1, ""))
    assert (await replay(stage, number)).status_code == 200
    before = await stage.job(order["job_id"])
    await stage.deliver_all()
    assert await stage.job(order["job_id"]) == before
    assert len(stage.worker.orders) == 1


async def test_a_letter_that_comes_back_is_open_again(stage: Stage) -> None:
    """Replayed and not handled again, it counts once more, and can be replayed once more."""
    bell = Doorbell(Type.JOB_FINISHED, (await submitted(stage)).job_id, 1, "")
    number = await letter(stage, bell, "notify")
    await replay(stage, number)
    headers = {"ce-knativeerrordest": "notify", "ce-knativeerrorcode": "500", "ce-specversion": "1.0"}
    headers |= {"ce-id": bell.id, "ce-source": SOURCE, "ce-type": bell.type.value}
    body = {"job_id": bell.job_id, "attempt": 1}
    assert (await stage.clients["reap_idle"].post("/", json=body, headers=headers)).status_code == 204
    (item,) = (await stage.call("monitor", "GET", "/dead-letters")).json()["items"]
    assert (item["id"], item["status"], item["times"]) == (number, "open", 2)
    assert (await stage.call("monitor", "GET", "/status")).json()["dead_letters"] == 1
    await stage.execute("DELETE FROM outbox")
    assert (await replay(stage, number)).json()["status"] == "replayed"
    assert len(await stage.outbox()) == 1


@pytest.mark.parametrize(
    ("attributes", "code", "word"),
    [
        ({"type": "something.else"}, "not_ours", "type"),
        ({"source": "/somebody"}, "not_ours", "source"),
        ({"id": "0" * 32}, "not_ours", "id"),
        ({"type": "rpa.job.finished.v1"}, "not_ours", "id"),
    ],
    ids=str,
)
async def test_what_is_not_ours_is_not_replayed(stage: Stage, attributes: dict[str, str], code: str, word: str) -> None:
    """Of a foreign type or forged: 409 that says why, alone and among others; nothing is rung."""
    number = await letter(stage, await submitted(stage), **attributes)
    async with unchanged(stage):
        problem = refusal(await replay(stage, number), 409)
        assert (problem["code"], word in problem["detail"]) == (code, True)
        assert await replay_all(stage) == {"replayed": 0, "more": False}
    (item,) = (await stage.call("monitor", "GET", "/dead-letters")).json()["items"]
    assert (item["status"], item["replayable"]) == ("open", False)


@pytest.mark.parametrize(
    "data",
    [None, "text", [1], {}, {"job_id": 1}, {"job_id": 10**30, "attempt": 1}, {"job_id": 1.5, "attempt": 1},
     {"job_id": "1; DROP TABLE jobs", "attempt": "x"}, {"job_id": [1], "attempt": {"a": 1}}],
    ids=str,
)  # fmt: skip
async def test_data_of_any_shape_is_listed_and_not_replayed(stage: Stage, data: Any) -> None:
    """It says that it is ours and names no job."""
    event = Jsonb({"attributes": {}, "data": data})
    (row,) = await stage.rows(KEEP, SOURCE, "0" * 32, Type.JOB_SUBMITTED.value, "d", event)
    refusal(await replay(stage, row["id"]), 409)
    (item,) = (await stage.call("monitor", "GET", "/dead-letters")).json()["items"]
    assert item["replayable"] is False


async def test_a_letter_of_a_job_that_is_gone_is_not_replayed(stage: Stage) -> None:
    """It would only come back: 409."""
    number = await letter(stage, Doorbell(Type.JOB_SUBMITTED, 10**15, 1, ""))
    assert refusal(await replay(stage, number), 409)["code"] == "unknown_job"


@pytest.mark.parametrize("number", ["1", str(2**63), "x", "-1", "9" * 30])
async def test_an_unknown_letter_is_404(stage: Stage, number: str) -> None:
    """Whatever its number; what is no number of ours is no path."""
    fields = ["id"] if number in ("1", str(2**63)) else []
    refusal(await stage.call("monitor", "GET", f"/dead-letters/{number}"), 404, *fields)
    refusal(await stage.call("monitor", "POST", f"/dead-letters/{number}:replay"), 404, *fields)


async def test_all_are_replayed_a_hundred_at_a_time(stage: Stage) -> None:
    """The oldest first, past letters that cannot be; the answer says how many and whether more are left."""
    bells = [await submitted(stage) for _ in range(130)]
    await letter(stage, bells[0], "foreign", type="something.else")
    for bell in bells:
        await letter(stage, bell)
    assert await replay_all(stage) == {"replayed": 100, "more": True}
    assert [bell.job_id for bell in await stage.outbox()] == [bell.job_id for bell in bells[:100]]
    assert await replay_all(stage) == {"replayed": 30, "more": False}
    assert await replay_all(stage) == {"replayed": 0, "more": False}
    assert len(await stage.outbox()) == 130


async def test_one_happening_at_two_places_rings_once(stage: Stage) -> None:
    """Both letters are replayed by the one event that both subscribers get."""
    bell = Doorbell(Type.JOB_FINISHED, (await submitted(stage)).job_id, 1, "")
    for place in ("notify", "provision_browser"):
        await letter(stage, bell, place)
    assert await replay_all(stage) == {"replayed": 2, "more": False}
    assert len(await stage.outbox()) == 1
