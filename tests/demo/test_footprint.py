"""How the demo knows that no browser is left."""

from __future__ import annotations

import asyncio
import sys

from demo.footprint import Footprint


async def test_left() -> None:
    """A browser's process is seen while it runs and not held against the run once it has ended."""
    program = "import sys; print(flush=True); sys.stdin.read()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, "launch-server",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    await process.stdout.readline()
    footprint = Footprint()
    footprint.look()
    assert process.pid in footprint.left()
    await process.communicate(b"")
    assert process.pid not in footprint.left()
    assert len(footprint) > 0
