"""The tutorial: every file that it shows and every command, in its order, on a system of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from local.process import free_port
from tests.docs.documents import story

ROOT = Path(__file__).parents[1]
PNG = b"\x89PNG\r\n\x1a\n"
QUICKLY = "totp_period: 2\n"
"""Besides the worker's port all that is not as the tutorial says: readers wait up to half a minute for a code."""

pytestmark = pytest.mark.timeout(300)


@dataclass
class Reader:
    """Somebody who does what the tutorial says, in a checkout, at three terminals."""

    folder: Path
    port: int = field(default_factory=free_port)
    said: list[str] = field(default_factory=list)
    """By each command that ends."""
    terminals: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)

    async def do(self, language: str, what: str, text: str) -> None:
        """What one block asks for; what stands behind its language says where, or how it ends."""
        text = text.replace("8090", str(self.port))
        if language != "sh":
            (self.folder / what).write_text(text + (QUICKLY if language == "yaml" else ""))
        elif what in ("system", "worker"):
            self.terminals[what] = await self._shell(text)
            await self._up(what)
        else:
            process = await self._shell(text)
            out, _ = await process.communicate()
            self.said.append(out.decode())
            assert process.returncode == int(what.removeprefix("exit=") or 0), f"{text}{self.said[-1]}"

    async def _shell(self, text: str) -> asyncio.subprocess.Process:
        kept = {name: os.environ[name] for name in ("PATH", "COVERAGE_PROCESS_CONFIG") if name in os.environ}
        browsers = os.environ.get("PLAYWRIGHT_BROWSERS_PATH", str(Path.home() / ".cache" / "ms-playwright"))
        environment = {**kept, "HOME": str(self.folder / "home"), "PLAYWRIGHT_BROWSERS_PATH": browsers}
        return await asyncio.create_subprocess_exec(
            "bash", "-euo", "pipefail", "-c", text, cwd=self.folder, env=environment,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    async def _up(self, terminal: str) -> None:
        async with asyncio.timeout(120), httpx.AsyncClient(trust_env=False) as http:
            output = self.terminals[terminal].stdout
            assert output is not None
            while terminal == "system" and b"ready" not in (line := await output.readline()):
                assert line, "make up ended"
            while terminal == "worker":
                with contextlib.suppress(httpx.TransportError):
                    if (await http.get(f"http://127.0.0.1:{self.port}/status")).json()["available"]:
                        return
                await asyncio.sleep(0.05)

    async def leave(self) -> None:
        """Ctrl-C in every terminal."""
        for process in reversed(self.terminals.values()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            await process.communicate()


@pytest.fixture
async def reader() -> AsyncIterator[Reader]:
    """In a folder that looks like a checkout after `make setup`."""
    with tempfile.TemporaryDirectory(prefix="rpa-test-tutorial-") as name:
        reader = Reader(_checkout(Path(name)))
        try:
            yield reader
        finally:
            await reader.leave()


def _checkout(folder: Path) -> Path:
    folder.chmod(0o755)  # PostgreSQL runs as another user where we are root, and must get through
    for path in ROOT.iterdir():
        if not path.name.startswith(".") or path.name == ".venv":
            (folder / path.name).symlink_to(path)
    (folder / "home").mkdir()
    return folder


async def test_everything_that_it_says(reader: Reader) -> None:
    """Files are as shown, commands end as they should, and show what the text promises."""
    for block in story("docs/tutorial.md"):
        await reader.do(block.language, block.remark, block.text)
    _, account, first, second, submitted, dashboard, refused, retried, _ = reader.said
    assert re.match(r"http://127.0.0.1:\d+/octotel robot@octotel.example \S+\n$", account)
    assert '"heading": "One more step"' in first
    assert '"status": "completed"' in second
    assert (reader.folder / "evidence" / "outcome.png").read_bytes().startswith(PNG)
    assert re.search(r"✓ job 1 completed after .*: reference OCT-\d+ +evidence outcome.png", submitted)
    assert re.search(r"phase|asking for the circuit", submitted)
    assert re.search(r"^  outcome.png   attempt 1, image/png", submitted, re.MULTILINE)
    assert re.match(r"http://127.0.0.1:\d+ admin \S+\n$", dashboard)
    assert re.search(r"✕ job 2 failed .*does not know circuit UNKNOWN-1", refused)
    assert "Job 3 retries job 2." in retried
    assert re.search(r"✕ job 3 failed .*does not know circuit UNKNOWN-1", retried)
