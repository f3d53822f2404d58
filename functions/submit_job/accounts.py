"""Who may have a token: the administrator, and the programs of API_CLIENTS."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
from datetime import timedelta
from typing import Literal
from urllib.parse import parse_qs

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from starlette.requests import Request

from shared.http import Problem, from_validation, invalid, read, too_many
from shared.ratelimit import RateLimiter
from shared.tokens import Keyring, Scope

FORM = "application/x-www-form-urlencoded"
FORM_LIMIT = 8 * 1024
PER_ACCOUNT_AND_MINUTE = 10
PER_ADDRESS_AND_MINUTE = 30
CHECKS_AT_ONCE = 2
"""A hash takes 64 MiB to check, which a pod must have left."""


class Client(BaseModel):
    """A program that may call: its secret, plain or an argon2 hash, and what it may do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    secret: SecretStr
    scopes: tuple[Scope, ...]


class TokenRequest(BaseModel):
    """A form: username and password with `password`, client_id and client_secret with `client_credentials`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"grant_type": "password", "username": "admin", "password": "secret"},
                {"grant_type": "client_credentials", "client_id": "ords", "client_secret": "secret"},
            ]
        }
    )

    grant_type: Literal["password", "client_credentials"]
    username: str = ""
    password: str = ""
    client_id: str = ""
    client_secret: str = ""
    scope: str = Field("", description="words between spaces; without it, all that the caller may have")


class Accounts:
    """Checks names and passwords, slowly for those who guess."""

    def __init__(self, clients: dict[str, Client], keyring: Keyring, limiter: RateLimiter, lifetime: int) -> None:
        self._clients = clients
        self._keyring = keyring
        self._limiter = limiter
        self._lifetime = lifetime
        self._hasher = PasswordHasher()
        self._checks = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._decoy = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43

    async def token(self, request: Request) -> dict[str, object]:
        """An access token for the form's name and password (RFC 6749, 4.3 and 4.4). Raises Problem 401, 422 or 429."""
        form = await _form(request)
        name, password = _credentials(request, form)
        await self._slow_down(name, request.client.host if request.client else "unknown")
        client = self._clients.get(name)
        async with self._checks:
            matches = await asyncio.to_thread(self._matches, client, password)
        if not matches or client is None:
            raise Problem(
                401,
                "username, password: not known together",
                code="invalid_grant",
                headers={"WWW-Authenticate": "Basic"},
            )
        scopes = _scopes(form.scope, client)
        access = self._keyring.issue(name, scopes, timedelta(seconds=self._lifetime))
        return {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": self._lifetime,
            "scope": " ".join(scopes),
        }

    async def _slow_down(self, name: str, address: str) -> None:
        waits = [
            await self._limiter.wait(f"token:account:{name[:200]}", PER_ACCOUNT_AND_MINUTE),
            await self._limiter.wait(f"token:address:{address}", PER_ADDRESS_AND_MINUTE),
        ]
        if max(waits):
            raise too_many(max(waits), f"too many tokens asked for; wait {max(waits)} s")

    def _matches(self, client: Client | None, password: str) -> bool:
        secret = client.secret.get_secret_value() if client else self._decoy
        if not secret.startswith("$argon2"):
            return hmac.compare_digest(secret.encode(), password.encode())
        try:
            return self._hasher.verify(secret, password)
        except (VerificationError, InvalidHashError):
            return False


async def _form(request: Request) -> TokenRequest:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise Problem(415, f"Content-Type: must be {FORM}", code="media_type")
    try:
        fields = parse_qs((await read(request, FORM_LIMIT)).decode(), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise invalid("body", "not a form; send key=value pairs joined by &") from None
    try:
        return TokenRequest.model_validate({name: values[-1] for name, values in fields.items()})
    except ValidationError as error:
        raise from_validation(error) from None


def _credentials(request: Request, form: TokenRequest) -> tuple[str, str]:
    if form.grant_type == "password":
        sent = {"username": form.username, "password": form.password}
    else:
        sent = {"client_id": form.client_id, "client_secret": form.client_secret}
        if basic := _basic(request):
            return basic
    for name, value in sent.items():
        if not value:
            raise invalid(name, "not sent")
    name, password = sent.values()
    return name, password


def _basic(request: Request) -> tuple[str, str] | None:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise invalid("Authorization", "not Basic authentication; send base64 of client_id:client_secret") from None
    return name, secret


def _scopes(asked: str, client: Client) -> list[Scope]:
    if not asked.strip():
        return list(client.scopes)
    known = {scope.value: scope for scope in Scope}
    for word in asked.split():
        allowed = word in known and (known[word] in client.scopes or Scope.ADMIN in client.scopes)
        if not allowed:
            raise invalid("scope", f"not yours to have; one or more of {' '.join(client.scopes)}")
    return [known[word] for word in asked.split()]
