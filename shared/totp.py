"""Login codes: Valkey puts callers in order on its own clock, PostgreSQL's ledger makes "never twice" true.

A request reserves the next free time step of the soonest free account, waits until that step begins, and
then enters it into the ledger together with the proof that its attempt is still live. The code is made last
and stored nowhere. Losing Valkey loses the order of those who wait, never the ledger.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import LiteralString

from psycopg.types.json import Jsonb
from pyotp import TOTP

from shared import logs, spans
from shared.config import TotpSettings
from shared.db import Database
from shared.http import Problem, Unavailable
from shared.lockout import key
from shared.providers import Provider
from shared.tokens import Attempt
from shared.valkey_client import Valkey

CONFLICTS_TOLERATED = 20
PAUSED_SECONDS = 60
"""When to ask again for a code of an account that an operator paused."""

# Reserve a step: {"step", account, step, milliseconds to wait, milliseconds it lives}, or {"wait"|"paused", seconds}.
# KEYS: the attempt's reservation, then for each account its last step and its pause.
# ARGV: period ms, least validity ms, longest wait ms, step to skip or -1, account names.
RESERVE = """
local period, least_validity = tonumber(ARGV[1]), tonumber(ARGV[2])
local longest, used = tonumber(ARGV[3]), tonumber(ARGV[4])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local first = math.floor(now / period)
if (first + 1) * period - now < least_validity then first = first + 1 end

local function answer(account, step)
    return {'step', account, step, math.max(step * period - now, 0), (step + 1) * period - now}
end

local function keep(step)
    redis.call('PEXPIRE', KEYS[1], math.max(step * period - now, 0) + 2 * period)
end

local mine = redis.call('HMGET', KEYS[1], 'account', 'step')
local my_step = tonumber(mine[2])
if my_step and my_step ~= used and my_step >= first then
    keep(my_step) -- a write, so that WAIT counts it
    return answer(mine[1], my_step)
end

local best, best_step, paused
for i = 5, #ARGV do
    local last_key, pause_key = KEYS[2 * (i - 5) + 2], KEYS[2 * (i - 5) + 3]
    local pause = redis.call('PTTL', pause_key)
    if pause > 0 then
        paused = math.min(paused or pause, pause)
    else
        local step = math.max(tonumber(redis.call('GET', last_key) or '0') + 1, first)
        if used >= 0 and mine[1] == ARGV[i] then step = math.max(step, used + 1) end
        if not best_step or step < best_step then best, best_step = i, step end
    end
end
if not best then return {'paused', math.ceil((paused or period) / 1000)} end
local wait = best_step * period - now
if wait > longest then return {'wait', math.ceil((wait - longest) / 1000)} end
redis.call('SET', KEYS[2 * (best - 5) + 2], string.format('%.0f', best_step), 'PX', math.max(wait, 0) + 10 * period)
redis.call('HSET', KEYS[1], 'account', ARGV[best], 'step', string.format('%.0f', best_step))
keep(best_step)
return answer(ARGV[best], best_step)
"""

# The attempt's bound account while it is live, and the accounts that operators paused.
LIVE_ATTEMPT: LiteralString = """
SELECT account, ARRAY(SELECT name FROM pauses WHERE kind = 'account') FROM jobs
WHERE id = %(job_id)s AND attempt = %(attempt)s AND provider = %(provider)s AND state IN ('dispatching', 'running')
"""

# Give a step to an attempt: only while it is live, only of an account that is not paused, and only if no other attempt
# ever had it; nor it, if it is refused.
HAND_OUT: LiteralString = """
WITH live AS (
    UPDATE jobs SET account = %(account)s
    WHERE id = %(job_id)s AND attempt = %(attempt)s AND provider = %(provider)s AND state IN ('dispatching', 'running')
    RETURNING id, attempt, state
), given AS (
    INSERT INTO totp_steps (account, step, job_id, attempt)
    SELECT %(account)s, %(step)s, id, attempt FROM live
    WHERE NOT EXISTS (SELECT FROM pauses WHERE kind = 'account' AND name = %(account)s)
    ON CONFLICT (account, step) DO UPDATE SET issued_at = totp_steps.issued_at
        WHERE (totp_steps.job_id, totp_steps.attempt) = (EXCLUDED.job_id, EXCLUDED.attempt) AND NOT %(refused)s
    RETURNING step
), noted AS (
    INSERT INTO history (job_id, attempt, event, from_state, to_state, detail)
    SELECT live.id, live.attempt, 'totp_issued', live.state, live.state, %(detail)s FROM live, given
)
SELECT (SELECT count(*) FROM live), (SELECT count(*) FROM given)
"""


@dataclass(frozen=True, slots=True)
class Code:
    """A login code that nobody else gets."""

    code: str = field(repr=False)
    account: str
    expires_at: datetime
    valid_for_seconds: float


@dataclass(frozen=True, slots=True)
class _Reservation:
    account: str
    step: int
    wait_seconds: float
    lives_seconds: float


class StaleAttempt(Problem):
    """The attempt is over: a worker that lost its lease cannot log in any more."""

    def __init__(self) -> None:
        super().__init__(409, "this attempt is over; stop working on it", code="stale_attempt")


class TotpIssuer:
    """Gives out login codes for the accounts of all providers."""

    def __init__(self, settings: TotpSettings, database: Database, valkey: Valkey) -> None:
        self._settings = settings
        self._database = database
        self._valkey = valkey

    @property
    def longest_seconds(self) -> float:
        """How long a code may have to be waited for."""
        return float(self._settings.totp_max_wait)

    async def issue(self, provider: Provider, attempt: Attempt, *, refused: bool = False) -> Code:
        """A code for this attempt, in its turn; if `refused`, one it never had. Raises Problem 409 or 503."""
        with spans.span("wait for a login code", "internal", None, provider=provider.name) as span:
            span.note(job_id=attempt.job_id, attempt=attempt.attempt)
            return await self._issue(provider, attempt, refused)

    async def _issue(self, provider: Provider, attempt: Attempt, refused: bool) -> Code:
        asked = time.monotonic()
        used = -1
        for _ in range(CONFLICTS_TOLERATED):
            accounts = await self._accounts(provider, attempt)
            reservation = await self._reserve(provider, attempt, accounts, used)
            reserved = time.monotonic()
            await asyncio.sleep(reservation.wait_seconds)
            left = reservation.lives_seconds - (time.monotonic() - reserved)
            # A process that was stopped meanwhile may wake too late for its step.
            if left > 0 and await self._hand_out(provider, attempt, reservation, refused, time.monotonic() - asked):
                return self._code(provider, reservation, left)
            used = reservation.step
        raise Unavailable("the order of login codes")

    async def _accounts(self, provider: Provider, attempt: Attempt) -> list[str]:
        values = {"job_id": attempt.job_id, "attempt": attempt.attempt, "provider": provider.name}
        async with self._database.connection() as connection:
            row = await (await connection.execute(LIVE_ATTEMPT, values)).fetchone()
        if row is None:
            raise StaleAttempt
        bound, paused = row
        names = [bound] if bound and provider.binds_accounts else [a.credentials for a in provider.accounts]
        if free := [name for name in names if name not in paused]:
            return free
        raise _not_now("paused", f"paused by an operator: {', '.join(names)}", PAUSED_SECONDS)

    async def _reserve(self, provider: Provider, attempt: Attempt, accounts: Sequence[str], used: int) -> _Reservation:
        keys = [key(provider.name, "reserved", f"{attempt.job_id}:{attempt.attempt}")]
        for account in accounts:
            keys += [key(provider.name, "last", account), key(provider.name, "paused", account)]
        settings = self._settings
        least = min(settings.totp_min_validity, provider.totp_period / 2)
        answer = await self._valkey.replicated(
            RESERVE,
            keys,
            [int(provider.totp_period * 1000), int(least * 1000), settings.totp_max_wait * 1000, used, *accounts],
        )
        match answer:
            case ["step", account, step, wait, lives]:
                return _Reservation(str(account), int(step), int(wait) / 1000, int(lives) / 1000)
            case ["paused", seconds]:
                raise _not_now(
                    "paused", f"every account of {provider.name} is paused after refused codes", int(seconds)
                )
            case [_, seconds]:
                longest = settings.totp_max_wait
                raise _not_now("queue_full", f"the next free code is more than {longest} s away", int(seconds))
            case _:
                raise Unavailable("Valkey")

    async def _hand_out(
        self, provider: Provider, attempt: Attempt, reservation: _Reservation, refused: bool, waited: float
    ) -> bool:
        detail: dict[str, logs.Scalar] = {
            "account": reservation.account,
            "step": reservation.step,
            "waited_seconds": round(waited, 3),
        }
        values = {
            "job_id": attempt.job_id,
            "attempt": attempt.attempt,
            "provider": provider.name,
            "account": reservation.account,
            "step": reservation.step,
            "refused": refused,
            "detail": Jsonb(detail),
        }
        async with self._database.connection() as connection:
            row = await (await connection.execute(HAND_OUT, values)).fetchone()
        live, given = row or (0, 0)
        if not live:
            raise StaleAttempt
        logs.info("totp issued" if given else "totp step not given", provider=provider.name, **detail)
        return bool(given)

    def _code(self, provider: Provider, reservation: _Reservation, left: float) -> Code:
        maker = Maker(self._settings.seed(reservation.account), digits=provider.totp_digits)
        expires_at = datetime.fromtimestamp((reservation.step + 1) * provider.totp_period, UTC)
        return Code(maker.generate_otp(reservation.step), reservation.account, expires_at, round(left, 3))


class Maker(TOTP):
    """Makes codes of seeds of any length (RFC 6238)."""

    min_secret_length_bits = 0
    """A portal chooses how long its seeds are: many have 80 bits, and pyotp would refuse these."""


def _not_now(code: str, detail: str, seconds: int) -> Problem:
    return Problem(503, f"{detail}; try again in {seconds} s", code=code, headers={"Retry-After": str(max(seconds, 1))})
