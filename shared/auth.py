"""Who may call: bearer tokens, scopes and rates."""

from __future__ import annotations

from starlette.requests import Request

from shared import logs, spans
from shared.http import Problem, too_many
from shared.ratelimit import RateLimiter
from shared.tokens import Attempt, InvalidToken, Keyring, Scope


def bearer(request: Request) -> str:
    """The token of the Authorization header. Raises Problem 401."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise _unauthorized("Authorization: send a bearer token; POST /auth/token gives one")
    return token.strip()


def _unauthorized(detail: str) -> Problem:
    return Problem(401, detail, code="unauthorized", headers={"WWW-Authenticate": "Bearer"})


def worker(request: Request, keyring: Keyring) -> Attempt:
    """The attempt whose worker calls. Raises Problem 401."""
    try:
        attempt = keyring.check_worker(bearer(request))
    except InvalidToken as error:
        raise _unauthorized(f"Authorization: {error}") from None
    logs.bind(job_id=attempt.job_id, attempt=attempt.attempt)
    spans.note(job_id=attempt.job_id, attempt=attempt.attempt, provider=attempt.provider)
    return attempt


def same_attempt(token: Attempt, job_id: int, attempt: int) -> None:
    """A token speaks for its own attempt alone. Raises Problem 403."""
    if (token.job_id, token.attempt) != (job_id, attempt):
        raise Problem(
            403,
            "job_id, attempt: the token is for another attempt; use the one that came with this job",
            code="wrong_attempt",
        )


class Gate:
    """Lets people and programs into a function who have the scope and do not ask it too often."""

    def __init__(self, function: str, keyring: Keyring, limiter: RateLimiter, per_minute: int) -> None:
        self._function = function
        self._keyring = keyring
        self._limiter = limiter
        self._per_minute = per_minute

    async def caller(self, request: Request, scope: Scope) -> str:
        """The subject who calls. Raises Problem 401, 403 or 429."""
        subject, _ = await self.admit(bearer(request), scope)
        return subject

    async def admit(self, token: str, scope: Scope) -> tuple[str, frozenset[str]]:
        """The subject of a token, and its scopes. Raises Problem 401, 403 or 429."""
        try:
            subject, scopes = self._keyring.check(token)
        except InvalidToken as error:
            raise _unauthorized(f"Authorization: {error}") from None
        if scope not in scopes and Scope.ADMIN not in scopes:
            raise Problem(
                403,
                f"the token lacks the scope {scope.value}; ask /auth/token for it",
                code="insufficient_scope",
                headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope.value}"'},
            )
        wait = await self._limiter.wait(f"api:{self._function}:{subject}", self._per_minute)
        if wait:
            raise too_many(wait, f"more than {self._per_minute} requests a minute; wait {wait} s")
        return subject, scopes
