"""Pictures of the page, about one a second, while somebody watches the attempt."""

from __future__ import annotations

import asyncio
import logging

import httpx
from playwright.async_api import Error

from rpa_worker.browser import Session
from rpa_worker.errors import AttemptOver
from rpa_worker.orchestrator import Orchestrator

PAUSE_SECONDS = 1.0
TIMEOUT_SECONDS = 5.0
JPEG_QUALITY = 50
PICTURE_LIMIT = 512 * 1024

logger = logging.getLogger(__name__)


class Watching:
    """Whether somebody watches, and the pictures they get; that there are none never harms the attempt."""

    def __init__(self, session: Session, orchestrator: Orchestrator) -> None:
        self._session = session
        self._orchestrator = orchestrator
        self._watched = asyncio.Event()

    def heard(self, watched: bool) -> None:
        """The orchestrator said whether somebody watches."""
        if watched:
            self._watched.set()
        else:
            self._watched.clear()

    async def run(self) -> None:
        """Send pictures whenever somebody watches, until cancelled or the attempt is over."""
        while True:
            await self._watched.wait()
            try:
                await self._send()
            except AttemptOver:
                return  # the next heartbeat hears it, too
            except (Error, httpx.HTTPError, TimeoutError) as error:
                logger.debug("no picture: %s", type(error).__name__)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _send(self) -> None:
        picture = await self._session.picture("jpeg", quality=JPEG_QUALITY, timeout=TIMEOUT_SECONDS)
        if picture is not None and len(picture) <= PICTURE_LIMIT:
            self.heard(await self._orchestrator.picture(picture, timeout=TIMEOUT_SECONDS))
