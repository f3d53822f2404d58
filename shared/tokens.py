"""Tokens: JWTs for people and programs (audience `rpa-api`) and for one attempt's worker (`rpa-worker`)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import jwt
from pydantic import SecretStr

from shared.config import TokenSettings

ISSUER = "rpa-orchestrator"
ALGORITHM = "HS256"
LEEWAY = timedelta(seconds=30)
CLOCKS_APART = timedelta(minutes=2)
"""By how much the clock of the function that issues may be ahead of the clock of one that checks."""


class Audience(StrEnum):
    """Whom a token is for."""

    API = "rpa-api"
    WORKER = "rpa-worker"


class Scope(StrEnum):
    """What a token lets its bearer do."""

    JOBS_CREATE = "jobs:create"
    JOBS_READ = "jobs:read"
    JOBS_UPDATE = "jobs:update"
    MONITOR_READ = "monitor:read"
    OPERATE = "operate"
    """Pause, resume and replay."""
    ADMIN = "admin"
    """Everything."""


class InvalidToken(Exception):
    """The token is not one of ours, or not any more; the message may be shown to the bearer."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The one attempt that a worker's token is good for."""

    job_id: int
    attempt: int
    provider: str


class Keyring:
    """Signs with the current key and checks with the previous ones too, found by the token's `kid`."""

    def __init__(self, settings: TokenSettings) -> None:
        keys = (settings.jwt_secret_key, *settings.jwt_previous_secret_keys)
        self._keys = {_key_id(key): key.get_secret_value().encode() for key in keys}
        self.current = _key_id(settings.jwt_secret_key)

    def issue(self, subject: str, scopes: list[Scope], lifetime: timedelta) -> str:
        """A token for a person or program."""
        return self._sign(Audience.API, subject, lifetime, scope=" ".join(scopes))

    def issue_worker(self, attempt: Attempt, lifetime: timedelta) -> str:
        """A token for the worker of one attempt."""
        subject = f"job:{attempt.job_id}:{attempt.attempt}"
        claims = {"job_id": attempt.job_id, "attempt": attempt.attempt, "provider": attempt.provider}
        return self._sign(Audience.WORKER, subject, lifetime, **claims)

    def _sign(self, audience: Audience, subject: str, lifetime: timedelta, **claims: Any) -> str:
        now = datetime.now(UTC)
        payload = {
            "iss": ISSUER,
            "aud": audience.value,
            "sub": subject,
            "iat": now - CLOCKS_APART,
            "nbf": now - CLOCKS_APART,
            "exp": now + lifetime,
            "jti": secrets.token_urlsafe(12),
            **claims,
        }
        return jwt.encode(payload, self._keys[self.current], algorithm=ALGORITHM, headers={"kid": self.current})

    def check(self, token: str) -> tuple[str, frozenset[str]]:
        """The subject and scopes of a person's or program's token. Raises InvalidToken."""
        claims = self._verify(token, Audience.API)
        return str(claims["sub"]), frozenset(str(claims.get("scope", "")).split())

    def check_worker(self, token: str) -> Attempt:
        """The attempt that a worker's token is good for. Raises InvalidToken."""
        claims = self._verify(token, Audience.WORKER)
        job_id, attempt, provider = claims.get("job_id"), claims.get("attempt"), claims.get("provider")
        if not (isinstance(job_id, int) and isinstance(attempt, int) and isinstance(provider, str)):
            raise InvalidToken("the token names no job, attempt and provider")
        return Attempt(job_id, attempt, provider)

    def _verify(self, token: str, audience: Audience) -> dict[str, Any]:
        try:
            key = self._keys[str(jwt.get_unverified_header(token).get("kid"))]
            return jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=audience.value,
                issuer=ISSUER,
                leeway=LEEWAY,
                options={
                    "require": ["iss", "aud", "sub", "iat", "nbf", "exp", "jti"],
                    "verify_signature": True,
                    "verify_iss": True,
                    "verify_aud": True,
                    "verify_iat": True,
                    "verify_nbf": True,
                    "verify_exp": True,
                    "strict_aud": True,
                },
            )
        except KeyError:
            raise InvalidToken("the token was signed with a key that is not ours") from None
        except jwt.ExpiredSignatureError:
            raise InvalidToken("the token has expired; get a new one") from None
        except jwt.InvalidTokenError:
            raise InvalidToken("the token is not valid here") from None

    def browser_path(self, name: str, key_id: str) -> str:
        """The secret WebSocket path of a browser, derived so that nobody has to store it."""
        digest = hmac.new(self._keys[key_id], f"browser\0{name}".encode(), hashlib.sha256)
        return f"/{digest.hexdigest()[:40]}"


def _key_id(key: SecretStr) -> str:
    return hashlib.sha256(b"kid\0" + key.get_secret_value().encode()).hexdigest()[:12]
