"""The guard against locked accounts: refused codes are counted, and too many pause the account."""

from __future__ import annotations

from shared import logs
from shared.config import LockoutSettings
from shared.valkey_client import Valkey

REJECTION_WINDOW_SECONDS = 600

# Count a refusal once; pause the account at the limit.
# KEYS: the attempt's reservation, refusals, pause. ARGV: account, window s, limit, pause s.
REJECTED = """
if redis.call('HGET', KEYS[1], 'account') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
local times = redis.call('INCR', KEYS[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
if times < tonumber(ARGV[3]) then return 0 end
redis.call('DEL', KEYS[2])
redis.call('SET', KEYS[3], '1', 'EX', ARGV[4])
return 1
"""


class Lockout:
    """Counts refusals for each account."""

    def __init__(self, settings: LockoutSettings, valkey: Valkey) -> None:
        self._settings = settings
        self._valkey = valkey

    async def rejected(self, provider: str, job_id: int, attempt: int) -> None:
        """The portal refused the attempt's last code; its next one will be another. Raises Unavailable.

        Too many refusals pause the account before the portal locks it.
        """
        reservation = key(provider, "reserved", f"{job_id}:{attempt}")
        account = await self._valkey.command("hget", reservation, "account")
        if account is None:
            return
        limits = [REJECTION_WINDOW_SECONDS, self._settings.totp_max_rejections, self._settings.totp_pause]
        keys = [reservation, key(provider, "rejections", account), key(provider, "paused", account)]
        if await self._valkey.script(REJECTED, keys, [account, *limits]):
            logs.warning("account paused", provider=provider, account=account, seconds=self._settings.totp_pause)


def key(provider: str, what: str, whose: str) -> str:
    """A Valkey key with one hash tag per provider: in a cluster all keys of a script must live together."""
    return f"rpa:totp:{{{provider}}}:{what}:{whose}"
