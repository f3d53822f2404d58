"""Login codes for one who develops: made from a seed of the environment, or typed at the terminal."""

from __future__ import annotations

import asyncio
import binascii
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rpa_worker.runner.notes import note

MIN_VALIDITY = 5
"""Seconds that a code must have left, as the orchestrator has it by default."""


class NoCode(Exception):
    """No code can be made; the message names the setting and the remedy."""


class LoginCodes:
    """Codes of every account, never two of one time step: not within one run, and not in the next one either."""

    def __init__(self, environment: Mapping[str, str], used: Path | None = None) -> None:
        self._environment = environment
        self._used = used or _cache() / "used-time-steps.json"

    async def next(self, account: str) -> str:
        """The account's next code, once its time step has come. Raises NoCode."""
        name = f"{account}_TOTP_SECRET"
        seed = self._environment.get(name)
        if not seed:
            return await self._asked(account, name)
        period = self._number(f"{account}_TOTP_PERIOD", 30, least=0.1, most=300)
        digits = int(self._number(f"{account}_TOTP_DIGITS", 6, least=6, most=8))
        step = self._take_step(account, period)
        code = _made(name, seed, step, digits)
        wait = step * period - time.time()
        if wait > 0:
            note(f"waiting {wait:.0f} s for a login code of {account} that was not used before")
            await asyncio.sleep(wait)
        return code

    async def _asked(self, account: str, name: str) -> str:
        if not sys.stdin.isatty():
            raise NoCode(f"set {name} to the seed of the account's codes, or run this at a terminal to type them")
        print(f"login code of {account}: ", end="", file=sys.stderr, flush=True)
        return await _typed_line()

    def _number(self, name: str, default: float, least: float, most: float) -> float:
        try:
            number = float(self._environment.get(name) or default)
        except ValueError:
            number = math.nan
        if not least <= number <= most:
            raise NoCode(f"{name} must be a number from {least:g} to {most:g}")
        return number

    def _take_step(self, account: str, period: float) -> int:
        """The first time step that no code was made of before, and that has enough time left."""
        now = time.time()
        soonest = int((now + min(MIN_VALIDITY, period / 2)) // period)
        steps = self._read()
        last = steps.get(f"{account} {period:g}", 0)
        # A clock that was wrong once must not make us wait for ever.
        step = last + 1 if soonest <= last <= soonest + 2 else soonest
        steps[f"{account} {period:g}"] = step
        self._used.parent.mkdir(parents=True, exist_ok=True)
        self._used.write_text(json.dumps(steps))
        return step

    def _read(self) -> dict[str, int]:
        try:
            steps = json.loads(self._used.read_text())
        except (OSError, ValueError):
            return {}
        return {name: step for name, step in steps.items() if isinstance(step, int)} if isinstance(steps, dict) else {}


def _made(name: str, seed: str, step: int, digits: int) -> str:
    try:
        import pyotp
    except ModuleNotFoundError:
        raise NoCode(f"{name} is set, but pyotp is not installed: pip install 'rpa-worker[local]'") from None

    class Totp(pyotp.TOTP):
        min_secret_length_bits = 0  # a portal chooses how long its seeds are: many have 80 bits

    try:
        return Totp(seed.replace(" ", ""), digits=digits).generate_otp(step)
    except (binascii.Error, ValueError):
        raise NoCode(f"{name} must be a seed in base32, as the portal shows it to authenticators") from None


async def _typed_line() -> str:
    """What is typed next; the browser goes on meanwhile, and Ctrl-C need not wait for it."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sys.stdin, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sys.stdin)
    return sys.stdin.readline().strip()


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rpa-worker"
