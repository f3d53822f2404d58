"""What workers are asked, and what their answers mean."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from shared import logs
from shared.http_client import HttpClient

if TYPE_CHECKING:
    import httpx

STATUS_SECONDS = 3.0
EXECUTE_SECONDS = 10.0
ANSWER_LIMIT = 64 * 1024


class Answer(Enum):
    """What a worker made of a job."""

    ACCEPTED = auto()
    REFUSED = auto()
    """It certainly does not have it."""
    UNKNOWN = auto()
    """It may have it: no clear answer came."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A worker's answer, and how often it will send heartbeats if it says so."""

    answer: Answer
    heartbeat_seconds: float | None = None


class Workers:
    """Speaks to workers at the addresses that the configuration names."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def available(self, worker: str) -> bool:
        """Whether a worker would take a job now."""
        import httpx

        try:
            async with asyncio.timeout(STATUS_SECONDS):
                response = await self._http.session.get(f"{worker}/status")
            return response.is_success and _member(response, "available") is True
        except (httpx.HTTPError, TimeoutError) as error:
            logs.info("worker does not answer", worker=worker, reason=type(error).__name__)
            return False

    async def execute(self, worker: str, body: dict[str, Any], traceparent: str) -> Reply:
        """Give a job to a worker."""
        import httpx

        try:
            async with asyncio.timeout(EXECUTE_SECONDS):
                response = await self._http.session.post(
                    f"{worker}/execute", json=body, headers={"traceparent": traceparent}
                )
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            logs.info("worker does not answer", worker=worker, reason=type(error).__name__)
            return Reply(Answer.REFUSED)
        except (httpx.HTTPError, TimeoutError) as error:
            logs.warning("worker gave no clear answer", worker=worker, reason=type(error).__name__)
            return Reply(Answer.UNKNOWN)
        return _meaning(worker, response)


def _meaning(worker: str, response: httpx.Response) -> Reply:
    if response.is_success and _member(response, "status") == "accepted":
        seconds = _member(response, "heartbeat_seconds")
        return Reply(
            Answer.ACCEPTED,
            float(seconds) if isinstance(seconds, int | float) and 0 < seconds < 3600 else None,
        )
    logs.info("worker refused", worker=worker, status=response.status_code)
    # A 5xx other than "busy" may come from behind a worker that has begun.
    certain = response.status_code < 500 or response.status_code == 503
    return Reply(Answer.REFUSED if certain else Answer.UNKNOWN)


def _member(response: httpx.Response, name: str) -> Any:
    if len(response.content) > ANSWER_LIMIT:
        return None
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return None
    return body.get(name) if isinstance(body, dict) else None
