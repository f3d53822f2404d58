"""Publishing: right after the commit, in a bounded time; what fails waits in the outbox for reap_idle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import LiteralString

from cloudevents.conversion import to_binary

from shared import logs, spans
from shared.config import EventSettings
from shared.db import UNAVAILABLE, Database
from shared.events import Doorbell
from shared.http_client import HttpClient, Silence

PUBLISH_SECONDS = 2.0
AT_ONCE = 20
"""A broker that is slow already gets slower by the mass, takes what nobody waits for any more, and gets it again."""

# The broker has these; nobody needs to send them again.
FORGET: LiteralString = """
DELETE FROM outbox
USING unnest(%(types)s::text[], %(jobs)s::bigint[], %(attempts)s::int[]) AS sent (type, job_id, attempt)
WHERE (outbox.type, outbox.job_id, outbox.attempt) = (sent.type, sent.job_id, sent.attempt)
"""


class Publisher:
    """Sends doorbells to the broker that K_SINK names."""

    def __init__(self, settings: EventSettings, database: Database, http: HttpClient) -> None:
        self._sink = settings.k_sink
        self._database = database
        self._http = http

    async def publish(self, bells: Sequence[Doorbell]) -> None:
        """Send what was just committed and forget what the broker took. Never raises: the outbox keeps the rest."""
        if bells and not self._sink:
            logs.warning("events stay in the outbox", reason="K_SINK is not set: no SinkBinding names this function")
        if not bells or not self._sink:
            return
        taken = await self.ring(bells)
        if not taken:
            return
        try:
            async with self._database.connection() as connection:
                await connection.execute(
                    FORGET,
                    {
                        "types": [b.type.value for b in taken],
                        "jobs": [b.job_id for b in taken],
                        "attempts": [b.attempt for b in taken],
                    },
                )
        except UNAVAILABLE:
            logs.warning("outbox not cleared", reason="the database does not answer")

    async def ring(self, bells: Sequence[Doorbell]) -> list[Doorbell]:
        """Send doorbells to the broker, as many as can be begun in 2 s; those it took within 2 s each."""
        left, until = iter(bells), time.monotonic() + PUBLISH_SECONDS
        taken: list[Doorbell] = []

        async def send_in_turn() -> None:
            while time.monotonic() < until and (bell := next(left, None)):
                if await self._send(bell):
                    taken.append(bell)

        await asyncio.gather(*(send_in_turn() for _ in range(min(AT_ONCE, len(bells)))))
        return taken

    async def _send(self, bell: Doorbell) -> bool:
        if not self._sink:
            return False
        name = f"publish {bell.type.value}"
        with spans.span(name, "producer", bell.traceparent, job_id=bell.job_id, attempt=bell.attempt) as span:
            problem = await self._problem(self._sink, replace(bell, traceparent=span.traceparent))
            if problem:
                span.fail(problem)
        if problem:
            logs.warning("event not published", event_type=bell.type.value, reason=problem)
        return problem is None

    async def _problem(self, sink: str, bell: Doorbell) -> str | None:
        """None once the broker has it, else why not."""
        headers, body = to_binary(bell.cloud_event())
        try:
            answer = await self._http.call("POST", sink, seconds=PUBLISH_SECONDS, headers=headers, data=body)
        except Silence as silence:
            return str(silence)
        return None if answer.ok else f"broker answered {answer.status}"
