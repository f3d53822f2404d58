"""Jobs end to end: the real functions, broker, stores, browsers and demo worker, wired by the manifests."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from demo.api import TERMINAL, Api
from local.process import MARK
from local.sweeping import browser_processes
from local.system import LocalSystem
from tests.serving import eventually

JOBS_SECONDS = 100.0


class Told:
    """What a system was asked to do, and what became of it."""

    def __init__(self, system: LocalSystem, jobs: dict[str, dict[str, Any]], inbox: list[dict[str, Any]]) -> None:
        self.system, self.jobs, self.inbox = system, jobs, inbox


def wish(provider: str, circuit: str, **more: object) -> dict[str, Any]:
    return {"provider": provider, "action": "validation", "parameters": {"circuit": circuit, **more}, "max_retries": 2}


WISHES = {
    "dies once": wish("openserve", "OPS-1", demo="die_once"),
    "with a login code": wish("octotel", "OCT-1"),
    "refused by the portal": wish("metrofiber", "UNKNOWN-1"),
}


@pytest.fixture(scope="module")
async def told() -> AsyncIterator[Told]:
    """A system that has done its jobs, and still runs."""
    with tempfile.TemporaryDirectory(prefix="rpa-test-chain-") as folder:
        system = LocalSystem(
            Path(folder),
            overrides={"rpa-config": {"HEARTBEAT_TIMEOUT": "4", "RETRY_BACKOFF": "0.5"}},
            schedules={"reap-idle": "* * * * * *"},
        )
        async with system, httpx.AsyncClient(base_url=system.env["SUBMIT_URL"], trust_env=False, timeout=30) as http:
            api = Api(http)
            await api.log_in(system.env["ADMIN_USERNAME"], system.env["ADMIN_PASSWORD"])
            jobs = {}
            async with asyncio.timeout(JOBS_SECONDS):
                # One after the other: a worker that dies takes everything with it.
                for title, request in WISHES.items():
                    _, job = await api.submit(request)
                    jobs[title] = await _ended(api, job["id"])
            inbox = (await http.get(system.env["ORDS_INBOX_URL"])).json()["items"]
            yield Told(system, jobs, inbox)


async def _ended(api: Api, job_id: int) -> dict[str, Any]:
    while True:
        job = await api.job(job_id)
        if job["status"] in TERMINAL and job["reported_at"]:
            return job
        await asyncio.sleep(0.1)


async def test_a_job_is_done_with_a_login_code(told: Told) -> None:
    """At the first attempt, with the portal's reference as its result."""
    job = told.jobs["with a login code"]
    assert (job["status"], job["attempt"]) == ("completed", 1)
    assert job["result"]["circuit"] == "OCT-1"
    assert "totp_issued" in [entry["event"] for entry in job["history"]]


async def test_a_refusal_is_not_tried_again(told: Told) -> None:
    """The portal says no."""
    job = told.jobs["refused by the portal"]
    assert (job["status"], job["attempt"], job["error"]["kind"]) == ("failed", 1, "business")


async def test_a_worker_that_dies_is_started_again_and_its_job_too(told: Told) -> None:
    """With a second attempt."""
    job = told.jobs["dies once"]
    assert (job["status"], job["attempt"]) == ("completed", 2)
    assert told.system.children["worker"].starts == 2


async def test_ords_hears_of_each_job_once(told: Told) -> None:
    """What became of it."""
    reports = {report["body"]["job_id"]: report["body"]["status"] for report in told.inbox}
    assert reports == {job["id"]: job["status"] for job in told.jobs.values()}
    assert len(told.inbox) == len(told.jobs)


async def test_no_browser_is_left(told: Told) -> None:
    """A browser lives as long as its attempt."""
    await eventually(lambda: not list(browser_processes(told.system.state)))


async def test_every_event_could_be_handled(told: Told) -> None:
    """There is no dead letter."""
    async with await psycopg.AsyncConnection.connect(told.system.env["DATABASE_URL"]) as database:
        letters = await (await database.execute("SELECT count(*) FROM dead_letters")).fetchone()
        assert letters == (0,)


async def test_no_secret_is_logged(told: Told) -> None:
    """Not one of the system's passwords, keys, tokens and seeds stands in a log."""
    secrets = json.loads((told.system.state / "secrets.json").read_text())
    assert len(secrets) > 6
    for log in (told.system.state / "log").glob("*.log"):
        text = log.read_text(errors="replace")
        assert [name for name, value in secrets.items() if value in text] == [], log.name


async def test_every_process_has_the_mark(told: Told) -> None:
    """So that `down` finds it."""
    for name in ("submit-job", "worker", "portal", "ords", "browser-node", "postgres", "valkey"):
        environment = psutil.Process(told.system.children[name].pid).environ()
        assert environment.get(MARK) == str(told.system.state), name
