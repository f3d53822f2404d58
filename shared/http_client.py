"""The HTTP client of a function: opened on first use, so that a cold start pays only for what is used.

Silence      no answer came in time
└── NotHeard nobody was there: the request certainly did not arrive
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared.closing import End, at_the_end, closed

if TYPE_CHECKING:
    import aiohttp

ANSWER_LIMIT = 256 * 1024


class Silence(Exception):
    """No answer; the message is the kind of error, which holds no secret."""


class NotHeard(Silence):
    """Nobody was there."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a neighbour said."""

    status: int
    body: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether it is a 2xx."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body as JSON; None where it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


class HttpClient:
    """Connections to neighbours, who are addressed directly: no proxy from the environment, no redirects."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._end: End | None = None

    async def call(
        self,
        method: str,
        url: str,
        *,
        seconds: float,
        headers: Mapping[str, str] | None = None,
        limit: int = ANSWER_LIMIT,
        **content: Any,
    ) -> Answer:
        """One request, in a bounded time; `json=` or `data=` is its body, `params=` its query. Raises Silence.

        An answer of more than `limit` bytes has none.
        """
        import aiohttp

        try:
            async with (
                asyncio.timeout(seconds),
                self._opened().request(method, url, headers=headers, allow_redirects=False, **content) as response,
            ):
                return Answer(response.status, await _bounded(response.content, limit))
        except aiohttp.ClientConnectorError as error:
            raise NotHeard(type(error).__name__) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Silence(type(error).__name__) from None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None),  # each call has its own
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
            self._end = at_the_end(self._session.close)
        return self._session

    async def aclose(self) -> None:
        """Give the connections back."""
        if self._session is not None and self._end is not None:
            await closed(self._end)
            self._session = None


async def _bounded(content: aiohttp.StreamReader, limit: int) -> bytes:
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > limit:
            return b""  # whatever that is, it is no answer of a neighbour's
    return bytes(body)
