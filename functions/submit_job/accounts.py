"""Who may have a token: the administrator, and the programs of API_CLIENTS."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from datetime import timedelta
from typing import Literal
from urllib.parse import parse_qs

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from starlette.requests import Request

from functions.submit_job.guessing import Guard, caller_address
from shared.http import Problem, from_validation, invalid, read
from shared.tokens import Keyring, Scope

FORM = "application/x-www-form-urlencoded"
FORM_LIMIT = 8 * 1024
CHECKS_AT_ONCE = 2
"""A hash takes 64 MiB to check, which a pod must have left."""
DECOY = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43
"""A hash of argon2-cffi's own cost that nothing matches."""


class Client(BaseModel):
    """A program that may call: its secret, plain or an argon2 hash, and what it may do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    secret: SecretStr = Field(min_length=1)
    scopes: tuple[Scope, ...]


class TokenRequest(BaseModel):
    """A form: username and password with `password`, client_id and client_secret with `client_credentials`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"grant_type": "password", "username": "admin", "password": "password"},
                {"grant_type": "client_credentials", "client_id": "ords", "client_secret": "password"},
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

    def __init__(
        self, clients: Mapping[str, Client], keyring: Keyring, guard: Guard, *, lifetime: int, proxies: int
    ) -> None:
        self._clients = clients
        self._keyring = keyring
        self._guard = guard
        self._lifetime = lifetime
        self._proxies = proxies
        self._hasher = PasswordHasher()
        self._checks = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._hashes = sorted(filter(_is_hash, (c.secret.get_secret_value() for c in clients.values()))) or [DECOY]

    async def token(self, request: Request) -> dict[str, object]:
        """An access token for the form's name and password (RFC 6749, 4.3 and 4.4). Raises Problem 401, 422 or 429."""
        form = await _form(request)
        name, password = _credentials(request, form)
        attempt = await self._guard.enter(name, caller_address(request, self._proxies))
        async with self._checks:
            client = await asyncio.to_thread(self._known, name, password)
        if client is None:
            raise Problem(
                401,
                "username, password: not known together",
                code="invalid_grant",
                headers={"WWW-Authenticate": "Basic"},
            )
        await self._guard.right(attempt)
        scopes = _scopes(form.scope, client)
        access = self._keyring.issue(name, scopes, timedelta(seconds=self._lifetime))
        return {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": self._lifetime,
            "scope": " ".join(scopes),
        }

    def _known(self, name: str, password: str) -> Client | None:
        # One hash is checked whatever is known of the name, so that time does not tell: for names that have none,
        # one that their digest picks, as a name always costs the same.
        client = self._clients.get(name)
        secret = client.secret.get_secret_value() if client else ""
        picked = self._hashes[hashlib.sha256(name.encode()).digest()[0] % len(self._hashes)]
        fits = self._fits(secret if _is_hash(secret) else picked, password)
        same = hmac.compare_digest(_digest(secret), _digest(password))
        return client if (fits if _is_hash(secret) else same) else None

    def _fits(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False


def _is_hash(secret: str) -> bool:
    return secret.startswith("$argon2")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


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
