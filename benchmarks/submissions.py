"""Submissions over HTTP, beside the same statements to the same server from pgbench."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg

from benchmarks import pgbench
from benchmarks.figures import Comparison, Sample, compare, in_turns, pace
from benchmarks.load import Load, put_on
from benchmarks.worker import operator
from functions.submit_job.models import JobRequest
from local.system import LocalSystem

MANIFESTS = Path(__file__).with_name("manifests")
CALLERS = (1, 8, 32)
BATCH = 10
ROUNDS = 5
SECONDS = 1
UNITS = {"rate": "jobs/s", "p50": "ms", "p95": "ms", "p99": "ms"}
UNLIMITED = {"rpa-config": {"RATE_LIMIT_PER_MINUTE": "1000000"}}
JOB = JobRequest.model_validate(
    {
        "provider": "metrofiber",
        "action": "validation",
        "parameters": {"circuit": "MF-20311", "customer": "Thandi Nkosi", "address": "12 Long Street, Cape Town"},
    }
)


async def measure(folder: Path) -> list[Comparison]:
    """Single jobs and batches, from one caller and from many."""
    async with (
        LocalSystem(folder, manifests=MANIFESTS, overrides=UNLIMITED, ticks=False) as system,
        operator(system) as http,
    ):
        reference = pgbench.make_database(system.env["DATABASE_URL"], BATCH)
        token = http.headers["authorization"].removeprefix("Bearer ")
        figures = []
        for batch in (1, BATCH):
            for callers in CALLERS:
                figures += await _compare(system.env["SUBMIT_URL"], token, reference, batch, callers)
        for url in (system.env["DATABASE_URL"], reference):
            check(url)
    return figures


async def _compare(base: str, token: str, reference: str, batch: int, callers: int) -> list[Comparison]:
    path = "/jobs:batch" if batch > 1 else "/jobs"
    load = Load(base + path, _body(batch), [token], callers, SECONDS)

    async def ours() -> Sample:
        answered = await put_on(load)
        return pace(answered.milliseconds, answered.seconds, batch)

    async def theirs() -> Sample:
        return await pgbench.run(reference, JOB, batch, callers, SECONDS)

    rounds = await in_turns(ROUNDS, ours, theirs)
    title = f"POST {path}" + (f" of {batch}" if batch > 1 else "")
    return compare(f"{title}, {callers} at once", "pgbench", UNITS, rounds)


def _body(batch: int) -> str:
    job = JOB.model_dump(mode="json", exclude_unset=True)
    return json.dumps({"jobs": [job] * batch} if batch > 1 else job)


def check(database_url: str) -> None:
    """Every job has its history, and hardly an event had to stay in the outbox. Raises RuntimeError."""
    counts = "SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM history), (SELECT count(*) FROM outbox)"
    with psycopg.connect(database_url) as connection:
        jobs, history, outbox = connection.execute(counts).fetchone() or (0, 0, 0)
    if jobs != history or outbox > jobs / 100:
        raise RuntimeError(f"{jobs} jobs, {history} of history, {outbox} events unsent: not what submissions leave")
