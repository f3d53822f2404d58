"""issue_totp: a login code that nobody else gets."""

from __future__ import annotations

import functions_framework.aio
from pydantic import AwareDatetime, BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from shared import auth, logs, spans
from shared.config import DatabaseSettings, TokenSettings, TotpSettings, load
from shared.db import Database
from shared.http import Problem, application, parse, route, too_many
from shared.lockout import Lockout
from shared.operation import WORKER, Answer, Body, Operation
from shared.providers import Provider
from shared.ratelimit import RateLimiter
from shared.tokens import Attempt, Keyring
from shared.totp import TotpIssuer
from shared.valkey_client import Valkey

PER_ATTEMPT_AND_MINUTE = 60
AT_ONCE = 2000
"""Nearly all of them only wait until the time of their code comes."""


class Settings(DatabaseSettings, TokenSettings, TotpSettings):
    """What this function needs."""


class CodeRequest(BaseModel):
    """`rejected`: the portal refused the code of the last answer, give another one."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{}, {"rejected": True}]})

    rejected: bool = False


class LoginCode(BaseModel):
    """The code, for this account, that no other attempt is given."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "code": "123456",
                    "account": "OCTOTEL",
                    "expires_at": "2026-01-01T12:00:30Z",
                    "valid_for_seconds": 17.25,
                }
            ]
        }
    )

    code: str
    account: str
    expires_at: AwareDatetime
    valid_for_seconds: float


SETTINGS = load(Settings)
logs.configure("issue_totp", SETTINGS.log_level)
spans.configure("issue_totp", SETTINGS)
DATABASE = Database(SETTINGS)
VALKEY = Valkey(SETTINGS)
KEYRING = Keyring(SETTINGS)
LIMITER = RateLimiter(VALKEY)
LOCKOUT = Lockout(SETTINGS, VALKEY)
TOTP = TotpIssuer(SETTINGS, DATABASE, VALKEY)


async def issue(request: Request) -> Response:
    """POST /totp/{provider}"""
    attempt = auth.worker(request, KEYRING)
    wish = await parse(request, CodeRequest, empty=b"{}")
    provider = _provider(request.path_params["provider"], attempt)
    key = f"totp:{attempt.job_id}:{attempt.attempt}"
    if wait := await LIMITER.wait(key, PER_ATTEMPT_AND_MINUTE):
        raise too_many(wait, f"too many codes asked for in this attempt; wait {wait} s")
    if wish.rejected:
        await LOCKOUT.rejected(provider.name, attempt.job_id, attempt.attempt)
    code = await TOTP.issue(provider, attempt, refused=wish.rejected)
    body = {
        "code": code.code,
        "account": code.account,
        "expires_at": code.expires_at.isoformat(),
        "valid_for_seconds": code.valid_for_seconds,
    }
    return JSONResponse(body, headers={"Cache-Control": "no-store"})


def _provider(name: str, attempt: Attempt) -> Provider:
    if name != attempt.provider:
        raise Problem(
            403,
            f"provider: the token is for {attempt.provider}; ask for that one's code",
            code="wrong_provider",
        )
    provider = SETTINGS.providers.get(name)
    if provider is None or provider.totp == "none":
        raise Problem(404, f"provider: {name} has no login codes; its entry says totp: none", code="no_totp")
    return provider


async def ready() -> None:
    """Both stores answer."""
    await DATABASE.ping()
    await VALKEY.ping()


ISSUE = Operation(
    summary="A login code that nobody else gets",
    description="Waits for the account's turn. 503 with code queue_full or paused: ask again after Retry-After.",
    who=WORKER,
    body=Body(CodeRequest, required=False),
    answers={200: Answer(LoginCode, headers=("Cache-Control",))},
    refuses=[404, 409],
)
APPLICATION = application([route("POST", "/totp/{provider}", issue, ISSUE)], ready, about=__doc__, at_once=AT_ONCE)


@functions_framework.aio.http
async def issue_totp(_request: Request) -> Response:
    """The function's entry point."""
    return APPLICATION
