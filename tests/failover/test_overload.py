"""More is asked than can be done: what is taken is done, the rest is told when to come again, and then it is over."""

from __future__ import annotations

import itertools
import json
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import httpx
import psycopg
import pytest

from shared.migrate import migrate
from shared.tokens import Attempt
from tests.failover.offering import Answer, Request, Running, all_but_the_end, at_a_rate, one_after_another, running
from tests.failover.servers import Server, servers
from tests.functions.stage import PASSWORD, Ords, Worker, environment, keyring

pytestmark = pytest.mark.alone

TIMES = 5
SECONDS = 2
TRIES = 4
CALLERS = 2500
FILES = 8192
MIB = 1024 * 1024
LIMIT = 384 * MIB
"""What knative/base lets a function have."""
GROWTH = 128 * MIB
EVIDENCE_LIMIT = 10 * MIB
RUNNING = """
INSERT INTO jobs (content_digest, provider, action, parameters, priority, max_retries, traceparent, created_by, state,
    worker, claimed_at, lease_expires_at)
SELECT '', 'metrofiber', 'validation', '{}', 5, 3, '', 'test', 'running', 'w', now(), now() + interval '1 minute'
FROM generate_series(1, 500) RETURNING id
"""


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    """As many connections as this machine allows, here and in the functions."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, FILES)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def server() -> Iterator[Server]:
    """A database of its own."""
    with tempfile.TemporaryDirectory(prefix="rpa-test-overload-") as folder, servers(Path(folder), "alone") as (alone,):
        alone.create()
        alone.start()
        alone.execute("CREATE DATABASE rpa")
        migrate(alone.url())
        yield alone


@pytest.fixture
def settings(server: Server, valkey_settings: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Without a limit for each caller, which would stop these callers first."""
    workers, ords = Worker("http://worker"), Ords("http://ords")
    every = environment(server.url(), valkey_settings, tmp_path / "providers", workers, ords)
    return {**every, "RATE_LIMIT_PER_MINUTE": "1000000000"}


async def overload(function: Running, requests: Iterator[Request]) -> list[Answer]:
    """Ask five times what it can take, and see that it stays well; every answer since the beginning."""
    before = await one_after_another(function.url, requests, callers=1, seconds=1)
    began = time.monotonic()
    taken = await one_after_another(function.url, requests, callers=16, seconds=2)
    can_take = len(taken) / (time.monotonic() - began)
    memory = function.memory

    rate = TIMES * can_take
    answers = await really_at_a_rate(function, requests, rate)
    grown = function.most_memory - memory
    afterwards = await one_after_another(function.url, requests, callers=1, seconds=0.2)

    refused = [answer for answer in answers if answer.status in (429, 503)]
    assert [answer for answer in refused if not told_when(answer)] == []
    assert "busy" in {json.loads(answer.body)["code"] for answer in refused}
    assert grown < GROWTH
    assert function.most_memory < LIMIT
    assert {answer.status for answer in (*before, *afterwards)} <= {200, 201}
    assert afterwards[0].seconds < 5 * max(answer.seconds for answer in before)
    return [*before, *taken, *answers, *afterwards]


async def really_at_a_rate(function: Running, requests: Iterator[Request], rate: float) -> list[Answer]:
    """What so many a second are answered; once more where this machine was too busy to ask so much."""
    every: list[Answer] = []
    for _ in range(TRIES):
        answers = await at_a_rate(function.url, requests, rate=rate, seconds=SECONDS, callers=CALLERS)
        every += answers
        first = min(answer.sent for answer in answers)
        in_time = sum(answer.sent < first + 1.25 * SECONDS for answer in answers)
        if in_time >= 0.9 * rate * SECONDS:
            return every
    pytest.fail(f"of {rate * SECONDS:.0f} requests {in_time} were sent in time")


def told_when(answer: Answer) -> bool:
    """Whether a refusal says what is wrong, and when to come again."""
    problem = answer.headers["content-type"] == "application/problem+json"
    return problem and int(answer.headers["retry-after"]) > 0 and bool(json.loads(answer.body)["detail"])


def ids(answers: Sequence[Answer], status: int) -> list[str]:
    """The external ids of the submissions that were answered so."""
    return sorted(json.loads(a.request.body)["external_job_id"] for a in answers if a.status == status)


async def test_five_times_the_submissions(server: Server, settings: dict[str, str], tmp_path: Path) -> None:
    """201 or 503 with Retry-After; what was taken is there once with its event, what was refused is not."""
    async with running("submit_job", settings, tmp_path / "log") as function:
        async with httpx.AsyncClient(base_url=function.url) as http:
            form = {"grant_type": "password", "username": "admin", "password": PASSWORD}
            token = (await http.post("/auth/token", data=form)).json()["access_token"]
        job = {"provider": "metrofiber", "action": "validation"}
        bodies = (json.dumps({**job, "external_job_id": f"J-{n}"}).encode() for n in itertools.count())
        answers = await overload(function, (Request("/jobs", token, body) for body in bodies))
    assert {answer.status for answer in answers} <= {201, 429, 503}
    with psycopg.connect(server.url()) as connection:
        jobs = connection.execute(
            "SELECT external_job_id FROM jobs JOIN outbox ON job_id = id JOIN history USING (job_id)"
        ).fetchall()
    assert sorted(name for (name,) in jobs) == ids(answers, 201)


async def test_five_times_the_heartbeats(server: Server, settings: dict[str, str], tmp_path: Path) -> None:
    """200 or 503 with Retry-After, and no worker loses its job by it."""
    with psycopg.connect(server.url()) as connection:
        running_jobs = [job_id for (job_id,) in connection.execute(RUNNING)]
    keys = keyring()
    tokens = [keys.issue_worker(Attempt(job_id, 1, "metrofiber"), timedelta(hours=1)) for job_id in running_jobs]
    beats = itertools.cycle(
        Request("/callbacks/heartbeat", token, json.dumps({"job_id": job_id, "attempt": 1}).encode())
        for job_id, token in zip(running_jobs, tokens, strict=True)
    )
    async with running("callback", settings, tmp_path / "log") as function:
        answers = await overload(function, beats)
    assert {answer.status for answer in answers} <= {200, 429, 503}
    with psycopg.connect(server.url()) as connection:
        row = connection.execute("SELECT count(*) FROM jobs WHERE state = 'running'").fetchone()
    assert row == (len(running_jobs),)


async def test_many_large_files_at_once(server: Server, settings: dict[str, str], tmp_path: Path) -> None:
    """Evidence of 10 MiB from forty workers at once: each is kept or told to come again, in the memory of a pod."""
    with psycopg.connect(server.url()) as connection:
        job_ids = [job_id for (job_id,) in connection.execute(RUNNING)]
    keys = keyring()
    uploads = [
        Request(
            "/callbacks/evidence/video.bin",
            keys.issue_worker(Attempt(job_id, 1, "metrofiber"), timedelta(hours=1)),
            b"x" * EVIDENCE_LIMIT,
            "PUT",
        )
        for job_id in job_ids[:40]
    ]
    async with running("callback", settings, tmp_path / "log") as function:
        answers = await all_but_the_end(function.url, uploads, seconds=3)
        assert function.most_memory < LIMIT
    assert {answer.status for answer in answers} <= {201, 503}
    assert [answer for answer in answers if answer.status == 503 and not told_when(answer)] == []
    with psycopg.connect(server.url()) as connection:
        row = connection.execute("SELECT count(*) FROM evidence WHERE length(content) = size").fetchone()
    assert row == (sum(answer.status == 201 for answer in answers),)
