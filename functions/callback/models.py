"""What workers send."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.values import JsonObject, Text


class Heartbeat(BaseModel):
    """The worker lives; `phase` says what it does."""

    model_config = ConfigDict(extra="forbid")

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
    """How the job ended."""

    model_config = ConfigDict(extra="forbid")

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
