"""The whole demo on the real system: functions, broker, stores, browsers and portals, wired by the manifests.

One run serves all tests of this module: they read what it left.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import psycopg
import pyotp
import pytest
import valkey.asyncio as client
from rich.console import Console

from demo.cases import CASES
from demo.checks import Run, all_checks
from demo.footprint import Footprint
from demo.play import play
from local.delivery import read
from local.process import MARK
from local.sweeping import browser_processes
from local.system import LocalSystem
from shared.config import TokenSettings
from shared.tokens import Keyring
from tests.docs.documents import commands
from tests.serving import eventually

JWT = re.compile(r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}")
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
PNG = b"\x89PNG\r\n\x1a\n"

pytestmark = pytest.mark.timeout(240)


@dataclass
class Done:
    """A system that has done the demo's jobs, and still runs."""

    system: LocalSystem
    run: Run
    footprint: Footprint
    evidence: Path
    events: str
    """Every event that the broker took, headers and body."""


@pytest.fixture(scope="module")
async def done() -> AsyncIterator[Done]:
    """One run of the demo."""
    footprint, events = Footprint(), []
    taken = read

    def recorded(headers: dict[str, str], body: bytes) -> Any:
        events.append(f"{headers} {body!r}")
        return taken(headers, body)

    with tempfile.TemporaryDirectory(prefix="rpa-test-demo-") as folder, patch("local.broker.read", recorded):
        system = LocalSystem(Path(folder) / "state")
        evidence = Path(folder) / "evidence"
        async with system:
            run = await play(system.env, Console(file=sys.stderr, width=118), footprint, evidence)
            yield Done(system, run, footprint, evidence, "\n".join(events))


async def test_every_promise_is_kept(done: Done) -> None:
    """Each job of the demo ended as it should, once, with its evidence; what the demo itself checks."""
    await eventually(lambda: not list(browser_processes(done.system.state)))
    checks = all_checks(done.run, done.evidence, done.footprint.left(), len(done.footprint))
    assert [(check.promise, list(check.problems)) for check in checks if not check.ok] == []
    assert len(done.run.cases) == len(CASES) + 1 >= 12


async def test_a_job_is_submitted_by_curl(done: Done) -> None:
    """Its three commands sign in, submit a job and find it."""
    script = commands("docs/reference/http-api.md", ". .local/env")
    script = script.replace(".local/env", str(done.system.state / "env"))
    shell = await asyncio.create_subprocess_exec("bash", "-euc", script, stdout=-1, stderr=-1)
    said, problems = await shell.communicate()
    assert (shell.returncode, problems) == (0, b"")
    assert said.count(b'"external_job_id":"A-1"') == 2


async def test_a_worker_that_dies_is_started_again_and_its_job_too(done: Done) -> None:
    """With a second attempt."""
    first = done.run.jobs[next(iter(done.run.cases))]
    assert (first["status"], first["attempt"]) == ("completed", 2)
    assert done.system.children["worker"].starts == 2


async def test_every_event_could_be_handled(done: Done) -> None:
    """There is no dead letter."""
    async with await psycopg.AsyncConnection.connect(done.system.env["DATABASE_URL"]) as database:
        letters = await (await database.execute("SELECT count(*) FROM dead_letters")).fetchone()
    assert letters == (0,)


async def test_every_process_has_the_mark(done: Done) -> None:
    """So that `down` finds it."""
    for name in ("submit-job", "worker", "portal", "ords", "browser-node", "postgres", "valkey"):
        environment = psutil.Process(done.system.children[name].pid).environ()
        assert environment.get(MARK) == str(done.system.state), name


async def test_no_secret_is_anywhere(done: Done) -> None:
    """Logs, events, database and Valkey hold no password, seed, key, login code, token or secret path."""
    places = {"events": done.events, "database": await _database(done), "Valkey": await _valkey(done)}
    places |= {log.name: log.read_text(errors="replace") for log in (done.system.state / "log").glob("*.log")}
    assert done.events.count("rpa.job.submitted.v1") >= len(CASES)
    assert "octotel" in places["database"]
    assert "rpa:totp:" in places["Valkey"]
    assert '"event": "totp issued"' in places["issue-totp.log"]
    wanted = await _secrets(done)
    assert len(wanted["login code"]) >= 2
    found = [
        (place, kind)
        for place, text in places.items()
        for kind, secrets in wanted.items()
        for secret in secrets
        if _holds(text, secret)
    ]
    assert found == []
    assert [place for place, text in places.items() if JWT.search(text)] == []


def _holds(text: str, secret: str) -> bool:
    """As a word of its own: six digits may well stand in a longer number."""
    return re.search(rf"(?<![\w.]){re.escape(secret)}(?!\w)", text) is not None


async def _secrets(done: Done) -> dict[str, Iterable[str]]:
    known = json.loads((done.system.state / "secrets.json").read_text())
    keyring = Keyring(TokenSettings(environment={}, jwt_secret_key=known["jwt_key"]))
    jobs = done.run.jobs.values()
    browsers = [f"rpa-browser-{job['id']}-{attempt + 1}" for job in jobs for attempt in range(job["attempt"])]
    async with await psycopg.AsyncConnection.connect(done.system.env["DATABASE_URL"]) as database:
        steps = await (await database.execute("SELECT account, step FROM totp_steps")).fetchall()
    codes = [pyotp.TOTP(known[f"{account.lower()}_seed"]).generate_otp(step) for account, step in steps]
    return {
        **{name: [value] for name, value in known.items()},
        "login code": codes,
        "secret path": [keyring.browser_path(name, keyring.current).strip("/") for name in browsers],
    }


async def _database(done: Done) -> str:
    """Every row of every table, as text; evidence as its bytes are."""
    async with await psycopg.AsyncConnection.connect(done.system.env["DATABASE_URL"]) as database:
        tables = await (await database.execute(TABLES)).fetchall()
        rows: list[str] = []
        for (table,) in tables:
            cursor = await database.execute(f'SELECT t::text FROM "{table}" t')  # noqa: S608 - our own tables
            rows += [row[0] for row in await cursor.fetchall()]
    return "\n".join(rows)


async def _valkey(done: Done) -> str:
    """Every key with its value."""
    dump = []
    async with client.Valkey.from_url(done.system.env["VALKEY_URL"], decode_responses=True) as store:
        async for key in store.scan_iter():
            kind = await store.type(key)
            dump.append(f"{key} {await store.hgetall(key) if kind == 'hash' else await store.get(key)}")
    return "\n".join(dump)
