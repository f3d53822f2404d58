"""Slows down those who guess passwords, without locking out those who know them.

Failures are counted, of a name and an address together first: a stranger who guesses uses up tries of his own. Two
higher bounds hold what many addresses can try: all failures of an address, and all of a name, from which a caller is
exempt at an address where this name was right before.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from starlette.requests import Request

from shared import logs
from shared.http import Unavailable, too_many
from shared.ratelimit import RateLimiter
from shared.valkey_client import Valkey

PER_PAIR_AND_MINUTE = 10
PER_ADDRESS_AND_MINUTE = 30
PER_NAME_AND_MINUTE = 100
WITHOUT_ADDRESS_AND_MINUTE = 300
"""Of all callers together whose address is not known: what a pod's hash checks can bear."""
KNOWN_SECONDS = 30 * 24 * 3600


def caller_address(request: Request, proxies: int) -> str | None:
    """Where the caller is: what the first of our proxies appended to X-Forwarded-For. None where nobody says so.

    A caller may send that header, too, but only on the left of what our proxies append.
    """
    hops = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
    if not 0 < proxies <= len(hops):
        return None
    try:
        address = ip_address(hops[-proxies].strip())
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        # Whoever has one IPv6 address has the other 2^64 of its network.
        return str(address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64))
    return str(address)


@dataclass(frozen=True, slots=True)
class Try:
    """One try that was counted: under which keys, and under which one its success is remembered."""

    keys: tuple[str, ...]
    known: str | None


class Guard:
    """Counts tries before they are checked, so that many at once are many; gives back those that were right."""

    def __init__(self, limiter: RateLimiter, valkey: Valkey) -> None:
        self._limiter = limiter
        self._valkey = valkey

    async def enter(self, name: str, address: str | None) -> Try:
        """Count a try of this name from this address. Raises Problem 429."""
        who, pair = _digest(name), _digest(name, address or "")
        known = f"rpa:known:{pair}" if address else None
        # Each bound is asked only within those before it: nobody uses up another's by knocking on a closed door.
        bounds = [(f"token:pair:{pair}", PER_PAIR_AND_MINUTE)]
        if address:
            bounds += [(f"token:address:{address}", PER_ADDRESS_AND_MINUTE)]
            bounds += [(f"token:name:{who}", PER_NAME_AND_MINUTE)]
        else:
            bounds += [("token:without-address", WITHOUT_ADDRESS_AND_MINUTE)]
        for key, per_minute in bounds:
            wait = await self._limiter.wait(key, per_minute)
            exempt = wait and key.startswith("token:name:") and await self._was_right(known)
            if wait and not exempt:
                raise too_many(wait, f"too many failed requests for a token; wait {wait} s")
        return Try(tuple(key for key, _ in bounds), known)

    async def _was_right(self, known: str | None) -> bool:
        return bool(known and await self._valkey.command("exists", known))

    async def right(self, attempt: Try) -> None:
        """The password was right: no failure, and remembered for 30 days."""
        for key in attempt.keys:
            await self._limiter.give_back(key)
        if attempt.known:
            try:
                await self._valkey.command("setex", attempt.known, KNOWN_SECONDS, 1)
            except Unavailable:
                logs.warning("success not remembered", reason="Valkey does not answer")


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
