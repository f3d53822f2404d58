"""Accounts: their pauses, and the queue for their login codes as Valkey has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from functions.monitor.models import AccountState, Pause
from shared.lockout import key
from shared.providers import Provider
from shared.valkey_client import Valkey

GUARD = "lockout guard"

# The clock in ms, then for each account its last step or -1 and its pause in ms. KEYS: last and pause of each.
QUEUES = """
local clock = redis.call('TIME')
local answer = {clock[1] * 1000 + math.floor(clock[2] / 1000)}
for i = 1, #KEYS, 2 do
    table.insert(answer, tonumber(redis.call('GET', KEYS[i]) or '-1'))
    table.insert(answer, redis.call('PTTL', KEYS[i + 1]))
end
return answer
"""


@dataclass(frozen=True, slots=True)
class Queue:
    """Who waits for an account's codes at one provider. Milliseconds."""

    now: int
    wait: int
    waiting: int
    paused: int


async def account_states(
    valkey: Valkey, providers: Iterable[Provider], paused: Mapping[str, Pause], least_validity: float
) -> list[AccountState]:
    """All accounts by name; `paused` by operators, `least_validity` of a code in seconds. Raises Unavailable."""
    users: dict[str, list[str]] = {}
    queues: dict[str, list[Queue]] = {}
    for provider in providers:
        for account in provider.accounts:
            users.setdefault(account.credentials, []).append(provider.name)
        if provider.totp != "none":
            for name, queue in await _queues(valkey, provider, least_validity):
                queues.setdefault(name, []).append(queue)
    return [_state(name, users[name], queues.get(name, []), paused.get(name)) for name in sorted(users)]


async def _queues(valkey: Valkey, provider: Provider, least_validity: float) -> list[tuple[str, Queue]]:
    names = [account.credentials for account in provider.accounts]
    keys = [key(provider.name, what, name) for name in names for what in ("last", "paused")]
    now, *values = await valkey.script(QUEUES, keys, [])
    told = zip(names, values[::2], values[1::2], strict=True)
    return [(name, _queue(provider, least_validity, now, last, pause)) for name, last, pause in told]


def _queue(provider: Provider, least_validity: float, now: int, last: int, pause: int) -> Queue:
    period = int(provider.totp_period * 1000)
    current = now // period
    least = min(least_validity, provider.totp_period / 2) * 1000
    first = current + ((current + 1) * period - now < least)  # as issue_totp chooses it
    wait = max(max(last + 1, first) * period - now, pause, 0)
    return Queue(now, wait, max(last - current, 0), max(pause, 0))


def _state(name: str, users: list[str], queues: list[Queue], paused: Pause | None) -> AccountState:
    slowest = max(queues, key=lambda queue: queue.wait, default=None)
    if slowest and not paused and (locked := max(queue.paused for queue in queues)):
        until = _time(slowest.now + locked)
        paused = Pause(by=GUARD, at=None, reason="the portal refused its codes", until=until)
    known = slowest if not (paused and paused.until is None) else None
    return AccountState(
        account=name,
        providers=users,
        paused=paused,
        next_free_at=_time(known.now + known.wait) if known else None,
        predicted_wait_seconds=known.wait / 1000 if known else None,
        waiting=sum(queue.waiting for queue in queues) if queues else None,
    )


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
