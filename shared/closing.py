"""Closing what is open when a function ends; functions-framework has no hook for that."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class End:
    """What is to be closed; keep it."""

    close: Callable[[], Awaitable[None]]
    waiting: asyncio.Task[None]


def at_the_end(close: Callable[[], Awaitable[None]]) -> End:
    """Await `close` when the event loop ends, which cancels whatever still waits."""

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await close()

    return End(close, asyncio.create_task(wait()))


async def closed(end: End) -> None:
    """Close it now."""
    end.waiting.cancel()
    await asyncio.gather(end.waiting, return_exceptions=True)
    await end.close()  # a task that never began has not


def end_in_order() -> None:
    """SIGTERM ends this process as Ctrl-C does: uvicorn else ends by the signal itself, before anything is closed."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda _signal, _frame: signal.raise_signal(signal.SIGINT))
