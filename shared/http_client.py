"""The HTTP client of a function: opened on first use, so that a cold start pays for it only where it is used."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx


LONGEST_SECONDS = 60.0


class HttpClient:
    """One pool of connections; every caller bounds its own request."""

    def __init__(self) -> None:
        self._session: httpx.AsyncClient | None = None

    @property
    def session(self) -> httpx.AsyncClient:
        """The client itself."""
        if self._session is None:
            # httpcore looks for sniffio at every lock that it makes, and one that is not installed is looked for
            # on the whole path each time (encode/httpcore#1103).
            sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]
            import httpx

            # Neighbours are addressed directly: no proxy from the environment, no redirects.
            self._session = httpx.AsyncClient(timeout=LONGEST_SECONDS, trust_env=False, follow_redirects=False)
        return self._session

    async def aclose(self) -> None:
        """Give the connections back."""
        if self._session is not None:
            await self._session.aclose()
            self._session = None
