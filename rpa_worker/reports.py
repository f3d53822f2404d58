"""The body of a completion: how an attempt ended."""

from __future__ import annotations

import json
import re
from typing import Any

from rpa_worker.errors import BusinessFailure
from rpa_worker.job import Job
from rpa_worker.redaction import Redactor

CODE_LIMIT = 100
MESSAGE_LIMIT = 500
WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

Report = dict[str, Any]


def completed(job: Job, result: dict[str, Any] | None) -> Report:
    """The action is done. Raises TypeError or ValueError where JSON cannot say the result."""
    json.dumps(result, allow_nan=False)
    return _report(job, "completed", result=result)


def failed(job: Job, redactor: Redactor, error: Exception) -> Report:
    """The portal says no, or the action broke."""
    if isinstance(error, BusinessFailure):
        return _failure(job, redactor, "business", error.code, error.message)
    return broken(job, redactor, snake_case(type(error).__name__), str(error))


def broken(job: Job, redactor: Redactor, code: str, message: str) -> Report:
    """Something else ended the attempt, which may go better the next time."""
    return _failure(job, redactor, "application", code, message)


def _failure(job: Job, redactor: Redactor, kind: str, code: str, message: str) -> Report:
    message = redactor.clean(message).replace("\0", "")[:MESSAGE_LIMIT]
    return _report(job, "failed", failure={"kind": kind, "code": code[:CODE_LIMIT], "message": message})


def _report(
    job: Job, status: str, *, result: dict[str, Any] | None = None, failure: dict[str, str] | None = None
) -> Report:
    return {
        "status": status,
        "result": result,
        "evidence": job.evidence_names,
        "totp_used": job.totp_used,
        "failure": failure,
    }


def snake_case(name: str) -> str:
    return WORD_START.sub("_", name).lower()
