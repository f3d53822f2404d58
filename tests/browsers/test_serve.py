"""The browser service's container, as a process of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from playwright.async_api import async_playwright

from browser.serve import HEALTH_SECONDS
from local.process import base_environment, free_port
from tests.serving import eventually

PR_SET_CHILD_SUBREAPER = 36
"""To its descendants it is then what PID 1 is."""
FIREFOX = "/usr/bin/firefox-esr"
needs_firefox = pytest.mark.skipif(
    not Path(FIREFOX).exists(), reason="the image has Debian's Firefox; this machine not"
)


@dataclass
class Service:
    """A service that runs."""

    process: asyncio.subprocess.Process
    folder: Path
    port: int
    health: str
    path: str

    async def status(self) -> int:
        """What the kubelet would be told."""
        async with httpx.AsyncClient(trust_env=False) as http:
            return (await http.get(self.health)).status_code

    async def ready(self) -> None:
        """Wait until it accepts connections."""
        async with asyncio.timeout(60):
            while True:
                try:
                    if await self.status() == 200:
                        return
                except httpx.TransportError:
                    assert self.process.returncode is None
                await asyncio.sleep(0.05)

    async def end(self) -> tuple[int, str]:
        """Its exit code and what it wrote."""
        assert self.process.stderr is not None
        said = bytearray()
        try:
            async with asyncio.timeout(45):
                async for line in self.process.stderr:
                    said += line
                code = await self.process.wait()
        except TimeoutError:
            family = psutil.Process(self.process.pid).children(recursive=True)
            raise AssertionError(f"it still runs with {family} and said {said.decode()!r}") from None
        return code, said.decode()

    @property
    def reason(self) -> str:
        """The termination message."""
        return (self.folder / "reason").read_text()


def _adopt_orphans() -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


@asynccontextmanager
async def serving(folder: Path, **changes: str) -> AsyncIterator[Service]:
    """A service, with all that it may write below `folder`."""
    path, port, health = f"/{secrets.token_urlsafe(24)}", free_port(), free_port()
    own = {
        "WS_PATH": path,
        "PORT": str(port),
        "HEALTH_PORT": str(health),
        "TERMINATION_LOG": str(folder / "reason"),
        "TMPDIR": str(folder),
        "HOME": str(folder),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "browser.serve",
        env=base_environment() | own | changes,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=_adopt_orphans,
    )
    try:
        yield Service(process, folder, port, f"http://127.0.0.1:{health}/health", path)
    finally:
        if process.returncode is None:
            children = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        await process.wait()


@needs_firefox
async def test_it_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """SIGTERM ends every session, the browser and the service within seconds; that is a good end."""
    async with serving(tmp_path) as service, async_playwright() as playwright:
        await service.ready()
        assert not (tmp_path / "launch-server.json").exists()
        browser = await playwright.firefox.connect(f"ws://127.0.0.1:{service.port}{service.path}")
        page = await browser.new_page()
        await page.set_content("<title>Works</title>")
        assert await page.title() == "Works"
        gone = asyncio.Event()
        browser.on("disconnected", lambda _browser: gone.set())
        family = psutil.Process(service.process.pid).children(recursive=True)
        service.process.send_signal(signal.SIGTERM)
        code, said = await service.end()
        await asyncio.wait_for(gone.wait(), 5)
        assert (code, said.splitlines()[-1]) == (0, "ready")
        assert not (tmp_path / "reason").exists()
        assert psutil.wait_procs(family, timeout=5)[1] == []


@needs_firefox
async def test_a_browser_that_dies_is_a_bad_end(tmp_path: Path) -> None:
    """The container ends too, and says why where Kubernetes reads it."""
    async with serving(tmp_path) as service:
        await service.ready()
        for process in psutil.Process(service.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # they come and go
                if process.name() in ("firefox-esr", "firefox"):
                    process.kill()
        code, _ = await service.end()
        assert code == 1
        assert service.reason == "its browser died"


async def test_a_browser_that_cannot_start_says_why(tmp_path: Path) -> None:
    """Its own last words, and never the secret path."""
    broken = tmp_path / "firefox"
    broken.write_text('#!/bin/sh\necho "no display here: $1 $WS_PATH" >&2\nexit 3\n')
    broken.chmod(0o755)
    async with serving(tmp_path, FIREFOX=str(broken)) as service:
        code, said = await service.end()
        assert code == 1
        assert "no display here" in service.reason
        assert service.path not in service.reason + said
        assert not (tmp_path / "launch-server.json").exists()


async def test_it_is_not_ready_before_it_accepts_connections(tmp_path: Path) -> None:
    """The kubelet is told so until then, not before it could have become ready, and of no other path."""
    slow = tmp_path / "firefox"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    async with serving(tmp_path, FIREFOX=str(slow)) as service:
        async with asyncio.timeout(20):
            while True:
                asked = time.monotonic()
                try:
                    assert await service.status() == 503
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
        assert time.monotonic() - asked >= HEALTH_SECONDS
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(service.health.replace("/health", "/other"))).status_code == 404
        # Playwright waits for its browser: it is killed after the grace, and that is soon enough.
        service.process.send_signal(signal.SIGTERM)
        code, _ = await service.end()
        assert code == 0


async def test_without_a_secret_path_it_does_not_start(tmp_path: Path) -> None:
    """Anybody could use it."""
    async with serving(tmp_path, WS_PATH="") as service:
        code, said = await service.end()
        assert code == 2
        assert said.startswith("WS_PATH: not set")


async def test_it_leaves_no_zombies(tmp_path: Path) -> None:
    """Processes whose parent died become the first process' own, and it takes note of their end."""
    forking = tmp_path / "firefox"
    forking.write_text(f"#!/bin/sh\n(sh -c 'echo $$ >{tmp_path}/orphan' &)\nexec sleep 60\n")
    forking.chmod(0o755)
    async with serving(tmp_path, FIREFOX=str(forking)) as service:
        family = psutil.Process(service.process.pid)
        await eventually(lambda: (tmp_path / "orphan").exists() and (tmp_path / "orphan").read_text().strip())
        orphan = int((tmp_path / "orphan").read_text())
        await eventually(lambda: not psutil.pid_exists(orphan))
        assert [child for child in family.children() if child.status() == psutil.STATUS_ZOMBIE] == []
