"""Browsers as processes: `playwright launch-server`, one for each attempt, and nothing left of it afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from local.launching import NoBrowser, forget_secret, launch, why
from local.sweeping import kill_browsers
from shared.browsers import Phase


def browsers_folder(state: Path) -> Path:
    """Where the browsers of a system keep their files: a short path, since Chromium makes sockets below it."""
    digest = hashlib.sha256(str(state.resolve()).encode()).hexdigest()
    return Path(tempfile.gettempdir()) / f"rpa-{digest[:12]}"


@dataclass
class LocalBrowser:
    """One browser."""

    name: str
    job_id: int | None
    attempt: int | None
    lifetime_seconds: int
    folder: Path
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    phase: Phase = Phase.STARTING
    address: str | None = None
    reason: str | None = None
    keeper: asyncio.Task[None] | None = None
    end: asyncio.Task[None] | None = None
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it is ready or failed."""

    def json(self) -> dict[str, object]:
        """As the node's API shows it."""
        return {
            "name": self.name,
            "job_id": self.job_id,
            "attempt": self.attempt,
            "phase": self.phase.value,
            "reason": self.reason,
            "created_at": self.created_at.isoformat(),
            "address": self.address if self.phase is Phase.READY else None,
        }

    def become(self, phase: Phase, reason: str | None = None) -> None:
        """Change the phase and tell who waits."""
        self.phase, self.reason = phase, reason
        self.settled.set()


class BrowserProcesses:
    """All browsers of this machine's node."""

    def __init__(self, state: Path) -> None:
        self._state = state.resolve()
        self._folder = browsers_folder(self._state)
        self._browsers: dict[str, LocalBrowser] = {}
        # Whatever an earlier node left.
        kill_browsers(self._state)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700)  # fails where somebody else has it

    def __iter__(self) -> Iterator[LocalBrowser]:
        return iter(list(self._browsers.values()))

    def get(self, name: str) -> LocalBrowser | None:
        """The browser of this name."""
        return self._browsers.get(name)

    def create(
        self, name: str, secret_path: str, lifetime_seconds: int, job_id: int | None, attempt: int | None
    ) -> LocalBrowser:
        """Start a browser, or adopt the one of this name."""
        if known := self._browsers.get(name):
            return known
        browser = LocalBrowser(name, job_id, attempt, lifetime_seconds, self._folder / name)
        browser.folder.mkdir(exist_ok=True, mode=0o700)
        self._browsers[name] = browser
        browser.keeper = asyncio.create_task(self._keep(browser, secret_path))
        return browser

    async def _keep(self, browser: LocalBrowser, secret_path: str) -> None:
        reason = "deleted"
        try:
            async with asyncio.timeout(browser.lifetime_seconds):
                process = await launch(self._state, browser.name, browser.folder, secret_path)
                if address := await _announced(process):
                    forget_secret(browser.folder)
                    browser.address = address
                    browser.become(Phase.READY)
                reason = why(browser.folder, await process.wait(), secret_path)
        except TimeoutError:
            reason = f"lived its {browser.lifetime_seconds} s"
        except (OSError, NoBrowser) as error:
            reason = str(error)
        finally:
            forget_secret(browser.folder)
            browser.become(Phase.FAILED, reason)
            await asyncio.to_thread(kill_browsers, self._state, browser.name)

    async def delete(self, name: str) -> None:
        """End a browser and remove what it left; who asks twice waits for the same end."""
        if browser := self._browsers.get(name):
            browser.end = browser.end or asyncio.create_task(self._end(browser))
            # A caller that goes away stops nothing.
            await asyncio.shield(browser.end)

    async def _end(self, browser: LocalBrowser) -> None:
        if browser.keeper:
            browser.keeper.cancel()
            await asyncio.gather(browser.keeper, return_exceptions=True)
        await asyncio.to_thread(kill_browsers, self._state, browser.name)
        await asyncio.to_thread(shutil.rmtree, browser.folder, True)
        del self._browsers[browser.name]

    async def delete_all(self) -> None:
        """End every browser."""
        await asyncio.gather(*(self.delete(name) for name in list(self._browsers)))
        shutil.rmtree(self._folder, ignore_errors=True)


async def _announced(process: asyncio.subprocess.Process) -> str | None:
    """`host:port` once the server accepts connections; None when it ended before that."""
    line = b""
    if process.stdout:
        with contextlib.suppress(ValueError):
            line = await process.stdout.readline()
    return urlsplit(line.decode(errors="replace").strip()).netloc or None
