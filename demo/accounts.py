"""The portals' accounts, and the check of login codes after RFC 6238 section 5.2."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyotp

TOLERANCE = 1
"""Steps that a clock may be off."""


class CodeRefused(Exception):
    """The code is wrong, or was used before."""


@dataclass(slots=True)
class Account:
    """One login at one portal."""

    prefix: str
    """Of its variables, such as OCTOTEL_2."""
    username: str
    password: str = field(repr=False)
    totp: pyotp.TOTP | None = field(default=None, repr=False)
    period: float = 30.0
    """Seconds of a code's time step."""
    last_step: int = -1

    def knows(self, username: str, password: str) -> bool:
        """Whether these are its credentials, in constant time."""
        right = f"{self.username}\0{self.password}".encode()
        return hmac.compare_digest(right, f"{username}\0{password}".encode())

    def use_code(self, code: str, now: float) -> int:
        """The time step of the code, which no later login can use again. Raises CodeRefused."""
        assert self.totp is not None  # noqa: S101 - asked only of accounts that have codes
        current = int(now // self.period)
        for step in range(current - TOLERANCE, current + TOLERANCE + 1):
            if hmac.compare_digest(self.totp.generate_otp(step), code):
                return self._use_step(step)
        raise CodeRefused("This code is not right.")

    def _use_step(self, step: int) -> int:
        if step <= self.last_step:
            raise CodeRefused("This code was used before. Wait for the next one.")
        self.last_step = step
        return step


def read_accounts(operator: str, environment: Mapping[str, str]) -> list[Account]:
    """The operator's accounts: <OPERATOR>_USERNAME, <OPERATOR>_2_USERNAME and so on."""
    name = re.compile(rf"({operator.upper()}(?:_\d+)?)_(?:USERNAME|EMAIL)")
    prefixes = sorted({match[1] for key in environment if (match := name.fullmatch(key))})
    return [_account(prefix, environment) for prefix in prefixes]


def _account(prefix: str, environment: Mapping[str, str]) -> Account:
    seed = environment.get(f"{prefix}_TOTP_SECRET")
    return Account(
        prefix=prefix,
        username=environment.get(f"{prefix}_USERNAME") or environment[f"{prefix}_EMAIL"],
        password=environment[f"{prefix}_PASSWORD"],
        totp=pyotp.TOTP(seed) if seed else None,
        period=float(environment.get(f"{prefix}_TOTP_PERIOD", "30")),
    )
