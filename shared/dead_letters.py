"""Events that nobody could handle, kept for an operator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import LiteralString

from shared.db import Connection

KEY_BYTES = 800
"""Of each text of the key; an index has no room for more than 2700 in all."""
EVENT_BYTES = 64 * 1024
ROWS = 1000
"""Anybody in the cluster can have events kept: more than these are dropped, the oldest first."""

# One row for an event and the function that could not handle it.
KEEP: LiteralString = """
INSERT INTO dead_letters (event_source, event_id, event_type, destination, reason, event)
VALUES (%(source)s, %(id)s, %(type)s, %(destination)s, %(reason)s, %(event)s)
ON CONFLICT ON CONSTRAINT dead_letters_once
DO UPDATE SET times = dead_letters.times + 1, last_at = now(), reason = EXCLUDED.reason
"""

# Drop what is more than the bound. What somebody else drops, or counts, is left to them and to the next one: two that
# wait for each other's rows would come to nothing.
DROP: LiteralString = """
DELETE FROM dead_letters WHERE id IN (
    SELECT id FROM dead_letters
    WHERE id <= (SELECT id FROM dead_letters ORDER BY id DESC OFFSET %(rows)s LIMIT 1)
    FOR UPDATE SKIP LOCKED)
"""


async def keep(
    connection: Connection, attributes: Mapping[str, object], data: object, destination: str, reason: str
) -> None:
    """Keep an event; the same event again only counts."""
    texts = {name: str(attributes.get(name)) for name in ("source", "id", "type")} | {"destination": destination}
    values = {name: text.encode()[:KEY_BYTES].decode(errors="ignore") for name, text in texts.items()}
    await connection.execute(KEEP, {**values, "reason": reason[:1000], "event": _event(attributes, data)})
    await connection.execute(DROP, {"rows": ROWS})


def _event(attributes: Mapping[str, object], data: object) -> str:
    event = {"attributes": {name: str(value) for name, value in attributes.items()}, "data": data}
    text = json.dumps(event, ensure_ascii=False)
    if "\\u0000" in text:  # jsonb holds every character but NUL: such data is kept as the text of it
        text = json.dumps({**event, "data": ascii(data)}, ensure_ascii=False)
    if len(text.encode()) > EVENT_BYTES:
        text = json.dumps({"attributes": {}, "data": None, "cut_off": text[: EVENT_BYTES // 8]})
    return text
