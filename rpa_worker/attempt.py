"""Running one attempt: the action, its heartbeats, its failure, its report."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from rpa_worker.errors import AttemptOver, BusinessFailure
from rpa_worker.job import Job
from rpa_worker.orchestrator import Orchestrator
from rpa_worker.redaction import Redactor

logger = logging.getLogger(__name__)

Action = Callable[[Job], Awaitable[dict[str, Any] | None]]

CODE_LIMIT = 100
MESSAGE_LIMIT = 500
WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Attempt:
    """One attempt under way."""

    def __init__(
        self,
        job: Job,
        action: Action,
        orchestrator: Orchestrator,
        redactor: Redactor,
        *,
        heartbeat_seconds: float,
    ) -> None:
        self.job = job
        self._action = action
        self._orchestrator = orchestrator
        self._redactor = redactor
        self._heartbeat_seconds = heartbeat_seconds
        self._stopping = False
        self._performing: asyncio.Task[dict[str, Any]] | None = None

    async def run(self) -> None:
        """Perform the action and report it; says nothing more once the attempt is over."""
        try:
            async with asyncio.TaskGroup() as group:
                heart = group.create_task(self._beat())
                self._performing = group.create_task(self._perform())
                await self._complete(await self._report_of(self._performing))
                heart.cancel()
        except* AttemptOver:
            self._log(logging.INFO, "the attempt is over; nothing is reported")
        except* httpx.HTTPError as errors:
            # The lease runs out and the orchestrator decides: nothing is left to do here.
            self._log(logging.ERROR, "could not report: %r", errors.exceptions[0])

    def stop(self) -> None:
        """End the action because the worker ends; the orchestrator is told at once."""
        self._stopping = True
        if self._performing is not None:
            self._performing.cancel()

    async def _beat(self) -> None:
        while True:
            try:
                await self._orchestrator.heartbeat(self.job.phase, timeout=max(self._heartbeat_seconds, 5.0))
            except AttemptOver:
                self.job.cancelled = True
                raise
            except httpx.HTTPError as error:
                self._log(logging.WARNING, "heartbeat failed: %r", error)
            await asyncio.sleep(self._heartbeat_seconds)

    async def _perform(self) -> dict[str, Any]:
        try:
            result = _sendable(await self._action(self.job))
        except AttemptOver:
            raise
        except BusinessFailure as failure:
            return await self._failed("business", failure.code, failure.message)
        except Exception as error:
            self._log(logging.ERROR, "the action failed\n%s", traceback.format_exc())
            return await self._failed("application", snake_case(type(error).__name__), str(error))
        return self._report("completed", result=result)

    async def _report_of(self, performing: asyncio.Task[dict[str, Any]]) -> dict[str, Any]:
        await asyncio.wait([performing])
        if not performing.cancelled():
            return performing.result()
        if self._stopping:
            return self._failure("application", "worker_stopped", "The worker ended before the action did.")
        return self._failure("application", "action_cancelled", "The action cancelled itself.")

    async def _complete(self, report: dict[str, Any]) -> None:
        try:
            await self._orchestrator.complete(report)
        except httpx.HTTPStatusError as error:
            if not error.response.is_client_error:
                raise
            # A result that is refused, too large perhaps, would be refused after each retry as well.
            report = self._failure("application", "report_refused", f"{error}: {error.response.text}")
            await self._orchestrator.complete(report)
        self._log(logging.INFO, "reported %s", report["status"])

    async def _failed(self, kind: str, code: str, message: str) -> dict[str, Any]:
        await self._keep_screenshot()
        return self._failure(kind, code, message)

    async def _keep_screenshot(self) -> None:
        """A picture of the failure is welcome, but must not become a failure itself."""
        try:
            await self.job.picture_failure()
        except AttemptOver:
            raise
        except Exception as error:
            self._log(logging.WARNING, "no screenshot of the failure: %s", error)

    def _failure(self, kind: str, code: str, message: str) -> dict[str, Any]:
        message = self._redactor.clean(message).replace("\0", "")[:MESSAGE_LIMIT]
        failure = {"kind": kind, "code": code[:CODE_LIMIT], "message": message}
        return self._report("failed", failure=failure)

    def _report(
        self, status: str, *, result: dict[str, Any] | None = None, failure: dict[str, str] | None = None
    ) -> dict[str, Any]:
        return {
            "status": status,
            "result": result,
            "evidence": self.job.evidence_names,
            "totp_used": self.job.totp_used,
            "failure": failure,
        }

    def _log(self, level: int, message: str, *arguments: object) -> None:
        text = self._redactor.clean(message % arguments)
        fields = {"job_id": self.job.id, "attempt": self.job.attempt, "trace_id": self.job.trace_id}
        logger.log(level, "%s", text, extra=fields)


def _sendable(result: dict[str, Any] | None) -> dict[str, Any] | None:
    """The result, if it can be said in JSON. Raises TypeError, ValueError."""
    json.dumps(result, allow_nan=False)
    return result


def snake_case(name: str) -> str:
    return WORD_START.sub("_", name).lower()
