"""What is open is closed when the loop ends, as uvicorn ends it."""

from __future__ import annotations

import asyncio

from shared.closing import at_the_end


def test_what_is_open_is_closed_in_the_end() -> None:
    """Once, and not before."""
    closed: list[str] = []
    kept: list[asyncio.Task[None]] = []

    async def close() -> None:
        await asyncio.sleep(0)
        closed.append("now")

    async def main() -> None:
        kept.append(at_the_end(close))
        await asyncio.sleep(0)
        assert closed == []

    asyncio.run(main())
    assert closed == ["now"]
