"""The HTTP clients of a function: opened on first use, so that a cold start pays only for what is used."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp
    import httpx


LONGEST_SECONDS = 60.0


class HttpClient:
    """Connections to neighbours, who are addressed directly: no proxy from the environment.

    Every caller bounds its own request.
    """

    def __init__(self) -> None:
        self._session: httpx.AsyncClient | None = None
        self._quick: aiohttp.ClientSession | None = None

    @property
    def session(self) -> httpx.AsyncClient:
        """For workers, ORDS and whoever else is called now and then; follows no redirects."""
        if self._session is None:
            # httpcore looks for sniffio at every lock that it makes, and one that is not installed is looked for
            # on the whole path each time (encode/httpcore#1103).
            sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]
            import httpx

            self._session = httpx.AsyncClient(timeout=LONGEST_SECONDS, trust_env=False, follow_redirects=False)
        return self._session

    @property
    def quick(self) -> aiohttp.ClientSession:
        """For the broker, which hears of every change: a fraction of the other's work for each request."""
        if self._quick is None:
            import aiohttp

            self._quick = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(LONGEST_SECONDS), cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            )
        return self._quick

    async def aclose(self) -> None:
        """Give the connections back."""
        if self._session is not None:
            await self._session.aclose()
            self._session = None
        if self._quick is not None:
            await self._quick.close()
            self._quick = None
