"""The body of `POST /execute`, checked: one attempt of one job, and where to report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rpa_worker.errors import InvalidOrder


@dataclass(frozen=True, slots=True)
class Order:
    """One attempt of one job."""

    job_id: int
    attempt: int
    provider: str
    action: str
    parameters: Mapping[str, Any]
    orchestrator_callback: str
    """Base URL of heartbeat, evidence and completion."""
    token: str = field(repr=False)
    """Good for this job and attempt alone."""
    browser_service_url: str | None = field(default=None, repr=False)
    """WebSocket of the attempt's browser; its path is a secret."""
    totp_url: str | None = None
    totp_code: str | None = field(default=None, repr=False)
    account: str | None = None
    """Prefix of the portal account's variables, such as `OCTOTEL_2`."""
    traceparent: str | None = None

    @property
    def trace_id(self) -> str | None:
        """What all log lines about this job share, whoever writes them."""
        return self.traceparent[3:35] if self.traceparent else None

    @classmethod
    def parse(cls, body: object, traceparent: str | None = None) -> Order:
        """The order in this JSON value; fields that are not known are left alone. Raises InvalidOrder."""
        if not isinstance(body, dict):
            raise InvalidOrder("body", "must be a JSON object")
        return cls(
            job_id=_number(body, "job_id"),
            attempt=_number(body, "attempt"),
            provider=_text(body, "provider"),
            action=_text(body, "action"),
            parameters=_mapping(body, "parameters"),
            orchestrator_callback=_text(body, "orchestrator_callback").rstrip("/"),
            token=_text(body, "token"),
            browser_service_url=_optional_text(body, "browser_service_url"),
            totp_url=(_optional_text(body, "totp_url") or "").rstrip("/") or None,
            totp_code=_optional_text(body, "totp_code"),
            account=_optional_text(body, "account"),
            traceparent=traceparent,
        )


def _number(body: Mapping[str, object], name: str) -> int:
    value = body.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidOrder(name, "must be a positive integer")
    return value


def _text(body: Mapping[str, object], name: str) -> str:
    value = _optional_text(body, name)
    if not value:
        raise InvalidOrder(name, "must be a text that is not empty")
    return value


def _optional_text(body: Mapping[str, object], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidOrder(name, "must be a text or null")
    return value


def _mapping(body: Mapping[str, object], name: str) -> Mapping[str, Any]:
    value = body.get(name, {})
    if not isinstance(value, dict):
        raise InvalidOrder(name, "must be a JSON object")
    return value
