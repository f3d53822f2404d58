"""What operators send and get."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from shared.jobs import State
from shared.values import Text

PAUSED: JsonDict = {"by": "admin", "at": "2026-01-01T12:00:00Z", "reason": "the portal is down", "until": None}
PROVIDER: JsonDict = {
    "name": "octotel",
    "actions": ["validation"],
    "paused": None,
    "max_sessions": 5,
    "live": 5,
    "pending": 12,
    "oldest_waiting_seconds": 84.5,
}
ACCOUNT: JsonDict = {
    "account": "OCTOTEL",
    "providers": ["octotel"],
    "paused": None,
    "next_free_at": "2026-01-01T12:00:30Z",
    "predicted_wait_seconds": 17.25,
    "waiting": 0,
}
LETTER: JsonDict = {
    "id": 1,
    "status": "open",
    "replayable": True,
    "event_id": "5f" * 16,
    "event_source": "/rpa/orchestrator",
    "event_type": "rpa.job.submitted.v1",
    "job_id": 1,
    "attempt": 1,
    "destination": "http://provision-browser.rpa.svc.cluster.local",
    "reason": "delivery failed with 500",
    "times": 1,
    "first_at": "2026-01-01T12:00:00Z",
    "last_at": "2026-01-01T12:00:00Z",
    "replayed_at": None,
    "replayed_by": None,
}
EVENT: JsonDict = {
    "attributes": {
        "id": "5f" * 16,
        "source": "/rpa/orchestrator",
        "type": "rpa.job.submitted.v1",
        "specversion": "1.0",
    },
    "data": {"job_id": 1, "attempt": 1},
}


class PauseRequest(BaseModel):
    """Why something is paused."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"reason": "the portal is down"}]})

    reason: Text = Field(min_length=1, max_length=500)


class Pause(BaseModel):
    """Who paused it, when, why; `until` where it ends by itself."""

    by: str
    at: datetime | None
    reason: str
    until: datetime | None = None


class ProviderState(BaseModel):
    """A configured provider, and what runs and waits there."""

    model_config = ConfigDict(json_schema_extra={"examples": [PROVIDER, {**PROVIDER, "live": 0, "paused": PAUSED}]})

    name: str
    actions: tuple[str, ...]
    paused: Pause | None
    max_sessions: int
    live: int
    pending: int
    oldest_waiting_seconds: float


class AccountState(BaseModel):
    """A login, the providers that use it, and the queue for its codes; null where it has none or is paused."""

    model_config = ConfigDict(json_schema_extra={"examples": [ACCOUNT]})

    account: str
    providers: list[str]
    paused: Pause | None
    next_free_at: datetime | None
    predicted_wait_seconds: float | None
    waiting: int | None


class DeadLetter(BaseModel):
    """An event that nobody could handle; `job_id` and `attempt` are what it says, `replayable` whether it is ours."""

    id: int
    status: Literal["open", "replayed"]
    replayable: bool
    event_id: str
    event_source: str
    event_type: str
    job_id: int | None
    attempt: int | None
    destination: str
    reason: str
    times: int
    first_at: datetime
    last_at: datetime
    replayed_at: datetime | None
    replayed_by: str | None


class DeadLetterWithEvent(DeadLetter):
    """One letter with the event as it came."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**LETTER, "event": EVENT}]})

    event: dict[str, Any]


class Providers(BaseModel):
    """All providers by name."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [PROVIDER], "next_cursor": None}]})

    items: list[ProviderState]
    next_cursor: None = None


class Accounts(BaseModel):
    """All accounts by name."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [ACCOUNT], "next_cursor": None}]})

    items: list[AccountState]
    next_cursor: None = None


class DeadLetters(BaseModel):
    """A part of the letters, newest first; next_cursor gets the next part."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [LETTER], "next_cursor": None}]})

    items: list[DeadLetter]
    next_cursor: str | None


class Replayed(BaseModel):
    """How many letters were replayed, and whether more could be."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"replayed": 100, "more": True}]})

    replayed: int
    more: bool


class ProviderStatus(BaseModel):
    """A configured provider, and its jobs by state."""

    name: str
    actions: list[str]
    browser: bool
    totp: Literal["none", "on_request", "at_dispatch"]
    max_sessions: int
    jobs: dict[State, int]


class Status(BaseModel):
    """Providers, jobs by state, and what should be empty or young."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "providers": [
                        {
                            "name": "octotel",
                            "actions": ["validation"],
                            "browser": True,
                            "totp": "on_request",
                            "max_sessions": 5,
                            "jobs": {"running": 5, "completed": 120},
                        }
                    ],
                    "jobs": {"running": 5, "completed": 120},
                    "outbox": 0,
                    "outbox_age_seconds": 0,
                    "dead_letters": 0,
                    "reports_outstanding": 0,
                    "leases_expired": 0,
                    "browsers": 7,
                    "browsers_warm": 2,
                }
            ]
        }
    )

    providers: list[ProviderStatus]
    jobs: dict[State, int]
    outbox: int
    outbox_age_seconds: float
    dead_letters: int
    reports_outstanding: int
    leases_expired: int
    browsers: int
    browsers_warm: int


class Clocks(BaseModel):
    """Seconds by which a store's clock is ahead of the function's; null where it does not answer."""

    database: float | None
    valkey: float | None


class Diagnosis(BaseModel):
    """What is wrong with each store, or null; migrations of this version that the database lacks."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "checked_at": "2026-01-01T12:00:00Z",
                    "database": None,
                    "missing_migrations": [],
                    "valkey": "Connection refused",
                    "clocks": {"database": 0.004, "valkey": None},
                }
            ]
        }
    )

    checked_at: datetime
    database: str | None
    missing_migrations: list[str] | None
    valkey: str | None
    clocks: Clocks


class BrowserService(BaseModel):
    """A browser; without job_id it is warm, without status its attempt is over."""

    name: str
    job_id: int | None
    attempt: int | None
    provider: str | None
    status: State | None
    created_at: datetime
    ready_at: datetime | None
    lease_expires_at: datetime | None


class BrowserServices(BaseModel):
    """A part of the browsers by name; next_cursor gets the next part."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "items": [
                        {
                            "name": "rpa-browser-1-1",
                            "job_id": 1,
                            "attempt": 1,
                            "provider": "octotel",
                            "status": "running",
                            "created_at": "2026-01-01T12:00:00Z",
                            "ready_at": "2026-01-01T12:00:04Z",
                            "lease_expires_at": "2026-01-01T12:01:00Z",
                        }
                    ],
                    "next_cursor": None,
                }
            ]
        }
    )

    items: list[BrowserService]
    next_cursor: str | None
