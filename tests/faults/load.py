"""The load: jobs as ORDS submits them, some twice, some cancelled, changed or retried."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.http_client import Answer, HttpClient, Silence
from tests.faults.configuration import WEIGHTS
from tests.faults.drawing import Lots
from tests.faults.evidence import Submission
from tests.faults.system import FaultySystem

CALL_SECONDS = 5.0
PATIENCE_SECONDS = 40.0
SUBMITTERS = 4
BATCH = 5


class Load:
    """Submits `jobs` jobs, and up to as many again while `more` are needed; no more than `window` are under way."""

    def __init__(
        self,
        system: FaultySystem,
        lots: Lots,
        jobs: int,
        window: int,
        seen: Callable[[], tuple[int, int]],
        more: Callable[[], object],
    ) -> None:
        self.submitted: list[Submission] = []
        self.counts: Counter[str] = Counter()
        self.poison: set[str] = set()
        self._system = system
        self._lots = lots
        self._jobs = jobs
        self._window = window
        self._seen = seen
        self._looks = 0
        self._unseen = 0
        self._more = more
        self._http = HttpClient()
        self._headers: dict[str, str] = {}
        self._monitor = system.env["MONITOR_URL"]
        self._next = 0
        self._retryable: list[int] = []

    async def run(self) -> None:
        """Until all are submitted."""
        await self._log_in()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(SUBMITTERS):
                tasks.create_task(self._submit())

    @property
    def offered(self) -> int:
        """How many jobs were submitted."""
        return self._next

    def enough(self) -> None:
        """Submit no more."""
        self._jobs = min(self._jobs, self._next)
        self._more = lambda: False

    async def _submit(self) -> None:
        while self._next < self._jobs or (self._next < 2 * self._jobs and self._more()):
            if self._under_way() >= self._window:
                await asyncio.sleep(0.05)
                continue
            size = BATCH if self._lots.of("batch", self._next).random() < 0.1 else 1
            numbers = range(self._next, self._next + size)
            self._next += size
            self._unseen += size
            await self._offer([self._request(n) for n in numbers])

    def _under_way(self) -> int:
        """What was seen at the last look, and offered since; what never became a job takes no place for good."""
        looks, seen = self._seen()
        if looks != self._looks:
            self._looks, self._unseen = looks, 0
        return seen + self._unseen

    def _request(self, n: int) -> dict[str, Any]:
        draw = self._lots.of("job", n)
        provider = draw.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        page = f"{self._system.portal_url}/{provider}" if provider == "firefox" else None
        request: dict[str, Any] = {
            "provider": provider,
            "action": "validation",
            "parameters": {"n": n, "page": page, "refused": draw.random() < 0.08},
            "priority": draw.randint(0, 10),
            "max_retries": draw.choice([0, 1, 3, 6]),
            "external_job_id": f"fault-{n}",
        }
        if draw.random() < 0.03:
            request["deadline"] = (datetime.now(UTC) + timedelta(seconds=draw.uniform(3, 12))).isoformat()
        if draw.random() < 0.03:
            request["run_after"] = (datetime.now(UTC) + timedelta(seconds=draw.uniform(0.5, 2.5))).isoformat()
        return request

    async def _offer(self, requests: list[dict[str, Any]]) -> None:
        draw = self._lots.of("offer", requests[0]["external_job_id"])
        answered = await self._post(requests)
        for n, request in enumerate(requests):
            job = answered[n]["id"] if answered else None
            self.submitted.append(Submission(request["external_job_id"], job, request["provider"]))
        if not answered:
            self.counts["submissions without an answer"] += 1
            return
        if draw.random() < 0.1:
            await self._again(requests)
        await self._meddle(answered[0]["id"], draw.random())

    async def _again(self, requests: list[dict[str, Any]]) -> None:
        if again := await self._post(requests):
            self.counts["jobs submitted again"] += len(again)
            for job, request in zip(again, requests, strict=True):
                self.submitted.append(Submission(request["external_job_id"], job["id"], request["provider"]))

    async def _post(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
        many = len(requests) > 1
        path, body = ("/jobs:batch", {"jobs": requests}) if many else ("/jobs", requests[0])
        answer = await self._until_answered("POST", path, body)
        if answer is None or not answer.ok:
            return None
        said = answer.json()
        items: list[dict[str, Any]] = said["items"] if many else [said]
        return items

    async def _meddle(self, job_id: int, draw: float) -> None:
        if draw < 0.04:
            await self._count("cancelled", await self._until_answered("DELETE", f"/jobs/{job_id}", None))
        elif draw < 0.08:
            await self._count("changed", await self._until_answered("PATCH", f"/jobs/{job_id}", {"priority": 9}))
        elif draw < 0.14:
            await self._until_answered("DELETE", f"/jobs/{job_id}", None)
            self._retryable.append(job_id)

    async def _count(self, what: str, answer: Answer | None) -> None:
        self.counts[f"jobs {what}" if answer and answer.ok else f"jobs not {what}"] += 1

    async def operate(self) -> None:
        """What operators do, and events that nobody can handle. For ever; what is paused is resumed in the end."""
        while True:
            await asyncio.sleep(0.5)
            await self._send_poison()
            await self._pause_something()
            await self._until_answered("POST", "/dead-letters:replay", None, self._monitor)
            if self._retryable:
                job_id = self._retryable.pop(0)
                await self._count("retried", await self._until_answered("POST", f"/jobs/{job_id}:retry", None))

    async def _pause_something(self) -> None:
        draw = self._lots.of("pause", len(self.poison))
        what = draw.choice(["/accounts/GATE", *(f"/providers/{name}" for name in WEIGHTS)])
        try:
            await self._until_answered("POST", f"{what}:pause", {"reason": "as drawn"}, self._monitor)
            await asyncio.sleep(draw.uniform(0.1, 0.8))
        finally:
            await self._until_answered("POST", f"{what}:resume", None, self._monitor)

    async def _send_poison(self) -> None:
        draw = self._lots.of("poison", len(self.poison))
        kind = draw.choice(["rpa.job.submitted.v1", "rpa.browser.ready.v1", "rpa.job.finished.v1"])
        headers = {
            "ce-id": f"poison-{len(self.poison)}",
            "ce-specversion": "1.0",
            "ce-source": "/rpa/orchestrator",
            "ce-type": kind,
            "content-type": "application/json",
        }
        self.poison.add(headers["ce-id"])
        with contextlib.suppress(Silence):
            body = {"job_id": 2**60, "attempt": 1}
            await self._http.call(
                "POST", self._system.env["BROKER_URL"], seconds=CALL_SECONDS, headers=headers, json=body
            )

    async def _until_answered(
        self, method: str, path: str, body: dict[str, Any] | None, base: str | None = None
    ) -> Answer | None:
        until = time.monotonic() + PATIENCE_SECONDS
        url = (base or self._system.env["SUBMIT_URL"]) + path
        while time.monotonic() < until:
            with contextlib.suppress(Silence):
                content = {} if body is None else {"json": body}
                answer = await self._http.call(method, url, seconds=CALL_SECONDS, headers=self._headers, **content)
                if answer.status == 422 and "deadline" in str(answer.json()):
                    return answer  # it took so long to be answered that the deadline has passed
                if answer.status < 500 and answer.status not in (401, 429):
                    return answer
                if answer.status == 401:
                    await self._log_in()
            await asyncio.sleep(0.3)
        return None

    async def _log_in(self) -> None:
        env = self._system.env
        form = {"grant_type": "password", "username": env["ADMIN_USERNAME"], "password": env["ADMIN_PASSWORD"]}
        while True:
            with contextlib.suppress(Silence):
                answer = await self._http.call("POST", f"{env['SUBMIT_URL']}/auth/token", seconds=10, data=form)
                if answer.ok:
                    self._headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
                    return
            await asyncio.sleep(1.0)

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._http.aclose()
