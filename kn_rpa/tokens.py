"""Access tokens, kept for their hour in the caller's cache: signing in is slow on purpose."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

MARGIN_SECONDS = 60


class TokenCache:
    """One file for each system and user, readable for its owner alone."""

    def __init__(self, environment: Mapping[str, str], system: str, username: str) -> None:
        home = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        digest = hashlib.sha256(f"{system}\0{username}".encode()).hexdigest()[:32]
        self._file = Path(home) / "kn-rpa" / f"{digest}.json"

    def read(self) -> str | None:
        """The token, if it is still good for a while."""
        try:
            kept = json.loads(self._file.read_text())
            return str(kept["token"]) if kept["expires_at"] - MARGIN_SECONDS > time.time() else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, token: str, seconds: int) -> None:
        """Remember a token; where that cannot be, the next command signs in again."""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft = self._file.with_suffix(f".{os.getpid()}")
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump({"token": token, "expires_at": time.time() + seconds}, file)
            draft.rename(self._file)
        except OSError:
            return

    def forget(self) -> None:
        """It was refused."""
        self._file.unlink(missing_ok=True)
