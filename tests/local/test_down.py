"""`python -m local down` ends what a crash left, and nothing else."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from local.process import MARK


async def test_it_ends_what_has_the_mark_and_leaves_the_callers_shell_alone(tmp_path: Path) -> None:
    """Whoever exported RPA_LOCAL keeps the shell and the editor that have it too."""
    caller = {**os.environ, "RPA_LOCAL": str(tmp_path)}
    editor = await asyncio.create_subprocess_exec("sleep", "60", env=caller)
    left = await asyncio.create_subprocess_exec("sleep", "60", env={**caller, MARK: str(tmp_path)})
    down = await asyncio.create_subprocess_exec(sys.executable, "-m", "local", "down", env=caller)
    assert await down.wait() == 0
    assert await left.wait() < 0
    assert editor.returncode is None
    editor.kill()
    await editor.wait()
