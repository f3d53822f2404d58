"""Two hundred workers that ask for login codes without end, and what they were told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from unittest.mock import patch

import httpx
import pyotp

from tests.functions.stage import PROVIDERS, SEED, Stage, open_stage
from tests.functions.test_totp import running
from tests.serving import eventually

CALLERS = 200
ACCOUNTS = ["OCTOTEL", *(f"OCTOTEL_{n}" for n in range(2, 11))]
PERIOD = 0.25
MAX_WAIT = 1
PAUSE = 1.0
"""Seconds before a worker that got no code asks again."""
UNUSED_JOBS = 6000
LATE = 10.0
"""Seconds that a code may come after a failover, for the turns that workers wait for on a busy machine."""
SOON = 5.0 + PAUSE + MAX_WAIT
"""Seconds in which at least one comes: a primary that hangs holds a request up, then there is a pause, and a turn."""


@asynccontextmanager
async def portal(
    url: str, valkey: dict[str, str], folder: Path, *, period: float = PERIOD, **overrides: str
) -> AsyncIterator[Stage]:
    """A stage whose octotel has ten accounts and short time steps."""
    accounts = ", ".join(f"{{credentials: {name}}}" for name in ACCOUNTS)
    entry = f"actions: [validation]\ntotp: on_request\ntotp_period: {period}\naccounts: [{accounts}]\n"
    settings = {f"{name}_TOTP_SECRET": SEED for name in ACCOUNTS}
    settings |= {"TOTP_MIN_VALIDITY": "0", "TOTP_MAX_WAIT": str(MAX_WAIT), **overrides}
    with patch.dict(PROVIDERS, octotel=entry):
        async with open_stage(url, valkey, folder, **settings) as stage:
            yield stage


async def ask_at_once(stage: Stage, how_many: int) -> list[httpx.Response]:
    """What so many new attempts are told that ask for a code at the same time."""
    http = stage.clients["issue_totp"]
    jobs = await running(stage, "octotel", how_many)
    return await asyncio.gather(
        *(http.post("/totp/octotel", headers={"Authorization": f"Bearer {token}"}, timeout=60) for _, token in jobs)
    )


@dataclass(frozen=True)
class Told:
    """One answer: to whom, when it was asked for, and when it came."""

    job_id: int
    asked: float
    came: float
    answer: httpx.Response

    @property
    def step(self) -> tuple[str, int]:
        """The account and time step of a code."""
        body = self.answer.json()
        expires = datetime.fromisoformat(body["expires_at"]).timestamp()
        return body["account"], round(expires / PERIOD) - 1


class Rush:
    """Each worker asks until it has a code, once more for the same, and goes on with its next job."""

    def __init__(self, stage: Stage, jobs: list[tuple[int, str]]) -> None:
        self._http = stage.clients["issue_totp"]
        self._jobs = iter(jobs)
        self._over = False
        self.told: list[Told] = []

    async def _worker(self) -> None:
        for job_id, token in self._jobs:
            codes = 0
            while codes < 2 and not self._over:
                asked = time.monotonic()
                headers = {"Authorization": f"Bearer {token}"}
                answer = await self._http.post("/totp/octotel", headers=headers, timeout=60)
                self.told.append(Told(job_id, asked, time.monotonic(), answer))
                if answer.status_code == 200:
                    codes += 1
                else:
                    await asyncio.sleep(PAUSE)

    async def code_after(self, moment: float, *, within: float = 30) -> float:
        """Wait for a code that was asked for after a moment; how many seconds after it came."""
        await eventually(lambda: self._after(moment), within=within)
        return min(self._after(moment)) - moment

    def _after(self, moment: float) -> list[float]:
        return [it.came for it in self.told if it.asked > moment and it.answer.status_code == 200]

    def codes(self) -> list[Told]:
        """The answers that are codes."""
        return [it for it in self.told if it.answer.status_code == 200]


@asynccontextmanager
async def rush(stage: Stage) -> AsyncIterator[Rush]:
    """Workers that ask while the block runs; afterwards all have their answers, and none was wrong."""
    ongoing = Rush(stage, await running(stage, "octotel", UNUSED_JOBS))
    async with asyncio.TaskGroup() as workers:
        for _ in range(CALLERS):
            workers.create_task(ongoing._worker())
        try:
            await ongoing.code_after(time.monotonic())
            yield ongoing
        finally:
            ongoing._over = True
    await _check(stage, ongoing)


async def _check(stage: Stage, rush: Rush) -> None:
    """No code twice, in the answers and in the ledger; whoever has none was told when to come again."""
    refused = [it.answer for it in rush.told if it.answer.status_code != 200]
    assert {answer.status_code for answer in refused} <= {409, 429, 503}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused if answer.status_code != 409)
    rows = await stage.rows("SELECT account, step, job_id FROM totp_steps")
    ledger = {(row["account"], row["step"]): row["job_id"] for row in rows}
    for it in rush.codes():
        assert ledger[it.step] == it.job_id, it
        assert it.answer.json()["code"] == pyotp.TOTP(SEED).generate_otp(it.step[1])
