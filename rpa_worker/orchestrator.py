"""What a worker says to the orchestrator about one attempt, and what it hears.

The token travels in the Authorization header and nowhere else. 409 is final: the attempt is over.
"""

from __future__ import annotations

import http
from dataclasses import dataclass, field
from typing import Any

import httpx

from rpa_worker.errors import AttemptOver, EvidenceRefused, NoLoginCode
from rpa_worker.order import Order
from rpa_worker.patience import ENDLESS, Patience, persist

PHASE_LIMIT = 100
TOTP_TIMEOUT = 300.0
"""A code may be several time steps away: the service holds the request meanwhile."""


@dataclass(frozen=True, slots=True)
class LoginCode:
    """A code that nobody else gets, and the account that it belongs to."""

    code: str = field(repr=False)
    account: str | None


@dataclass(frozen=True, slots=True)
class Heard:
    """What a heartbeat's answer says; an orchestrator of an earlier version says less."""

    watched: bool
    lease_seconds: float | None


class Orchestrator:
    """The orchestrator, as one attempt sees it."""

    def __init__(self, client: httpx.AsyncClient, order: Order, patience: Patience) -> None:
        self._client = client
        self._order = order
        self._patience = patience
        self._headers = {"authorization": f"Bearer {order.token}"}
        if order.traceparent:
            self._headers["traceparent"] = order.traceparent

    async def heartbeat(self, phase: str, *, timeout: float) -> Heard:
        """Say once that the attempt is alive. Raises AttemptOver, httpx.HTTPError."""
        body = {**self._identity(), **({"phase": phase[:PHASE_LIMIT]} if phase else {})}
        response = await self._post("/callbacks/heartbeat", body, timeout=timeout)
        answer = _said(_still_ours(response).raise_for_status())
        seconds = answer.get("lease_seconds")
        return Heard(answer.get("watched") is True, seconds if isinstance(seconds, int | float) else None)

    async def picture(self, jpeg: bytes, *, timeout: float) -> bool:
        """Show once what the page looks like; whether somebody still watches. Raises AttemptOver, httpx.HTTPError."""
        url = f"{self._order.orchestrator_callback}/callbacks/picture"
        headers = {**self._headers, "content-type": "image/jpeg"}
        response = await self._client.put(url, content=jpeg, headers=headers, timeout=timeout)
        return _said(_still_ours(response).raise_for_status()).get("watched") is True

    async def totp(self, *, rejected: bool) -> LoginCode:
        """The next login code, however long the queue. Raises AttemptOver, NoLoginCode."""
        if not self._order.totp_url:
            raise NoLoginCode(f"{self._order.provider} has no login codes: the order names no totp_url")
        url = f"{self._order.totp_url}/totp/{self._order.provider}"
        body = {"rejected": True} if rejected else {}
        response = await persist(
            lambda: self._client.post(url, json=body, headers=self._headers, timeout=TOTP_TIMEOUT), ENDLESS
        )
        if _still_ours(response).is_success:
            answer = response.json()
            return LoginCode(answer["code"], answer.get("account"))
        raise NoLoginCode(f"no login code: {_explanation(response)}")

    async def evidence(self, name: str, content: bytes, content_type: str) -> None:
        """Store a file. Raises AttemptOver, EvidenceRefused, httpx.HTTPError."""
        url = f"{self._order.orchestrator_callback}/callbacks/evidence/{name}"
        headers = {**self._headers, "content-type": content_type}
        response = await persist(lambda: self._client.put(url, content=content, headers=headers), self._patience)
        if not _still_ours(response).is_success:
            raise EvidenceRefused(f"{name}: {_explanation(response)}")

    async def complete(self, report: dict[str, Any]) -> None:
        """Report how the attempt ended. Raises AttemptOver, httpx.HTTPError."""
        body = {**self._identity(), **report}
        response = await persist(lambda: self._post("/callbacks/job-complete", body), self._patience)
        _still_ours(response).raise_for_status()

    def _identity(self) -> dict[str, Any]:
        return {"job_id": self._order.job_id, "attempt": self._order.attempt}

    async def _post(self, path: str, body: dict[str, Any], *, timeout: float = 30.0) -> httpx.Response:
        url = self._order.orchestrator_callback + path
        return await self._client.post(url, json=body, headers=self._headers, timeout=timeout)


def _still_ours(response: httpx.Response) -> httpx.Response:
    if response.status_code == http.HTTPStatus.CONFLICT:
        raise AttemptOver(_explanation(response))
    return response


def _said(response: httpx.Response) -> dict[str, Any]:
    try:
        said = response.json()
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _explanation(response: httpx.Response) -> str:
    """What a problem document says, or the bare status."""
    try:
        problem = response.json()
        return f"{response.status_code} {problem.get('detail') or problem.get('title') or ''}".strip()
    except (ValueError, AttributeError):
        return f"{response.status_code} {response.reason_phrase}"
