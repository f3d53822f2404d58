"""So many at once; others wait a little for their turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PLACE_SECONDS = 2.0
WAITING = 2000
"""Requests that may wait at one time, at some 20 KiB each."""


class NoPlace(Exception):
    """More is asked than can be done soon; nothing was begun."""


class Places:
    """A bound on what is done at once, on how long others wait, and on how many do."""

    def __init__(self, at_once: int, seconds: float = PLACE_SECONDS) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._seconds = seconds
        self._waiting = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """In turn. Raises NoPlace."""
        await self._enter()
        try:
            yield
        finally:
            self._places.release()

    async def _enter(self) -> None:
        if self._places.locked() and self._waiting >= WAITING:
            raise NoPlace
        self._waiting += 1
        try:
            # Refused at once, callers that come back at once would take all the time from those who are in.
            async with asyncio.timeout(self._seconds):
                await self._places.acquire()
        except TimeoutError:
            raise NoPlace from None
        finally:
            self._waiting -= 1
