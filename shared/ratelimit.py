"""Rates, counted in Valkey so that all pods of a function count together."""

from __future__ import annotations

from shared import logs
from shared.http import Unavailable
from shared.valkey_client import Valkey

WINDOW_SECONDS = 60

# Counts one call and answers how many milliseconds to wait: 0 within the limit.
COUNT_CALL = """
local calls = redis.call('INCR', KEYS[1])
if calls == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
if calls <= tonumber(ARGV[1]) then return 0 end
return math.max(redis.call('PTTL', KEYS[1]), 1)
"""

# Takes one call back, while its window lasts.
GIVE_BACK = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('DECR', KEYS[1]) end"


class RateLimiter:
    """Fixed windows of a minute."""

    def __init__(self, valkey: Valkey) -> None:
        self._valkey = valkey

    async def wait(self, key: str, per_minute: int) -> int:
        """Count one call under `key`; 0 if it may pass, else the seconds to wait.

        While Valkey is down calls pass: a limiter that is down must not stop submissions.
        """
        try:
            milliseconds = await self._valkey.script(
                COUNT_CALL, [f"rpa:rate:{key}"], [per_minute, WINDOW_SECONDS * 1000]
            )
        except Unavailable:
            logs.warning("rate limit not counted", reason="Valkey does not answer")
            return 0
        return -(-int(milliseconds) // 1000)

    async def give_back(self, key: str) -> None:
        """One call that was counted under `key` shall not count."""
        try:
            await self._valkey.script(GIVE_BACK, [f"rpa:rate:{key}"], [])
        except Unavailable:
            logs.warning("rate limit not counted", reason="Valkey does not answer")
