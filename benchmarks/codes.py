"""Login codes: how fast where time steps do not limit, and whether any is wasted where they do."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import LiteralString

import httpx
import psycopg
from pydantic import SecretStr

from benchmarks.figures import Comparison, Sample, compare, in_turns, pace
from benchmarks.load import Load, put_on
from local.readiness import ready
from local.serving import listen, url
from local.system import LocalSystem
from shared.config import TokenSettings
from shared.tokens import Attempt, Keyring

ATTEMPTS = 5000
"""Each may ask 60 times a minute."""
ACCOUNTS = 1000
STEP_SECONDS = 0.25
"""Of these accounts, so that together they have more steps than anybody can ask for."""
CALLERS = (1, 32)
ROUNDS = 5
SECONDS = 1
UNITS = {"rate": "codes/s", "p50": "ms", "p95": "ms", "p99": "ms"}
LEAST = "a function that does one EVAL and one INSERT"

WAITING = 6
QUEUE_ROUNDS = 3
QUEUE_STEP_SECONDS = 1.0

PLAIN = {"actions": ["validation"], "browser": False, "totp": "on_request"}
MANY = [f"MANY_{n}" for n in range(ACCOUNTS)]
PROVIDERS = {
    "many": PLAIN
    | {"totp_period": STEP_SECONDS, "accounts": [{"credentials": name, "max_sessions": 100} for name in MANY]},
    "one": PLAIN | {"totp_period": QUEUE_STEP_SECONDS, "accounts": [{"credentials": "ONE"}]},
}
OVERRIDES = {
    # The least validity would make every second caller wait for the next of such short steps.
    "rpa-config": {"TOTP_MIN_VALIDITY": "0"},
    "rpa-providers": {f"{name}.yaml": json.dumps(entry) for name, entry in PROVIDERS.items()},
}

# Jobs that a worker has, each bound to one of the accounts in turn.
RUNNING: LiteralString = """
INSERT INTO jobs (content_digest, provider, action, parameters, priority, max_retries, traceparent, created_by, state,
    account, worker, claimed_at, lease_expires_at)
SELECT '', %(provider)s, 'validation', '{}', 5, 0, '', 'benchmark', 'running',
    (%(accounts)s::text[])[mod(n, cardinality(%(accounts)s)) + 1], 'nobody', now(), now() + interval '1 hour'
FROM generate_series(1, %(jobs)s) n
RETURNING id
"""


async def measure(folder: Path) -> list[Comparison]:
    """Many accounts, then callers in a queue for one."""
    async with LocalSystem(folder, overrides=OVERRIDES, ticks=False) as system, _reference(system) as least:
        figures = await _many(system, _tokens(system, "many", MANY, ATTEMPTS), least)
        one = _tokens(system, "one", ["ONE"], WAITING)
        return [*figures, await _queue(f"{system.env['TOTP_URL']}/totp/one", one)]


def _tokens(system: LocalSystem, provider: str, accounts: Sequence[str], jobs: int) -> Sequence[str]:
    """What the workers of that many jobs have."""
    key = SecretStr(system.children["issue-totp"].program.environment["JWT_SECRET_KEY"])
    keyring = Keyring(TokenSettings(environment={}, jwt_secret_key=key))
    with psycopg.connect(system.env["DATABASE_URL"], autocommit=True) as connection:
        values = {"provider": provider, "accounts": list(accounts), "jobs": jobs}
        ids = [row[0] for row in connection.execute(RUNNING, values)]
        connection.execute("ANALYZE jobs")  # as PostgreSQL does by itself within a minute
    return [keyring.issue_worker(Attempt(job_id, 1, provider), timedelta(hours=1)) for job_id in ids]


@contextlib.asynccontextmanager
async def _reference(system: LocalSystem) -> AsyncIterator[str]:
    """The address of the function that codes are compared with, run as issue_totp is."""
    with psycopg.connect(system.env["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("CREATE TABLE reference_steps (step bigint PRIMARY KEY)")
    with listen() as listener:
        model = system.children["issue-totp"].program
        target = {"FUNCTION_TARGET": "reference", "FUNCTION_SOURCE": str(Path(__file__).with_name("reference.py"))}
        program = dataclasses.replace(
            model,
            name="reference",
            argv=[word if not word.startswith("--fd=") else f"--fd={listener.fileno()}" for word in model.argv],
            environment={**model.environment, **target},
            log=model.log.with_name("reference.log"),
            pass_fds=[listener.fileno()],
        )
        await system.children.start(program)
        await ready({"reference": url(listener)}, system.children)
        yield url(listener)


async def _many(system: LocalSystem, tokens: Sequence[str], least: str) -> list[Comparison]:
    figures, given = list[Comparison](), 0
    for callers in CALLERS:
        load = Load(f"{system.env['TOTP_URL']}/totp/many", "{}", tokens, callers, SECONDS)

        async def ours(load: Load = load) -> Sample:
            nonlocal given
            answered = await put_on(load)
            given += len(answered.milliseconds)
            return pace(answered.milliseconds, answered.seconds)

        async def theirs(load: Load = load) -> Sample:
            answered = await put_on(dataclasses.replace(load, url=f"{least}/code"))
            return pace(answered.milliseconds, answered.seconds)

        figures += compare(f"POST /totp, {callers} at once", LEAST, UNITS, await in_turns(ROUNDS, ours, theirs))
    _check(system.env["DATABASE_URL"], given)
    return figures


def _check(database_url: str, given: int) -> None:
    """Every answer was a code of its own. Raises RuntimeError."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT count(*) FROM totp_steps").fetchone()
    if row != (given,):
        raise RuntimeError(f"{given} answers, {row} codes in the ledger: some were repeated")


async def _queue(url: str, tokens: Sequence[str]) -> Comparison:
    """How many of the account's steps were used while somebody waited for one."""
    rounds = [await _wait_together(url, tokens) for _ in range(QUEUE_ROUNDS)]
    title = f"{len(tokens)} wait for one account"
    return Comparison(title, "steps used", "steps", "steps that passed meanwhile", rounds)


async def _wait_together(url: str, tokens: Sequence[str]) -> tuple[float, float]:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        calls = [http.post(url, json={}, headers={"Authorization": f"Bearer {token}"}) for token in tokens]
        answers = [answer.raise_for_status().json() for answer in await asyncio.gather(*calls)]
    ends = [datetime.fromisoformat(answer["expires_at"]).timestamp() for answer in answers]
    return len(set(ends)), (max(ends) - min(ends)) / QUEUE_STEP_SECONDS + 1
