"""What callers send and get."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from shared.http import Part, json_bytes
from shared.jobs import State
from shared.providers import Provider
from shared.values import Digits, JsonObject, Text, Time

BATCH_LIMIT = 100
EXAMPLE: JsonDict = {
    "provider": "octotel",
    "action": "validation",
    "parameters": {"circuit": "OCT-1234"},
    "priority": 7,
    "external_job_id": "order-4711",
    "deadline": "2999-12-31T12:00:00Z",
}
KEPT: JsonDict = {
    "name": "confirmation.png",
    "attempt": 1,
    "content_type": "image/png",
    "size": 48213,
    "sha256": "5f" * 32,
}
JOB: JsonDict = {
    **EXAMPLE,
    "id": 1,
    "retry_of": None,
    "max_retries": 3,
    "status": "completed",
    "attempt": 1,
    "account": "OCTOTEL",
    "run_after": "2026-01-01T12:00:00Z",
    "created_at": "2026-01-01T12:00:00Z",
    "started_at": "2026-01-01T12:00:01Z",
    "updated_at": "2026-01-01T12:00:42Z",
    "finished_at": "2026-01-01T12:00:41Z",
    "result": {"active": True},
    "error": None,
    "reported_at": "2026-01-01T12:00:42Z",
    "report_attempts": 1,
    "report_error": None,
    "evidence": [KEPT],
}
SUBMITTED: JsonDict = {
    "at": "2026-01-01T12:00:00Z",
    "attempt": 1,
    "event": "submitted",
    "from": None,
    "to": "pending",
    "detail": {"by": "ords"},
}


class JobRequest(BaseModel):
    """A job as it is submitted."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [EXAMPLE]})

    provider: Text
    action: Text
    parameters: JsonObject = Field(default_factory=dict)
    priority: int = Field(5, ge=0, le=10)
    max_retries: int = Field(3, ge=0, le=20)
    external_job_id: Text | None = Field(None, min_length=1, max_length=200)
    run_after: Time | None = None
    deadline: Time | None = None

    def digest(self) -> bytes:
        """The same for the same content: how a repeated submission is told from a different one."""
        return hashlib.sha256(json_bytes(self.model_dump(mode="json"))).digest()

    def problems(self, providers: Mapping[str, Provider], now: datetime) -> list[tuple[str, str]]:
        """What is wrong with it beyond its shape: field and remedy."""
        found = []
        provider = providers.get(self.provider)
        if provider is None:
            found.append(("provider", f"unknown; one of {', '.join(sorted(providers))}"))
        elif self.action not in provider.actions:
            found.append(("action", f"unknown at {self.provider}; one of {', '.join(provider.actions)}"))
        return found + time_problems(self.run_after, self.deadline, now)


def time_problems(run_after: datetime | None, deadline: datetime | None, now: datetime) -> list[tuple[str, str]]:
    """Times that can never work out."""
    if deadline and deadline <= now:
        return [("deadline", "is in the past; give a later time or none")]
    if deadline and run_after and deadline <= run_after:
        return [("deadline", "is not after run_after; give a later time or none")]
    return []


class BatchRequest(BaseModel):
    """Several jobs, accepted or refused together."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"jobs": [EXAMPLE]}]})

    jobs: list[JobRequest] = Field(min_length=1, max_length=BATCH_LIMIT)


class JobChange(BaseModel):
    """What may change while a job waits."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"priority": 10, "deadline": None}]})

    priority: int = Field(5, ge=0, le=10)
    run_after: Time | None = None
    deadline: Time | None = None


class HistoryEntry(BaseModel):
    """One thing that happened to a job."""

    at: datetime
    attempt: int
    event: str
    from_: str | None = Field(serialization_alias="from")
    to: str
    detail: dict[str, Any]


class Evidence(BaseModel):
    """A file that a worker left."""

    name: str
    attempt: int
    content_type: str
    size: int
    sha256: str


class Job(BaseModel):
    """A job as callers see it."""

    model_config = ConfigDict(json_schema_extra={"examples": [JOB]})

    id: int
    external_job_id: str | None
    retry_of: int | None
    provider: str
    action: str
    parameters: dict[str, Any]
    priority: int
    max_retries: int
    status: State
    attempt: int
    account: str | None
    run_after: datetime
    deadline: datetime | None
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    finished_at: datetime | None
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    reported_at: datetime | None
    report_attempts: int
    report_error: str | None
    evidence: list[Evidence]


class JobWithHistory(Job):
    """One job with all that happened to it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**JOB, "history": [SUBMITTED]}]})

    history: list[HistoryEntry]


class Page(BaseModel):
    """A part of a list; next_cursor gets the next part."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [JOB], "next_cursor": None}]})

    items: list[Job]
    next_cursor: str | None


class Items(BaseModel):
    """Jobs in the order of the request."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [JOB]}]})

    items: list[Job]


class JobsQuery(Part):
    """Which jobs are listed."""

    status: State | None = None
    provider: Text | None = None
    external_job_id: Text | None = None


class EvidenceQuery(BaseModel):
    """Of which attempt; without it, of the last one that has a file of this name."""

    model_config = ConfigDict(extra="forbid")

    attempt: Digits | None = Field(None, le=99999)


class Token(BaseModel):
    """A bearer token, for `expires_in` seconds, with these scopes."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "access_token": "header.payload.signature",
                    "token_type": "Bearer",
                    "expires_in": 3600,
                    "scope": "jobs:create jobs:read",
                }
            ]
        }
    )

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int
    scope: str
