"""What job.finished makes this function do: tell ORDS, until it acknowledges."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from functions.notify import queries
from shared import logs, spans
from shared.db import Database
from shared.events import Doorbell, Poison, TryLater
from shared.http_client import HttpClient, Silence

SOON_SECONDS = 20.0
"""A report due within this is waited for by redelivery; a later one by reap_idle."""
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Report:
    """What ORDS is told about one job."""

    job_id: int
    external_job_id: str | None
    status: str
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    completed_at: datetime
    traceparent: str
    attempt: int
    report_attempts: int

    def body(self) -> dict[str, Any]:
        """As sent."""
        return {
            "job_id": self.job_id,
            "external_job_id": self.external_job_id,
            "status": self.status,
            "result": self.result,
            "error": self.error,
            "completed_at": self.completed_at.isoformat(),
        }

    @property
    def key(self) -> str:
        """The same for each try, so that ORDS can tell a repetition."""
        return f"rpa-job-{self.job_id}"


@dataclass(frozen=True, slots=True)
class Ords:
    """Where and how to report."""

    endpoint: str
    token: str
    timeout: float


class Handler:
    """Answers job.finished."""

    def __init__(self, database: Database, http: HttpClient, ords: Ords) -> None:
        self._database = database
        self._http = http
        self._ords = ords

    async def __call__(self, bell: Doorbell) -> None:
        """Report the job once. Raises Poison or TryLater."""
        report = await self._take(bell.job_id)
        if report is None:
            return await self._outstanding(bell.job_id)
        with spans.span(
            "report to ORDS", "client", report.traceparent, job_id=report.job_id, attempt=report.attempt
        ) as span:
            problem = await self._send(report, span.traceparent)
            span.note(state=report.status, tries=report.report_attempts)
            if problem:
                span.fail(problem)
        if problem is None:
            return await self._acknowledged(report)
        return await self._put_off(report, problem)

    async def _take(self, job_id: int) -> Report | None:
        # Twice the timeout: a report that is still on its way must not be sent by another.
        values = {"job_id": job_id, "lease": 2 * self._ords.timeout + 5}
        async with (
            self._database.connection() as connection,
            connection.cursor(row_factory=class_row(Report)) as cursor,
        ):
            return await (await cursor.execute(queries.TAKE, values)).fetchone()

    async def _outstanding(self, job_id: int) -> None:
        async with self._database.connection() as connection:
            row = await (await connection.execute(queries.OUTSTANDING, {"job_id": job_id})).fetchone()
        if row is None:
            raise Poison(f"data.job_id: there is no job {job_id}; it never was or is past its retention")
        if row[0] and 0 < row[1] <= SOON_SECONDS:
            raise TryLater(row[1], "the report is due soon")

    async def _send(self, report: Report, traceparent: str) -> str | None:
        """None once ORDS acknowledged, else what went wrong."""
        headers = {
            "Authorization": f"Bearer {self._ords.token}",
            "Idempotency-Key": report.key,
            "traceparent": traceparent,
        }
        ords = self._ords
        try:
            answer = await self._http.call(
                "POST", ords.endpoint, seconds=ords.timeout, headers=headers, json=report.body()
            )
        except Silence as silence:
            return str(silence)
        return None if answer.ok else f"ORDS answered {answer.status}"

    async def _acknowledged(self, report: Report) -> None:
        values = {"job_id": report.job_id, "detail": Jsonb({"tries": report.report_attempts})}
        async with self._database.connection() as connection:
            await connection.execute(queries.ACKNOWLEDGED, values)
        logs.info("reported to ORDS", status=report.status, tries=report.report_attempts)

    async def _put_off(self, report: Report, problem: str) -> None:
        wait = min(FIRST_WAIT_SECONDS * 2 ** min(report.report_attempts - 1, 20), LONGEST_WAIT_SECONDS)
        wait *= random.uniform(0.75, 1.25)  # noqa: S311 (spreads the load, guards nothing)
        async with self._database.connection() as connection:
            await connection.execute(queries.PUT_OFF, {"job_id": report.job_id, "wait": wait, "error": problem})
        logs.warning("not reported to ORDS", reason=problem, tries=report.report_attempts, again_in=round(wait, 1))
        if wait <= SOON_SECONDS:
            raise TryLater(wait, problem)
