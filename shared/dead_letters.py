"""Events that nobody could handle, kept for an operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import LiteralString

from psycopg.types.json import Jsonb

from shared.db import Connection

# One row for an event and the function that could not handle it.
KEEP: LiteralString = """
INSERT INTO dead_letters (event_source, event_id, event_type, destination, reason, event)
VALUES (%(source)s, %(id)s, %(type)s, %(destination)s, %(reason)s, %(event)s)
ON CONFLICT ON CONSTRAINT dead_letters_once
DO UPDATE SET times = dead_letters.times + 1, last_at = now(), reason = EXCLUDED.reason
"""


async def keep(
    connection: Connection, attributes: Mapping[str, object], data: object, destination: str, reason: str
) -> None:
    """Keep an event; the same event again only counts."""
    # PostgreSQL's text and jsonb hold every character but NUL.
    event = Jsonb({"attributes": {k: str(v) for k, v in attributes.items()}, "data": data})
    values = {name: _text(attributes.get(name)) for name in ("source", "id", "type")}
    await connection.execute(KEEP, {**values, "destination": destination, "reason": _text(reason), "event": event})


def _text(value: object) -> str:
    return str(value).replace("\0", "")[:1000]
