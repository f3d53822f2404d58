"""Closing what is open when a function ends; functions-framework has no hook for that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


def at_the_end(close: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
    """Await `close` when the event loop ends, which cancels whatever still waits. Keep the task."""

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await close()

    return asyncio.create_task(wait())
