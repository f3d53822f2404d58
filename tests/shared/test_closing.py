"""What is open is closed when the loop ends, as uvicorn ends it."""

from __future__ import annotations

import asyncio

from shared.closing import End, at_the_end, closed


def test_what_is_open_is_closed_in_the_end() -> None:
    """Once, and not before."""
    closed: list[str] = []
    kept: list[End] = []

    async def close() -> None:
        await asyncio.sleep(0)
        closed.append("now")

    async def main() -> None:
        kept.append(at_the_end(close))
        await asyncio.sleep(0)
        assert closed == []

    asyncio.run(main())
    assert closed == ["now"]


async def test_what_is_closed_before_waits_no_more() -> None:
    """Even if its task never began."""
    times: list[int] = []

    async def close() -> None:
        times.append(1)

    end = at_the_end(close)
    await closed(end)
    assert times
    assert end.waiting.done()
