"""Files that workers left, read piece by piece: a slow reader holds a piece of memory, and no connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import LiteralString

from starlette.responses import Response, StreamingResponse

from shared.db import Database
from shared.http import Problem

PIECE = 256 * 1024
DATA = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
}
"""Headers of what is data to a browser, never a page of ours."""

# A file of a job, the newest attempt's unless one is named, and its first piece.
FIND: LiteralString = """
SELECT attempt, content_type, encode(sha256, 'hex'), size, substring(content FROM 1 FOR %(piece)s) FROM evidence
WHERE job_id = %(id)s AND name = %(name)s AND (%(attempt)s::int IS NULL OR attempt = %(attempt)s)
ORDER BY attempt DESC LIMIT 1
"""

# Another piece of it, while it is still the same file.
MORE: LiteralString = """
SELECT substring(content FROM %(from)s FOR %(piece)s) FROM evidence
WHERE (job_id, attempt, name) = (%(id)s, %(attempt)s, %(name)s) AND sha256 = decode(%(digest)s, 'hex')
"""


class Replaced(Exception):
    """The file that is being read is no more: its attempt uploaded another one, or its job was deleted."""


@dataclass(frozen=True, slots=True)
class File:
    """A file, and where the rest of it is."""

    job_id: int
    attempt: int
    name: str
    kind: str
    digest: str
    size: int
    beginning: bytes

    async def content(self, database: Database) -> AsyncIterator[bytes]:
        """All of it. Raises Replaced, and what the database raises."""
        yield self.beginning
        values = {"id": self.job_id, "attempt": self.attempt, "name": self.name, "digest": self.digest, "piece": PIECE}
        for start in range(PIECE, self.size, PIECE):
            async with database.connection() as connection:
                row = await (await connection.execute(MORE, {**values, "from": start + 1})).fetchone()
            if row is None:
                raise Replaced(f"{self.name} of job {self.job_id}, attempt {self.attempt}")
            yield row[0]


async def find(database: Database, job_id: int, name: str, attempt: int | None = None) -> File:
    """The file of this name, the newest attempt's unless one is named. Raises Problem 404."""
    row = None
    if "\0" not in name:  # which PostgreSQL's texts cannot hold
        async with database.connection() as connection:
            values = {"id": job_id, "name": name, "attempt": attempt, "piece": PIECE}
            row = await (await connection.execute(FIND, values)).fetchone()
    if row is None:
        raise Problem(404, f"name: job {job_id} has no evidence of this name", code="unknown_evidence")
    return File(job_id, row[0], name, *row[1:])


def download(database: Database, file: File) -> Response:
    """What somebody uploaded, of this media type: data to a browser, never a page of ours."""
    headers = {
        "Content-Length": str(file.size),
        "ETag": f'"{file.digest}"',
        **DATA,
        "Content-Disposition": "inline" if file.kind.startswith("image/") else "attachment",
    }
    return StreamingResponse(file.content(database), media_type=file.kind, headers=headers)
