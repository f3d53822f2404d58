"""Dead letters: listed, and what they announce sent again."""

from __future__ import annotations

from typing import Any, LiteralString

from psycopg.rows import dict_row

from functions.monitor import queries
from functions.monitor.models import DeadLetter, DeadLetters, DeadLetterWithEvent, Replayed
from shared import cursors
from shared.db import Connection
from shared.events import SOURCE, Doorbell, Type
from shared.http import Problem

REPLAY_LIMIT = 100
OURS = {"source": SOURCE, "types": [kind.value for kind in Type]}
REFUSALS = {
    "foreign": ("not_ours", "its type is none of ours, so nobody here would handle it"),
    "forged": ("not_ours", "it says that it is ours, but its source or id is not what we give such an event"),
    "job_gone": ("unknown_job", "its job never was or is past its retention"),
}


async def page(connection: Connection, limit: int, cursor: str | None) -> DeadLetters:
    """One page of letters. Raises Problem 422 for a bad cursor."""
    rows = await _rows(connection, queries.LETTERS, limit=limit + 1, before=cursors.decode(cursor))
    items = [DeadLetter.model_validate(row) for row in rows[:limit]]
    return DeadLetters(items=items, next_cursor=cursors.encode(items[-1].id) if len(rows) > limit else None)


async def get(connection: Connection, letter_id: int) -> DeadLetterWithEvent:
    """One letter. Raises Problem 404."""
    return DeadLetterWithEvent.model_validate(await _letter(connection, letter_id))


async def replay(connection: Connection, letter_id: int, by: str) -> tuple[DeadLetterWithEvent, list[Doorbell]]:
    """The letter as it is then, and what to publish: nothing where it was replayed and has not come back since.

    Raises Problem 404, or 409 for an event that is not ours or whose job is gone.
    """
    letter = await _letter(connection, letter_id)
    if letter["refusal"]:
        code, why = REFUSALS[letter["refusal"]]
        raise Problem(409, f"dead letter {letter_id} cannot be replayed: {why}", code=code)
    bells = await _replay(connection, by, letter_id, 1)
    return await get(connection, letter_id), bells


async def replay_all(connection: Connection, by: str) -> tuple[Replayed, list[Doorbell]]:
    """Replay the oldest open letters, 100 at most; how many, and what to publish."""
    bells = await _replay(connection, by, None, REPLAY_LIMIT)
    (row,) = await _rows(connection, queries.REPLAYABLE)
    return Replayed(replayed=len(bells), more=row["more"]), list({bell.id: bell for bell in bells}.values())


async def _replay(connection: Connection, by: str, letter_id: int | None, limit: int) -> list[Doorbell]:
    rows = await _rows(connection, queries.REPLAY, id=letter_id, limit=limit, by=by)
    return [Doorbell(Type(r["event_type"]), r["job_id"], r["attempt"], r["traceparent"]) for r in rows]


async def _letter(connection: Connection, letter_id: int) -> dict[str, Any]:
    rows = await _rows(connection, queries.LETTER, id=letter_id)
    if not rows:
        raise Problem(404, f"id: there is no dead letter {letter_id}", code="unknown_letter")
    return rows[0]


async def _rows(connection: Connection, statement: LiteralString, **values: object) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        rows = await (await cursor.execute(statement, {**OURS, **values})).fetchall()
    return [{**row, "replayable": row.get("refusal") is None} for row in rows]
