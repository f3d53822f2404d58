"""The current picture of an attempt: kept in Valkey alone, for seconds, and only while somebody looks."""

from __future__ import annotations

import asyncio
import base64

from shared.http import Unavailable
from shared.tokens import Attempt
from shared.valkey_client import Valkey

LOOKED_AT_SECONDS = 15
"""How long a look counts: longer than a page's pause, and than a worker's between two heartbeats."""
FRESH_SECONDS = 10
ASIDE_SECONDS = 0.5
"""A heartbeat waits no longer for this: leases come first."""

# Somebody looks; the newest picture.
LOOK = """
redis.call('SET', KEYS[1], '1', 'EX', ARGV[1])
return redis.call('GET', KEYS[2])
"""

# The newest picture takes the place of the one before; whether somebody looks: if not, it is not kept.
SHOW = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
return 1
"""

# Whether somebody looks.
WATCHED = "return redis.call('EXISTS', KEYS[1])"


class Pictures:
    """Between those who look and the worker; while Valkey is away there are none, and all else goes on."""

    def __init__(self, valkey: Valkey) -> None:
        self._valkey = valkey

    async def look(self, job_id: int, attempt: int) -> bytes | None:
        """The newest picture (JPEG), and word to the worker that somebody looks. Raises Unavailable."""
        picture = await self._valkey.script(LOOK, _keys(job_id, attempt), [LOOKED_AT_SECONDS])
        return base64.b64decode(picture) if picture else None

    async def show(self, attempt: Attempt, jpeg: bytes) -> bool:
        """Keep the newest picture of an attempt; whether somebody looks."""
        picture = base64.b64encode(jpeg).decode()  # the client reads texts
        try:
            keys = _keys(attempt.job_id, attempt.attempt)
            return bool(await self._valkey.script(SHOW, keys, [picture, FRESH_SECONDS]))
        except Unavailable:
            return False

    async def watched(self, attempt: Attempt) -> bool:
        """Whether somebody looks at this attempt."""
        try:
            async with asyncio.timeout(ASIDE_SECONDS):
                return bool(await self._valkey.script(WATCHED, _keys(attempt.job_id, attempt.attempt)[:1], []))
        except (Unavailable, TimeoutError):
            return False


def _keys(job_id: int, attempt: int) -> list[str]:
    return [f"rpa:{{picture:{job_id}}}:{attempt}:{what}" for what in ("looked_at", "jpeg")]
