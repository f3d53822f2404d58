"""Running one attempt: the action, its heartbeats, its failure, its report."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from rpa_worker.errors import AttemptOver, BusinessFailure
from rpa_worker.job import Job
from rpa_worker.orchestrator import Orchestrator
from rpa_worker.redaction import Redactor
from rpa_worker.reports import Report, broken, completed, failed
from rpa_worker.watching import Watching

logger = logging.getLogger(__name__)

SOONEST_SECONDS = 1.0
"""Between two heartbeats, however short the lease."""

Action = Callable[[Job], Awaitable[dict[str, Any] | None]]


class Attempt:
    """One attempt under way."""

    def __init__(
        self,
        job: Job,
        action: Action,
        orchestrator: Orchestrator,
        redactor: Redactor,
        watching: Watching,
        *,
        heartbeat_seconds: float,
        keep_trace: bool,
    ) -> None:
        """`keep_trace`: of an action that is done, too; that of a failure is kept wherever it is recorded."""
        self.job = job
        self._action = action
        self._orchestrator = orchestrator
        self._redactor = redactor
        self._watching = watching
        self._heartbeat_seconds = heartbeat_seconds
        self._keep_trace = keep_trace
        self._lease_seconds = math.inf
        self.reported: str | None = None
        """How it ended, once that was reported."""
        self._stopping = False
        self._performing: asyncio.Task[Report] | None = None

    async def run(self) -> None:
        """Perform the action and report it; says nothing more once the attempt is over."""
        try:
            async with asyncio.TaskGroup() as group:
                heart = group.create_task(self._beat())
                pictures = group.create_task(self._watching.run())
                self._performing = group.create_task(self._perform())
                report = await self._report_of(self._performing)
                pictures.cancel()
                await self._complete(report)
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
            self.job.phase_changed.clear()
            try:
                timeout = max(self._heartbeat_seconds, 5.0)
                heard = await self._orchestrator.heartbeat(self.job.phase, timeout=timeout)
                self._watching.heard(heard.watched)
                self._lease_seconds = heard.lease_seconds or self._lease_seconds
            except AttemptOver:
                self.job.cancelled = True
                raise
            except httpx.HTTPError as error:
                self._log(logging.WARNING, "heartbeat failed: %r", error)
            await self._pause()

    async def _pause(self) -> None:
        """Until the next heartbeat is due; a new phase is told at once."""
        with contextlib.suppress(TimeoutError):
            due = min(self._heartbeat_seconds, max(self._lease_seconds / 3, SOONEST_SECONDS))
            await asyncio.wait_for(self.job.phase_changed.wait(), due)

    async def _perform(self) -> Report:
        try:
            report = completed(self.job, await self._action(self.job))
        except AttemptOver:
            raise
        except Exception as error:
            if not isinstance(error, BusinessFailure):
                self._log(logging.ERROR, "the action failed\n%s", traceback.format_exc())
            await self._keep("picture of the failure", self.job.picture_failure)
            await self._keep("trace", self.job.keep_trace)
            return failed(self.job, self._redactor, error)
        if self._keep_trace:
            await self._keep("trace", self.job.keep_trace)
        return report

    async def _keep(self, what: str, keep: Callable[[], Awaitable[None]]) -> None:
        """Evidence of ours is welcome, but must not become a failure itself."""
        try:
            await keep()
        except AttemptOver:
            raise
        except Exception as error:
            self._log(logging.WARNING, "no %s: %s", what, str(error) or type(error).__name__)

    async def _report_of(self, performing: asyncio.Task[Report]) -> Report:
        await asyncio.wait([performing])
        if not performing.cancelled():
            return performing.result()
        if self._stopping:
            return self._broken("worker_stopped", "The worker ended before the action did.")
        return self._broken("action_cancelled", "The action cancelled itself.")

    async def _complete(self, report: Report) -> None:
        try:
            await self._orchestrator.complete(report)
        except httpx.HTTPStatusError as error:
            if not error.response.is_client_error:
                raise
            # A result that is refused, too large perhaps, would be refused after each retry as well.
            report = self._broken("report_refused", f"{error}: {error.response.text}")
            await self._orchestrator.complete(report)
        self.reported = report["status"]
        self._log(logging.INFO, "reported %s", self.reported)

    def _broken(self, code: str, message: str) -> Report:
        return broken(self.job, self._redactor, code, message)

    def _log(self, level: int, message: str, *arguments: object) -> None:
        text = self._redactor.clean(message % arguments)
        fields = {"job_id": self.job.id, "attempt": self.job.attempt, "trace_id": self.job.trace_id}
        logger.log(level, "%s", text, extra=fields)
