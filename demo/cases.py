"""The jobs of the demo, and how each one should end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any


@dataclass(frozen=True, slots=True)
class Case:
    """A job, and its expected end."""

    title: str
    provider: str
    action: str
    circuit: str
    priority: int = 5
    expected: str = "completed"
    error: str | None = None
    """Code of the expected error."""
    attempts: int = 1
    totp: bool = False
    demo: str | None = None
    later: bool = False
    """Not before an hour has passed: it can be cancelled meanwhile."""
    twice: bool = False
    """Submitted again under the same external_job_id."""

    def request(self, external_job_id: str) -> dict[str, Any]:
        """The body of POST /jobs."""
        parameters = {"circuit": self.circuit, **({"demo": self.demo} if self.demo else {})}
        body: dict[str, Any] = {
            "provider": self.provider,
            "action": self.action,
            "parameters": parameters,
            "priority": self.priority,
            "max_retries": 2,
            "external_job_id": external_job_id,
        }
        if self.later:
            body["run_after"] = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        return body


DOOMED = Case("worker dies, retried", "openserve", "cancellation", "OPS-KMB-1001", 10, attempts=2, demo="die_once")
"""Submitted alone, since a worker that dies takes all that it is doing with it."""

CASES = (
    Case("needs a login code", "octotel", "validation", "OCT-CPT-2001", 9, totp=True),
    Case("needs a login code too", "octotel", "cancellation", "OCT-CPT-2002", 9, totp=True),
    Case("important", "evotel", "validation", "EVO-DBN-3001", 8),
    Case("urgent", "metrofiber", "validation", "MET-JHB-4001", 10),
    Case("everyday", "metrofiber", "cancellation", "MET-JHB-4002"),
    Case("portal says no", "metrofiber", "validation", "UNKNOWN-4003", expected="failed", error="circuit_unknown"),
    Case("everyday", "openserve", "validation", "OPS-PTA-1002"),
    Case("submitted twice", "openserve", "validation", "OPS-PTA-1003", twice=True),
    Case("everyday", "openserve", "cancellation", "OPS-PTA-1004", 4),
    Case("can wait", "metrofiber", "validation", "MET-JHB-4004", 1),
    Case("least urgent", "openserve", "validation", "OPS-PTA-1005", 0),
    Case("cancelled while it waits", "evotel", "cancellation", "EVO-DBN-3002", expected="cancelled", later=True),
)
