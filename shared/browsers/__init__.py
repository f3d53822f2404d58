"""Browsers behind one small interface: what a place that runs browsers must be able to do.

BrowserError
├── BrowserFailed        this browser will never be ready; `reason` says why in the place's own words
└── BrowsersUnavailable  the place does not answer or has no room; try again later
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class Phase(StrEnum):
    """Where a browser stands."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    """It ended or cannot start; delete it."""


@dataclass(frozen=True, slots=True)
class BrowserSpec:
    """The browser that one attempt needs."""

    name: str
    """Derived from (job, attempt), so that creating it twice makes one."""
    secret_path: str = field(repr=False)
    """WebSocket path that only its worker knows, starting with `/`."""
    lifetime_seconds: int
    """After this the place itself ends the browser, whoever else is dead."""
    job_id: int | None
    attempt: int | None
    """The attempt that it is for; none for a warm one."""


@dataclass(frozen=True, slots=True)
class Browser:
    """A browser as the place that runs it sees it."""

    name: str
    phase: Phase
    created_at: datetime
    address: str | None = None
    """`host:port` of its WebSocket once it is ready."""
    reason: str | None = None
    """Why it failed or still waits, in the place's own words."""
    job_id: int | None = None
    attempt: int | None = None


class BrowserError(Exception):
    """A browser could not be had."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BrowserFailed(BrowserError):
    """The browser will never be ready."""


class BrowsersUnavailable(BrowserError):
    """The place that runs browsers does not answer or has no room now."""


class Browsers(Protocol):
    """A place that runs browsers: Kubernetes, or this machine."""

    async def create(self, spec: BrowserSpec) -> Browser:
        """Start a browser, or adopt the one that has the name already. Raises BrowserError."""

    async def wait_ready(self, name: str, *, timeout: float) -> Browser:
        """The browser once it accepts connections; timeout in seconds. Raises BrowserError."""

    async def delete(self, name: str) -> None:
        """End the browser; one that is gone is fine. Raises BrowsersUnavailable."""

    def list(self) -> AsyncIterator[Browser]:
        """Every browser of ours that exists, page by page. Raises BrowsersUnavailable."""

    async def aclose(self) -> None:
        """Give connections back."""
