"""Who sits at the browser: the access token in a cookie that scripts cannot read, and proof that a form is ours."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from shared.auth import Gate
from shared.http import Problem, read
from shared.tokens import Scope

FORM_LIMIT = 8 * 1024
HOME = "/ui/"


class SignedOut(Exception):
    """No session, or one that has ended."""


@dataclass(frozen=True, slots=True)
class Session:
    """A person who is signed in, and may see what was asked for."""

    token: str = field(repr=False)
    subject: str
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        """Whether the person has this scope."""
        return bool({scope, Scope.ADMIN.value} & self.scopes)

    @property
    def form_key(self) -> str:
        """What every form of this session carries; who has not the cookie cannot know it."""
        return hmac.new(self.token.encode(), b"form", hashlib.sha256).hexdigest()


async def of(request: Request, gate: Gate, scope: Scope) -> Session:
    """The session of a request. Raises SignedOut, or Problem 403 or 429."""
    token = request.cookies.get(_name(request), "")
    try:
        subject, scopes = await gate.admit(token, scope)
    except Problem as problem:
        if problem.status == 401:
            raise SignedOut from None
        raise
    return Session(token, subject, scopes)


async def form(request: Request) -> dict[str, str]:
    """The fields of a form that one of our pages sent. Raises Problem 403, 413 or 422."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise Problem(403, "the form came from another site; open this page and send it from here", code="foreign_form")
    try:
        fields = parse_qs((await read(request, FORM_LIMIT)).decode(), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise Problem(422, "body: not a form", code="invalid") from None
    return {name: values[-1] for name, values in fields.items()}


async def own_form(request: Request, session: Session) -> dict[str, str]:
    """The same, with the proof that this session's page made it. Raises Problem 403, too."""
    fields = await form(request)
    if not hmac.compare_digest(fields.get("form_key", "").encode(), session.form_key.encode()):
        raise Problem(403, "the form is of another session; load the page again", code="foreign_form")
    return fields


def begin(request: Request, response: Response, token: str, seconds: int) -> None:
    """Keep the token in the browser while it is valid."""
    response.set_cookie(
        _name(request), token, max_age=seconds, path="/", secure=_https(request), httponly=True, samesite="strict"
    )


def end(request: Request, response: Response) -> None:
    """Forget the token."""
    response.delete_cookie(_name(request), path="/", secure=_https(request), httponly=True, samesite="strict")


def local_path(text: str) -> str:
    """A path of the dashboard, whatever was asked for."""
    plain = text.isascii() and text.isprintable() and "\\" not in text
    return text if plain and text.startswith(HOME) else HOME


def _https(request: Request) -> bool:
    # TLS ends before Knative's queue; what the outermost proxy says comes first.
    said = request.headers.get("x-forwarded-proto", request.url.scheme)
    return said.partition(",")[0].strip().lower() == "https"


def _name(request: Request) -> str:
    # With this prefix browsers take no such cookie from a neighbouring host.
    return "__Host-rpa" if _https(request) else "rpa"
