"""Nothing secret leaves in an error message or a log line."""

from __future__ import annotations

import re

HIDDEN = "[hidden]"
SEPARATORS = re.compile(r"[\s-]+")


class Redactor:
    """Knows an attempt's secrets as they become known, and takes them out of texts."""

    def __init__(self, *secrets: str | None) -> None:
        self._secrets: set[str] = set()
        self.add(*secrets)

    def add(self, *secrets: str | None) -> None:
        self._secrets.update(filter(None, secrets))

    @property
    def secrets(self) -> frozenset[str]:
        """All that are known by now."""
        return frozenset(self._secrets)

    def reveals(self, text: str) -> bool:
        """Whether a secret stands in this text."""
        return any(secret in text for secret in self._secrets)

    def hints_at(self, value: str) -> bool:
        """Whether a field with this value shows a secret, or the beginning of one; "123 456" shows 123456."""
        bare = SEPARATORS.sub("", value)
        return any(secret in value or secret in bare or secret.startswith(bare) for secret in self._secrets if bare)

    def clean(self, text: str) -> str:
        """The text without secrets; the longest go first, since one may contain another."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        return text
