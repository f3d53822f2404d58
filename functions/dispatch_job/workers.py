"""What workers are asked, and what their answers mean."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from shared import logs
from shared.http_client import Answer, HttpClient, NotHeard, Silence

STATUS_SECONDS = 3.0
EXECUTE_SECONDS = 10.0


class Verdict(Enum):
    """What a worker made of a job."""

    ACCEPTED = auto()
    REFUSED = auto()
    """It certainly does not have it."""
    UNKNOWN = auto()
    """It may have it: no clear answer came."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A worker's answer, and how often it will send heartbeats if it says so."""

    verdict: Verdict
    heartbeat_seconds: float | None = None


class Workers:
    """Speaks to workers at the addresses that the configuration names."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def available(self, worker: str) -> bool:
        """Whether a worker would take a job now."""
        try:
            said = await self._http.call("GET", f"{worker}/status", seconds=STATUS_SECONDS)
        except Silence as silence:
            logs.info("worker does not answer", worker=worker, reason=str(silence))
            return False
        return said.ok and _member(said, "available") is True

    async def execute(self, worker: str, body: dict[str, Any], traceparent: str) -> Reply:
        """Give a job to a worker."""
        headers = {"traceparent": traceparent}
        try:
            said = await self._http.call(
                "POST", f"{worker}/execute", seconds=EXECUTE_SECONDS, headers=headers, json=body
            )
        except NotHeard as silence:
            logs.info("worker does not answer", worker=worker, reason=str(silence))
            return Reply(Verdict.REFUSED)
        except Silence as silence:
            logs.warning("worker gave no clear answer", worker=worker, reason=str(silence))
            return Reply(Verdict.UNKNOWN)
        return _meaning(worker, said)


def _meaning(worker: str, said: Answer) -> Reply:
    if said.ok and _member(said, "status") == "accepted":
        seconds = _member(said, "heartbeat_seconds")
        return Reply(
            Verdict.ACCEPTED,
            float(seconds) if isinstance(seconds, int | float) and 0 < seconds < 3600 else None,
        )
    logs.info("worker refused", worker=worker, status=said.status)
    # A 5xx other than "busy" may come from behind a worker that has begun.
    certain = said.status < 500 or said.status == 503
    return Reply(Verdict.REFUSED if certain else Verdict.UNKNOWN)


def _member(said: Answer, name: str) -> Any:
    body = said.json()
    return body.get(name) if isinstance(body, dict) else None
