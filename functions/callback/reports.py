"""What a worker's report does to its job."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict
from datetime import datetime

from psycopg.types.json import Jsonb

from functions.callback import queries
from functions.callback.models import EVIDENCE_NAME, Completion, Heartbeat
from shared.config import LeaseSettings
from shared.db import Connection
from shared.events import Doorbell
from shared.http import Problem, invalid
from shared.jobs import Ending, Failure, Kind, State, end_attempt
from shared.tokens import Attempt

CONTENT_TYPE = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,60}(; ?[\w-]{1,30}=[\w.-]{1,60})?", re.ASCII)
FILES_PER_ATTEMPT = 100
BYTES_PER_ATTEMPT = 100 * 1024 * 1024


def _over(token: Attempt, state: str | None, attempt: int) -> Problem:
    if state is None:
        which = f"job {token.job_id} of {token.provider}"
        return Problem(409, f"there is no {which} any more; stop working on it", code="unknown_job")
    if attempt != token.attempt:
        return Problem(
            409,
            f"attempt {token.attempt} is over, the job is at attempt {attempt}; stop working on it",
            code="stale_attempt",
        )
    code = "cancelled" if state == State.CANCELLED else "finished"
    return Problem(409, f"the job is {state}; stop working on it", code=code)


async def _standing(connection: Connection, token: Attempt) -> tuple[str | None, int, bool]:
    row = await (await connection.execute(queries.STANDING, asdict(token))).fetchone()
    return (row[0], row[1], row[2]) if row else (None, 0, False)


async def heartbeat(
    connection: Connection, token: Attempt, beat: Heartbeat, leases: LeaseSettings
) -> tuple[datetime, float]:
    """Until when the lease now runs, and for how many seconds. Raises Problem 409 where the attempt is over."""
    values = {
        **asdict(token),
        "lease": leases.heartbeat_timeout,
        "longest": leases.longest_attempt,
        "phase": beat.phase,
        "detail": Jsonb({"by": "heartbeat", **({"phase": beat.phase} if beat.phase else {})}),
    }
    row = await (await connection.execute(queries.HEARTBEAT, values)).fetchone()
    if row is None:
        state, attempt, _ = await _standing(connection, token)
        raise _over(token, state, attempt)
    return row[0], row[1]


async def runs(connection: Connection, token: Attempt) -> None:
    """Raises Problem 409 where the attempt is over."""
    if await (await connection.execute(queries.RUNS, asdict(token))).fetchone() is None:
        state, attempt, _ = await _standing(connection, token)
        raise _over(token, state, attempt)


async def keep_evidence(connection: Connection, token: Attempt, name: str, content_type: str, content: bytes) -> str:
    """Keep a file of the attempt; its SHA-256. Raises Problem 409, 413 or 422."""
    if not EVIDENCE_NAME.fullmatch(name):
        raise invalid(
            "name",
            "must be 1 to 100 letters, digits, dots, dashes and underscores, the first a letter or digit",
        )
    if not CONTENT_TYPE.fullmatch(content_type):
        raise invalid("Content-Type", "must be a media type such as image/png")
    values = {**asdict(token), "name": name}
    row = await (await connection.execute(queries.EVIDENCE_SO_FAR, values)).fetchone()
    if row and (row[0] >= FILES_PER_ATTEMPT or row[1] + len(content) > BYTES_PER_ATTEMPT):
        raise Problem(
            413,
            f"body: an attempt keeps {FILES_PER_ATTEMPT} files and {BYTES_PER_ATTEMPT} bytes at most; send less",
            code="too_large",
        )
    digest = hashlib.sha256(content)
    values |= {
        "content_type": content_type,
        "size": len(content),
        "sha256": digest.digest(),
        "content": content,
    }
    if await (await connection.execute(queries.KEEP_EVIDENCE, values)).fetchone() is None:
        state, attempt, _ = await _standing(connection, token)
        raise _over(token, state, attempt)
    return digest.hexdigest()


async def complete(
    connection: Connection, token: Attempt, report: Completion, leases: LeaseSettings
) -> tuple[State, Doorbell | None]:
    """End the attempt as the worker says; told twice it ends once. Raises Problem 409 or 422."""
    await _uploaded(connection, token, report.evidence)
    ended = await end_attempt(connection, _ending(token, report), leases)
    if ended:
        return ended
    state, attempt, told = await _standing(connection, token)
    if told and state:
        return State(state), None
    raise _over(token, state, attempt)


def _ending(token: Attempt, report: Completion) -> Ending:
    failure = report.failure
    return Ending(
        token.job_id,
        token.attempt,
        State.COMPLETED if failure is None else State.FAILED,
        report.status,
        states=(State.DISPATCHING, State.RUNNING),
        provider=token.provider,
        result=report.result,
        failure=Failure(Kind(failure.kind), failure.code, failure.message) if failure else None,
        detail={"by": "worker", "totp_used": report.totp_used},
    )


async def _uploaded(connection: Connection, token: Attempt, names: list[str]) -> None:
    values = {**asdict(token), "names": names}
    rows = await (await connection.execute(queries.EVIDENCE_NAMES, values)).fetchall() if names else []
    known = {row[0] for row in rows}
    for n, name in enumerate(names):
        if name not in known:
            raise invalid(f"evidence.{n}", "was not uploaded in this attempt; PUT /callbacks/evidence/{name} first")
