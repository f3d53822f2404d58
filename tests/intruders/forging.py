"""Tokens that are none of ours, though each is wrong in one thing only."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

from tests.functions.stage import SIGNING_KEY, keyring

OTHER_KEY = "another-signing-key-0123456789abcdefghij"
API, WORKER = "rpa-api", "rpa-worker"
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
ATTEMPT = {"job_id": 1, "attempt": 1, "provider": "octotel"}


def signed(
    audience: str,
    attempt_of: Mapping[str, Any] = ATTEMPT,
    *,
    key: str = SIGNING_KEY,
    header: Mapping[str, Any] | None = None,
    algorithm: str = "HS256",
    **claims: Any,
) -> str:
    """A token like ours, but for some claims and members of its header; None leaves one out."""
    now = datetime.now(UTC)
    ours = {"iss": "rpa-orchestrator", "aud": audience, "sub": "admin", "iat": now, "nbf": now, "exp": now + HOUR}
    more = {"jti": "x", "scope": "admin", **{name: attempt_of[name] for name in ATTEMPT}}
    given = {name: value for name, value in {**ours, **more, **claims}.items() if value is not None}
    members = {"kid": keyring().current, **(header or {})}
    return jwt.encode(given, key, algorithm=algorithm, headers={k: v for k, v in members.items() if v is not None})


def relabelled(token: str, *, signature: str | None = None, **members: Any) -> str:
    """A good token whose header says something else, with its own signature or another."""
    head, claims, own = token.split(".")
    header = json.loads(base64.urlsafe_b64decode(head + "==")) | members
    text = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
    return f"{text}.{claims}.{own if signature is None else signature}"


def _resigned(token: str, key: bytes, **members: Any) -> str:
    """With a signature by a key that no library would sign with."""
    text = relabelled(token, signature="", **members).rstrip(".")
    digest = hmac.digest(key, text.encode(), "sha256")
    return f"{text}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def _promoted(token: str) -> str:
    head, claims, signature = token.split(".")
    more = json.loads(base64.urlsafe_b64decode(claims + "==")) | {"scope": "admin", "job_id": 2}
    return f"{head}.{base64.urlsafe_b64encode(json.dumps(more).encode()).decode().rstrip('=')}.{signature}"


Forge = Callable[[str, Mapping[str, Any]], str]
FORGED: dict[str, Forge] = {
    "no token at all": lambda *_: "x",
    "alg none": lambda *a: relabelled(signed(*a), alg="none", signature=""),
    "alg none with a signature": lambda *a: relabelled(signed(*a), alg="none"),
    "alg NonE": lambda *a: relabelled(signed(*a), alg="NonE", signature=""),
    "alg RS256 over our HMAC": lambda *a: relabelled(signed(*a), alg="RS256"),
    "alg HS384 over our HMAC": lambda *a: relabelled(signed(*a), alg="HS384"),
    "no alg": lambda *a: relabelled(signed(*a), alg=None),
    "another algorithm": lambda *a: signed(*a, algorithm="HS384"),
    "another key": lambda *a: signed(*a, key=OTHER_KEY),
    "the key id for a key": lambda *a: _resigned(signed(*a), keyring().current.encode()),
    "an empty key": lambda *a: _resigned(signed(*a), b""),
    "a key that it brings along": lambda *a: signed(
        *a, key=OTHER_KEY, header={"jwk": {"kty": "oct", "k": base64.urlsafe_b64encode(OTHER_KEY.encode()).decode()}}
    ),
    "a key from its own address": lambda *a: signed(*a, key=OTHER_KEY, header={"jku": "http://127.0.0.1/keys"}),
    "no key id": lambda *a: signed(*a, header={"kid": None}),
    "another key's id": lambda *a: signed(*a, header={"kid": keyring(OTHER_KEY).current}),
    "a path for a key id": lambda *a: _resigned(signed(*a), b"", kid="../../../dev/null"),
    "claims changed afterwards": lambda *a: _promoted(signed(*a)),
    "expired": lambda *a: signed(*a, exp=datetime.now(UTC) - MINUTE),
    "not valid yet": lambda *a: signed(*a, nbf=datetime.now(UTC) + MINUTE),
    "issued in the future": lambda *a: signed(*a, iat=datetime.now(UTC) + MINUTE),
    "another issuer": lambda *a: signed(*a, iss="somebody"),
    "another audience": lambda audience, attempt: signed({API: WORKER, WORKER: API}[audience], attempt),
    "several audiences": lambda _, attempt: signed(API, attempt, aud=[API, WORKER]),
    "no issuer": lambda *a: signed(*a, iss=None),
    "no audience": lambda *a: signed(*a, aud=None),
    "no end": lambda *a: signed(*a, exp=None),
    "no beginning": lambda *a: signed(*a, nbf=None),
    "no time of issue": lambda *a: signed(*a, iat=None),
    "no subject": lambda *a: signed(*a, sub=None),
    "no id": lambda *a: signed(*a, jti=None),
    "cut off": lambda *a: signed(*a)[:-1],
    "signature missing": lambda *a: signed(*a).rpartition(".")[0] + ".",
}
