"""Following one pod until its browser is ready, through dropped connections and restarts of the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from shared.browsers import Browser, BrowserError, BrowserFailed, BrowsersUnavailable, Phase
from shared.browsers.api import Api
from shared.browsers.api_errors import ApiError, ApiUnreachable
from shared.browsers.pod import Pod, browser_of, unschedulable

ROOM_SECONDS = 5.0
"""How long no node need take a pod. A browser that is just ending makes room within this; a new node takes
minutes, so its job gives the place back meanwhile. The pod stays and is what an autoscaler adds the node for;
who tries again adopts it."""
PAUSE_SECONDS = 0.3
"""Between watches: a browser is late by this when the API restarts."""


class Waiting:
    """A wait for one browser; timeout in seconds."""

    def __init__(self, api: Api, pods: str, name: str, timeout: float) -> None:
        self._api = api
        self._pods = pods
        self._name = name
        self._timeout = timeout
        self._last: Browser | None = None
        self._no_room: str | None = None
        self._interruption: str | None = None

    async def ready(self) -> Browser:
        """The browser once it is ready. Raises BrowserError, ApiError."""
        try:
            async with asyncio.timeout(self._timeout) as limit, aclosing(self._states()) as states:
                end = limit.when()
                async for pod in states:
                    self._last = browser_of(pod)
                    if self._last.phase is Phase.READY:
                        return self._last
                    if self._last.phase is Phase.FAILED:
                        raise BrowserFailed(self._last.reason or "the pod failed")
                    self._bound(limit, end, unschedulable(pod))
        except TimeoutError:
            raise self._late() from None
        raise AssertionError("a pod has always a next state")

    def _bound(self, limit: asyncio.Timeout, end: float | None, no_room: str | None) -> None:
        """Wait ROOM_SECONDS at most while no node takes the pod."""
        if end and bool(no_room) != bool(self._no_room):
            soon = asyncio.get_running_loop().time() + ROOM_SECONDS
            limit.reschedule(min(soon, end) if no_room else end)
        self._no_room = no_room

    def _late(self) -> BrowserError:
        if self._no_room:
            return BrowsersUnavailable(self._no_room)
        if self._interruption:
            return BrowsersUnavailable(self._interruption)
        why = f": {self._last.reason}" if self._last and self._last.reason else ""
        return BrowserFailed(f"not ready within {self._timeout:g} s{why}")

    async def _states(self) -> AsyncGenerator[Pod, None]:
        """The pod now and after each change, without end."""
        while True:
            try:
                pod = await self._api.call("GET", f"{self._pods}/{self._name}")
                self._interruption = None
                yield pod
                async with aclosing(self._changes(pod["metadata"]["resourceVersion"])) as changes:
                    async for change in changes:
                        yield change
            except ApiUnreachable as unreachable:
                self._interruption = str(unreachable)
            except ApiError as error:
                if error.status == 404:
                    raise BrowserFailed("the browser is gone") from None
                if not error.passing and error.status != 410:  # 410: the version to watch from is too old
                    raise
                self._interruption = None if error.status == 410 else str(error)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _changes(self, version: str) -> AsyncGenerator[Pod, None]:
        query = {"fieldSelector": f"metadata.name={self._name}", "resourceVersion": version}
        async with aclosing(self._api.watch(self._pods, query)) as events:
            async for event in events:
                if event["type"] == "DELETED":
                    raise BrowserFailed(browser_of(event["object"]).reason or "the pod was deleted")
                yield event["object"]
