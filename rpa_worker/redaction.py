"""Nothing secret leaves in an error message or a log line."""

from __future__ import annotations

HIDDEN = "[hidden]"


class Redactor:
    """Knows an attempt's secrets as they become known, and takes them out of texts."""

    def __init__(self, *secrets: str | None) -> None:
        self._secrets: set[str] = set()
        self.add(*secrets)

    def add(self, *secrets: str | None) -> None:
        self._secrets.update(filter(None, secrets))

    def clean(self, text: str) -> str:
        """The text without secrets; the longest go first, since one may contain another."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        return text
