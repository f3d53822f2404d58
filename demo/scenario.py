"""What the demo does to a running system: submits its jobs, watches them, keeps their evidence."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from demo.api import TERMINAL, Api, Job
from demo.board import Board
from demo.cases import CASES, DOOMED, Case
from demo.checks import Run
from demo.footprint import Footprint

LIMIT_SECONDS = 480.0
POLL_SECONDS = 0.4
LAST_BREATH_SECONDS = 1.5
"""The doomed worker is dead this long after it began."""

Condition = Callable[[Mapping[int, Job]], bool]


class Scenario:
    """One run of the demo."""

    def __init__(self, api: Api, footprint: Footprint) -> None:
        self.run = Run()
        self._api = api
        self._footprint = footprint
        self._name = f"demo-{secrets.token_hex(4)}"

    async def perform(self, board: Board) -> None:
        """Submit all and see them to their ends. Raises TimeoutError."""
        started = time.monotonic()
        async with asyncio.timeout(LIMIT_SECONDS):
            doomed = await self._submit(DOOMED)
            await self._watch(board, lambda jobs: jobs[doomed]["status"] == "running" or jobs[doomed]["attempt"] > 1)
            await asyncio.sleep(LAST_BREATH_SECONDS)
            for case in CASES:
                await self._submit(case)
            await self._watch(board, _all_reported)
        self.run.seconds = time.monotonic() - started

    async def keep_evidence(self, folder: Path) -> None:
        """Fetch the whole of each job, and its files."""
        for job_id in self.run.cases:
            job = self.run.jobs[job_id] = await self._api.job(job_id)
            place = folder / str(job_id)
            place.mkdir(parents=True, exist_ok=True)
            for item in job["evidence"]:
                (place / item["name"]).write_bytes(await self._api.evidence(job_id, item["name"]))

    async def _submit(self, case: Case) -> int:
        external_job_id = f"{self._name}-{len(self.run.cases) + 1}"
        request = case.request(external_job_id)
        _, job = await self._api.submit(request)
        job_id: int = job["id"]
        self.run.cases[job_id] = case
        if case.twice:
            status, again = await self._api.submit(request)
            self.run.repeats.append((job_id, status, again["id"]))
        if case.later:
            await self._api.cancel(job_id)
        return job_id

    async def _watch(self, board: Board, done: Condition) -> None:
        while True:
            jobs = await self._api.jobs()
            self.run.jobs = {job_id: jobs[job_id] for job_id in self.run.cases}
            board.show(self.run.cases, self.run.jobs)
            self._footprint.look()
            if done(self.run.jobs):
                return
            await asyncio.sleep(POLL_SECONDS)


def _all_reported(jobs: Mapping[int, Job]) -> bool:
    return all(job["status"] in TERMINAL and job["reported_at"] for job in jobs.values())
