"""What operators send and get."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.jobs import State
from shared.values import Text


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

    name: str
    actions: tuple[str, ...]
    paused: Pause | None
    max_sessions: int
    live: int
    pending: int
    oldest_waiting_seconds: float


class AccountState(BaseModel):
    """A login, the providers that use it, and the queue for its codes; null where it has none or is paused."""

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

    event: dict[str, Any]


class Providers(BaseModel):
    """All providers by name."""

    items: list[ProviderState]
    next_cursor: None = None


class Accounts(BaseModel):
    """All accounts by name."""

    items: list[AccountState]
    next_cursor: None = None


class DeadLetters(BaseModel):
    """A part of the letters, newest first; next_cursor gets the next part."""

    items: list[DeadLetter]
    next_cursor: str | None


class Replayed(BaseModel):
    """How many letters were replayed, and whether more could be."""

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

    items: list[BrowserService]
    next_cursor: str | None
