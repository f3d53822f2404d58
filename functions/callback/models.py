"""What workers send and get."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from shared.jobs import State
from shared.values import JsonObject, Text

EVIDENCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
EvidenceName = Annotated[str, Field(pattern=f"^{EVIDENCE_NAME.pattern}$", examples=["confirmation.png"])]


class Heartbeat(BaseModel):
    """The worker lives; `phase` says what it does."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"job_id": 1, "attempt": 1, "phase": "login"}]}
    )

    job_id: int
    attempt: int
    phase: Text | None = Field(None, max_length=100)


class FailureReport(BaseModel):
    """Why a job failed: `business` is the portal's no, `application` anything that broke."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["business", "application"]
    code: Text = Field(min_length=1, max_length=100)
    message: Text = Field("", max_length=4000)


class Completion(BaseModel):
    """How the job ended; `failure` goes with `failed`, and only there."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"job_id": 1, "attempt": 1, "status": "completed", "result": {"active": True}, "totp_used": True},
                {
                    "job_id": 1,
                    "attempt": 1,
                    "status": "failed",
                    "failure": {"kind": "business", "code": "unknown_circuit", "message": "there is no such circuit"},
                },
            ]
        },
    )

    job_id: int
    attempt: int
    status: Literal["completed", "failed"]
    result: JsonObject | None = None
    evidence: list[Text] = Field(default_factory=list, max_length=100)
    totp_used: bool = False
    failure: FailureReport | None = None

    @model_validator(mode="after")
    def _failure_goes_with_failed(self) -> Completion:
        if (self.status == "failed") != (self.failure is not None):
            raise ValueError("failure: send it with status failed, and only then")
        return self


class Lease(BaseModel):
    """By when the next heartbeat must have come, and in how many seconds; whether somebody would like pictures."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "status": "running",
                    "lease_expires_at": "2026-01-01T12:01:00Z",
                    "lease_seconds": 60,
                    "watched": False,
                }
            ]
        }
    )

    status: Literal["running"]
    lease_expires_at: AwareDatetime
    lease_seconds: float
    watched: bool


class Watched(BaseModel):
    """Whether somebody watches and would like the next picture, too."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "running", "watched": True}]})

    status: Literal["running"]
    watched: bool


class Kept(BaseModel):
    """A file that was kept."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "confirmation.png", "size": 48213, "sha256": "5f" * 32}]}
    )

    name: str
    size: int
    sha256: str


class Ended(BaseModel):
    """What the job is now: pending where it is tried again."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "completed"}, {"status": "pending"}]})

    status: State
