"""What operators send and get."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.values import Text


class PauseRequest(BaseModel):
    """Why something is paused."""

    model_config = ConfigDict(extra="forbid")

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
