"""The orchestrator's HTTP API, as ORDS and operators use it."""

from __future__ import annotations

from typing import Any

import httpx

TERMINAL = frozenset({"completed", "failed", "cancelled"})

Job = dict[str, Any]


class Api:
    """Speaks to a running system."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def log_in(self, username: str, password: str) -> None:
        """Get a token and use it from now on."""
        form = {"grant_type": "password", "username": username, "password": password}
        answer = await self._client.post("/auth/token", data=form)
        token = answer.raise_for_status().json()["access_token"]
        self._client.headers["authorization"] = f"Bearer {token}"

    async def submit(self, request: dict[str, Any]) -> tuple[int, Job]:
        """The status, 201 or 200, and the job."""
        answer = await self._client.post("/jobs", json=request)
        return answer.status_code, answer.raise_for_status().json()

    async def jobs(self) -> dict[int, Job]:
        """All jobs by their ids."""
        answer = await self._client.get("/jobs", params={"limit": 200})
        return {job["id"]: job for job in answer.raise_for_status().json()["items"]}

    async def job(self, job_id: int) -> Job:
        """One job with its history."""
        answer = await self._client.get(f"/jobs/{job_id}")
        job: Job = answer.raise_for_status().json()
        return job

    async def cancel(self, job_id: int) -> None:
        (await self._client.delete(f"/jobs/{job_id}")).raise_for_status()

    async def evidence(self, job_id: int, name: str) -> bytes:
        answer = await self._client.get(f"/jobs/{job_id}/evidence/{name}")
        return answer.raise_for_status().content
