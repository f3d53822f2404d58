"""submit_job, called with the token of the person who acts: what may be done to jobs is its affair."""

from __future__ import annotations

from typing import Any

from shared.http import Problem, Unavailable
from shared.http_client import Answer, HttpClient, Silence

SECONDS = 15.0
JOB_LIMIT = 1024 * 1024
"""Bytes of an answer: a job has 256 KiB of parameters and of result, and its history."""


class SubmitJob:
    """Its routes, as far as the dashboard needs them."""

    def __init__(self, http: HttpClient, url: str | None) -> None:
        self._http = http
        self._url = url

    async def token(self, username: str, password: str) -> tuple[str, int]:
        """An access token and the seconds that it is good for. Raises Problem 401, 422, 429, Unavailable."""
        form = {"grant_type": "password", "username": username, "password": password}
        body = _said(await self._call("POST", "/auth/token", data=form))
        return str(body["access_token"]), int(body["expires_in"])

    async def cancel(self, job_id: int, token: str) -> None:
        """Raises Problem as submit_job answers it."""
        await self._call("DELETE", f"/jobs/{job_id}", token)

    async def retry(self, job_id: int, token: str) -> int:
        """The new job. Raises Problem as submit_job answers it."""
        return int(_said(await self._call("POST", f"/jobs/{job_id}:retry", token))["id"])

    async def reprioritise(self, job_id: int, priority: int, token: str) -> None:
        """Raises Problem as submit_job answers it."""
        await self._call("PATCH", f"/jobs/{job_id}", token, json={"priority": priority})

    async def _call(self, method: str, path: str, token: str = "", **content: Any) -> Answer:
        if self._url is None:
            raise Problem(503, "SUBMIT_URL is not set: the dashboard does not know where submit_job is")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            answer = await self._http.call(
                method, self._url + path, seconds=SECONDS, headers=headers, limit=JOB_LIMIT, **content
            )
        except Silence:
            raise Unavailable("submit_job") from None
        if not answer.ok:
            refusal = _said(answer)
            raise Problem(answer.status, str(refusal.get("detail", "refused")), code=refusal.get("code"))
        return answer


def _said(answer: Answer) -> dict[str, Any]:
    body = answer.json()
    if not isinstance(body, dict):
        raise Unavailable("submit_job")
    return body
