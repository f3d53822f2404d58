"""Events of a stranger inside the cluster: whoever may post them, they start, end and redirect nothing."""

from __future__ import annotations

import asyncio
import io
import json
import random
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from shared import dead_letters
from shared.events import PING, Type
from tests.functions.stage import Stage, open_stage
from tests.intruders.doors import EVENTS
from tests.serving import eventually, serving

TYPES = [*Type, PING, "something.else"]


async def post(stage: Stage, function: str, **members: Any) -> httpx.Response:
    """A stranger posts an event."""
    event = {"specversion": "1.0", "id": "forged", "source": "/stranger", **members}
    headers = {"Content-Type": "application/cloudevents+json"}
    return await stage.clients[function].post("/", content=json.dumps(event).encode(), headers=headers)


async def jobs_that_wait(stage: Stage) -> list[int]:
    """One job in every state in which nothing is due."""
    running = await stage.until_running(provider="octotel")
    done = await stage.until_running()
    await stage.complete(done)
    await stage.deliver_all()
    cancelled = await stage.submit()
    await stage.call("submit_job", "DELETE", f"/jobs/{cancelled['id']}")
    await stage.deliver_all()
    stage.ords.status = 500
    unreported = await stage.until_running()
    await stage.complete(unreported)
    await stage.deliver_all()
    await stage.execute("UPDATE jobs SET report_due = now() + interval '1 day' WHERE id = %s", unreported["job_id"])
    stage.worker.available = False
    undispatched = await stage.submit(provider="octotel")
    await stage.deliver_all()
    later = await stage.submit(run_after="2990-01-01T00:00:00Z")
    full = await stage.submit(provider="octotel")
    await stage.deliver_all()
    states = [row["state"] for row in await stage.rows("SELECT state FROM jobs ORDER BY id")]
    assert states == ["running", "completed", "cancelled", "completed", "dispatching", "pending", "pending"]
    orders = [running["job_id"], done["job_id"], unreported["job_id"]]
    return [*orders, cancelled["id"], undispatched["id"], later["id"], full["id"]]


@pytest.fixture
async def waiting(stage: Stage) -> list[int]:
    """The jobs that any event finds."""
    return await jobs_that_wait(stage)


ids = st.one_of(st.integers(0, 6), st.integers(-1, 2**64), st.none(), st.text(max_size=3))


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    function=st.sampled_from(sorted(EVENTS)),
    kind=st.sampled_from(TYPES),
    job=ids,
    attempt=st.integers(-1, 4) | st.none(),
    more=st.dictionaries(st.sampled_from(["worker", "address", "state", "totp_url"]), st.just("http://127.0.0.1:9")),
    extensions=st.dictionaries(st.sampled_from(["knativeerrordest", "traceparent", "subject"]), st.text(max_size=9)),
)
async def test_no_event_does_anything_but_look(
    stage: Stage,
    waiting: list[int],
    function: str,
    kind: str,
    job: Any,
    attempt: Any,
    more: dict[str, str],
    extensions: dict[str, str],
) -> None:
    """Any event for any job in any state, where nothing is due: done, refused or put off, and nothing is other."""
    await stage.execute("DELETE FROM dead_letters")
    seen, before = stage.outside(), await stage.contents()
    job_id = waiting[job] if isinstance(job, int) and 0 <= job < len(waiting) else job
    answer = await post(stage, function, type=kind, data={"job_id": job_id, "attempt": attempt, **more}, **extensions)
    assert answer.status_code in (204, 422, 503), answer.text
    await stage.execute("DELETE FROM dead_letters")
    assert (stage.outside(), await stage.contents()) == (seen, before)


async def test_a_flood_does_what_is_due_once(stage: Stage) -> None:
    """Sixty events at once for a job that is due: one browser, one order; the end alone is the worker's to tell."""
    job = await stage.submit()
    data = {"job_id": job["id"], "attempt": 1}
    calls = [(f, t) for f in ("provision_browser", "dispatch_job", "notify") for t in Type] * 7
    random.Random(7).shuffle(calls)

    async def flood() -> None:
        await asyncio.gather(*(post(stage, f, type=t, id=f"e-{n}", data=data) for n, (f, t) in enumerate(calls)))

    await flood()
    await flood()  # its browser is ready now
    await stage.deliver_all()
    await flood()
    assert {spec.name for spec in stage.place.created} == set(stage.place.browsers)
    assert len(stage.place.browsers) == len(stage.worker.offered) == 1
    found = await stage.job(job["id"])
    assert (found["status"], found["attempt"]) == ("running", 1)
    assert [entry["event"] for entry in found["history"]] == ["submitted", "claimed", "browser_ready", "accepted"]
    assert stage.ords.keys == []
    await stage.complete(stage.worker.orders[0])
    await flood()
    assert len(stage.ords.reports) == 1


async def test_a_flood_while_a_browser_starts_makes_one(stage: Stage) -> None:
    """Whoever joins in bringing it up brings up the same one, and the attempt goes on once."""
    job = await stage.submit()
    data = {"job_id": job["id"], "attempt": 1}
    stage.place.has_time.clear()
    flood = asyncio.gather(
        *(post(stage, "provision_browser", type=Type.JOB_SUBMITTED, id=f"e-{n}", data=data) for n in range(12))
    )
    await eventually(lambda: stage.place.created)
    stage.place.has_time.set()
    assert {answer.status_code for answer in await flood} == {204}
    assert len(stage.place.browsers) == 1
    found = await stage.job(job["id"])
    assert [entry["event"] for entry in found["history"]] == ["submitted", "claimed", "browser_ready"]


async def test_a_flood_does_not_keep_a_browser_waiting(stage: Stage) -> None:
    """Each event asks a worker that refuses, and none gives the browser that waits more time."""
    stage.worker.execute_status = 429
    job = await stage.submit()
    await stage.deliver_all()
    data = {"job_id": job["id"], "attempt": 1}
    before = await stage.rows("SELECT state, attempt, worker, lease_expires_at FROM jobs")
    for n in range(5):
        answer = await post(stage, "dispatch_job", type=Type.BROWSER_READY, id=f"e-{n}", data=data)
        assert answer.status_code == 503
    assert len(stage.worker.offered) == 6
    assert await stage.rows("SELECT state, attempt, worker, lease_expires_at FROM jobs") == before


# Dead letters


async def test_strangers_have_room_for_a_thousand_dead_letters(stage: Stage) -> None:
    """However many come, the newest are kept and the table does not grow."""
    await stage.execute(
        "INSERT INTO dead_letters (event_source, event_id, event_type, destination, reason, event)"
        " SELECT '/s', 'e-' || n, 't', 'd', 'r', '{}' FROM generate_series(0, %s) n",
        dead_letters.ROWS - 1,
    )
    for n in range(dead_letters.ROWS, dead_letters.ROWS + 20):
        assert (await post(stage, "notify", type="something.else", id=f"e-{n}")).status_code == 422
    rows = await stage.rows("SELECT event_id FROM dead_letters ORDER BY id")
    assert [row["event_id"] for row in rows] == [f"e-{n}" for n in range(20, dead_letters.ROWS + 20)]


async def test_repeating_an_event_drops_none_of_the_others(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repetition counts, and takes no room."""
    monkeypatch.setattr(dead_letters, "ROWS", 5)
    for n in range(5):
        await post(stage, "notify", type="something.else", id=f"e-{n}")
    for _ in range(20):
        await post(stage, "notify", type="something.else", id="e-4")
    rows = await stage.rows("SELECT event_id, times FROM dead_letters ORDER BY id")
    assert [(row["event_id"], row["times"]) for row in rows] == [(f"e-{n}", 21 if n == 4 else 1) for n in range(5)]


async def test_dropping_waits_for_nobody(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody else holds is left to the next one, and then dropped."""
    monkeypatch.setattr(dead_letters, "ROWS", 1)
    await post(stage, "notify", type="something.else", id="e-0")
    async with await psycopg.AsyncConnection.connect(stage.settings["DATABASE_URL"]) as other:
        await other.execute("SELECT FROM dead_letters FOR UPDATE")
        assert (await post(stage, "notify", type="something.else", id="e-1")).status_code == 422
        assert len(await stage.rows("SELECT FROM dead_letters")) == 2
    assert (await post(stage, "notify", type="something.else", id="e-2")).status_code == 422
    assert await stage.rows("SELECT event_id FROM dead_letters") == [{"event_id": "e-2"}]


async def test_letters_at_once_are_all_answered(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeping and dropping do not wait for each other in a circle."""
    monkeypatch.setattr(dead_letters, "ROWS", 5)
    for _ in range(4):  # at once no more than can be answered before they have waited too long for a connection
        posts = [post(stage, "notify", type="something.else", id=f"e-{n % 20}") for n in range(60)]
        assert {answer.status_code for answer in await asyncio.gather(*posts)} == {422}
    assert len(await stage.rows("SELECT FROM dead_letters")) <= 5 + 4  # as many as the pool has connections, in flight


@pytest.mark.parametrize("function", ["notify", "reap_idle"])
async def test_of_a_large_event_a_part_is_kept(stage: Stage, function: str, written: io.StringIO) -> None:
    """Headers have no bound of ours: the row has one, and a line of the log."""
    large = {"ce-extra": "x" * 300_000, "ce-type": "t" * 100_000, "ce-knativeerrorcode": "9" * 100_000}
    headers = {"ce-id": "e-1", "ce-source": "/s", "ce-specversion": "1.0", "content-type": "application/json", **large}
    headers |= {"ce-knativeerrordest": "d" * 100_000} if function == "reap_idle" else {}
    assert (await stage.clients[function].post("/", content=b"{}", headers=headers)).status_code in (204, 422)
    rows = await stage.rows("SELECT octet_length(d::text) AS size, event ->> 'cut_off' AS part FROM dead_letters d")
    assert [row["size"] < 20_000 for row in rows] == [True]
    assert rows[0]["part"].startswith('{"attributes"')
    assert max(map(len, written.getvalue().splitlines())) < 2000


async def test_a_forged_dead_letter_does_nothing_when_replayed(stage: Stage) -> None:
    """An operator who sends it again sends an event of a stranger's: it only looks."""
    for job_id in await jobs_that_wait(stage):
        for kind in Type:
            data = {"job_id": job_id, "attempt": 1, "worker": "http://127.0.0.1:9"}
            extensions = {"knativeerrordest": "http://dispatch-job", "knativeerrorcode": "500"}
            answer = await post(stage, "reap_idle", type=kind, id=f"{kind}-{job_id}", data=data, **extensions)
            assert answer.status_code == 204
    letters = await stage.rows("SELECT event FROM dead_letters")
    assert len(letters) == 21
    seen, before = stage.outside(), await stage.contents()
    for letter in letters:
        for function in EVENTS:
            await post(stage, function, **letter["event"]["attributes"], data=letter["event"]["data"])
    after = await stage.contents()
    del before["dead_letters"], after["dead_letters"]
    assert (stage.outside(), after) == (seen, before)


# Ticks


async def test_a_flood_of_ticks_is_two_rounds(stage: Stage, written: io.StringIO) -> None:
    """One that runs, and one for all who came meanwhile; what is late is reaped once."""
    await stage.until_running(max_retries=1)
    await stage.execute("UPDATE jobs SET lease_expires_at = now() - interval '1 s'")
    answers = await asyncio.gather(*(post(stage, "reap_idle", type=PING, id=f"e-{n}") for n in range(40)))
    assert {answer.status_code for answer in answers} == {204}
    rounds = [line for line in written.getvalue().splitlines() if '"event": "reaped"' in line]
    assert 1 <= len(rounds) <= 2
    assert len(await stage.rows("SELECT FROM history WHERE event = 'attempt_failed'")) == 1


async def test_a_flood_of_ticks_is_few_health_reports(
    database_url: str, valkey_settings: dict[str, str], tmp_path: Path
) -> None:
    """Oracle hears six times a minute at most, whoever ticks."""
    heard = 0

    async def report(_request: Request) -> Response:
        nonlocal heard
        heard += 1
        return Response()

    async with serving(Starlette(routes=[Route("/health", report, methods=["POST"])])) as url:
        settings = {"HEALTH_REPORT_ENABLED": "true", "HEALTH_REPORT_ENDPOINT": f"{url}/health"}
        async with open_stage(database_url, valkey_settings, tmp_path / "p", **settings) as stage:
            answers = [await post(stage, "monitor", type=PING, id=f"e-{n}") for n in range(20)]
    assert {answer.status_code for answer in answers} == {204}
    assert heard == 6
