"""Secrets of a local system: made once, kept in its state folder for its owner alone."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from pathlib import Path

import pyotp


def local_secrets(state: Path, providers: Iterable[str]) -> dict[str, str]:
    """All of them by name; what is missing is made and kept."""
    file = state / "secrets.json"
    known: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    random = ("postgres_password", "valkey_password", "jwt_key", "admin_password", "ords_token", "node_token")
    names = {name: secrets.token_urlsafe(36) for name in random}
    for provider in providers:
        names[f"{provider}_password"] = secrets.token_urlsafe(18)
        names[f"{provider}_seed"] = pyotp.random_base32()
    merged = names | known
    if merged != known:
        file.touch(0o600)
        file.write_text(json.dumps(merged, indent=1))
    return merged
