"""How the Kubernetes API says no.

ApiError       the API refuses, for good or for now; `status` and `reason` say what
ApiUnreachable the API does not answer
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MESSAGE_LIMIT = 400


class ApiError(Exception):
    """The API refuses."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message[:MESSAGE_LIMIT]}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after

    @property
    def passing(self) -> bool:
        """Whether asking again soon may help: overload, a restart, or two who wrote one quota at once."""
        return self.status == 429 or self.status >= 500 or (self.status, self.reason) == (409, "Conflict")


class ApiUnreachable(Exception):
    """The API does not answer."""


async def check(response: Any) -> None:
    """Raise ApiError unless the API did what it was asked for."""
    if response.ok:
        return
    try:
        status = json.loads(await response.read())
    except ValueError:  # a proxy's answer, not the API's
        status = {}
    retry_after = response.headers.get("Retry-After", "")
    raise error_of(
        status if isinstance(status, dict) else {},
        response.status,
        float(retry_after) if retry_after.isdecimal() else None,
    )


def error_of(status: Mapping[str, Any], code: int = 500, retry_after: float | None = None) -> ApiError:
    """The error that a Status object is."""
    message = " ".join(str(status.get("message") or "").split())
    return ApiError(int(status.get("code") or code), str(status.get("reason") or ""), message, retry_after)
