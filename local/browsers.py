"""Browsers as processes: `playwright launch-server`, one for each attempt, and nothing left of it afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil
from playwright._impl._driver import compute_driver_executable

from local.process import base_environment, die_with_parent, free_port
from shared.browsers import Phase

MARK = "RPA_BROWSER"
"""Every process of a browser has this in its environment, whatever session or group it moved to."""
POLL_SECONDS = 0.05
REASON_LIMIT = 500
FIREFOX = "firefox-esr"


class NoBrowser(Exception):
    """No browser that Playwright can drive is installed; `make setup` installs one."""


def launch_options(folder: Path, port: int, secret_path: str) -> dict[str, object]:
    """Playwright's options for the browser that is installed here. Raises NoBrowser."""
    options: dict[str, object] = {"headless": True, "host": "127.0.0.1", "port": port, "wsPath": secret_path}
    if os.environ.get("BROWSER", "firefox") == "chromium":
        found = shutil.which("chromium")
        return {
            **options,
            "chromiumSandbox": os.geteuid() != 0,
            **({"executablePath": _wrapped(folder, found)} if found else {}),
        }
    if _playwrights_own():
        return options
    found = shutil.which(FIREFOX)
    if not found:
        raise NoBrowser(f"neither Playwright's Firefox nor {FIREFOX} is installed; run `make setup`")
    # Debian's Firefox is driven over WebDriver BiDi.
    return {**options, "channel": "moz-firefox", "executablePath": _wrapped(folder, found)}


def _playwrights_own() -> bool:
    where = os.environ.get("PLAYWRIGHT_BROWSERS_PATH", str(Path.home() / ".cache" / "ms-playwright"))
    return any(Path(where).glob("firefox-*/INSTALLATION_COMPLETE"))


def _wrapped(folder: Path, executable: str) -> str:
    # Playwright starts the browser in a session of its own: only the kernel still ends it with its launcher.
    wrapper = folder / "browser"
    wrapper.write_text(f'#!/bin/sh\nexec setpriv --pdeathsig KILL -- {executable} "$@"\n')
    wrapper.chmod(0o700)
    return str(wrapper)


@dataclass
class LocalBrowser:
    """One browser."""

    name: str
    job_id: int
    attempt: int
    lifetime_seconds: int
    folder: Path
    port: int
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: float = field(default_factory=time.monotonic)
    phase: Phase = Phase.STARTING
    reason: str | None = None
    process: asyncio.subprocess.Process | None = None
    keeper: asyncio.Task[None] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def json(self) -> dict[str, object]:
        """As the node's API shows it."""
        return {
            "name": self.name,
            "job_id": self.job_id,
            "attempt": self.attempt,
            "phase": self.phase.value,
            "reason": self.reason,
            "created_at": self.created_at.isoformat(),
            "address": f"127.0.0.1:{self.port}" if self.phase is Phase.READY else None,
        }

    def become(self, phase: Phase, reason: str | None = None) -> None:
        """Change the phase and tell who waits."""
        self.phase, self.reason = phase, reason
        self.changed.set()


class BrowserProcesses:
    """All browsers of this machine's node."""

    def __init__(self, state: Path) -> None:
        self._folder = (state / "browsers").resolve()
        self._browsers: dict[str, LocalBrowser] = {}
        sweep(self._folder)

    def __iter__(self) -> Iterator[LocalBrowser]:
        return iter(list(self._browsers.values()))

    def get(self, name: str) -> LocalBrowser | None:
        """The browser of this name."""
        return self._browsers.get(name)

    async def create(
        self, name: str, secret_path: str, lifetime_seconds: int, job_id: int, attempt: int
    ) -> LocalBrowser:
        """Start a browser, or adopt the one of this name."""
        if known := self._browsers.get(name):
            return known
        folder = self._folder / name
        browser = LocalBrowser(name, job_id, attempt, lifetime_seconds, folder, free_port())
        self._browsers[name] = browser
        folder.mkdir(parents=True, mode=0o700)
        browser.keeper = asyncio.create_task(self._run(browser, secret_path))
        return browser

    async def _run(self, browser: LocalBrowser, secret_path: str) -> None:
        try:
            browser.process = await _launch(browser, secret_path)
        except (OSError, NoBrowser) as error:
            browser.become(Phase.FAILED, str(error))
            return
        ready = asyncio.create_task(_listening(browser))
        try:
            async with asyncio.timeout(browser.lifetime_seconds):
                code = await browser.process.wait()
            browser.become(Phase.FAILED, _why(browser, code, secret_path))
        except TimeoutError:
            browser.process.kill()
            browser.become(Phase.FAILED, f"lived its {browser.lifetime_seconds} s")
        finally:
            ready.cancel()
            await asyncio.to_thread(_kill_marked, browser.folder)

    async def delete(self, name: str) -> None:
        """End a browser and remove what it left."""
        browser = self._browsers.get(name)
        if browser is None:
            return
        if browser.keeper:
            browser.keeper.cancel()
            await asyncio.gather(browser.keeper, return_exceptions=True)
        if browser.process and browser.process.returncode is None:
            browser.process.kill()
            await browser.process.wait()
        await asyncio.to_thread(_kill_marked, browser.folder)
        await asyncio.to_thread(shutil.rmtree, browser.folder, True)
        self._browsers.pop(name, None)
        browser.become(Phase.FAILED, "deleted")

    async def delete_all(self) -> None:
        """End every browser."""
        await asyncio.gather(*(self.delete(name) for name in list(self._browsers)))


async def _launch(browser: LocalBrowser, secret_path: str) -> asyncio.subprocess.Process:
    node, cli = compute_driver_executable()
    config = browser.folder / "config.json"
    config.touch(0o600)
    config.write_text(json.dumps(launch_options(browser.folder, browser.port, secret_path)))
    kind = "chromium" if os.environ.get("BROWSER") == "chromium" else "firefox"
    folder = str(browser.folder)
    environment = {
        **base_environment(),
        MARK: folder,
        "HOME": folder,
        "TMPDIR": folder,
        "MOZ_CRASHREPORTER_DISABLE": "1",
    }
    with (browser.folder / "log").open("wb") as log:
        return await asyncio.create_subprocess_exec(
            str(node),
            str(cli),
            "launch-server",
            "--browser",
            kind,
            "--config",
            str(config),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )


async def _listening(browser: LocalBrowser) -> None:
    while True:
        with contextlib.suppress(OSError):
            with socket.socket() as probe:
                probe.setblocking(False)
                await asyncio.get_running_loop().sock_connect(probe, ("127.0.0.1", browser.port))
            (browser.folder / "config.json").unlink(missing_ok=True)
            browser.become(Phase.READY)
            return
        await asyncio.sleep(POLL_SECONDS)


def _why(browser: LocalBrowser, code: int, secret_path: str) -> str:
    with contextlib.suppress(OSError):
        text = (browser.folder / "log").read_text(errors="replace").replace(secret_path, "/…")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return f"ended with {code}: {' '.join(lines)[:REASON_LIMIT]}"
    return f"ended with {code}"


def _kill_marked(folder: Path) -> None:
    """Kill every process that carries the mark of a folder or of one below it."""
    prefix = str(folder)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            mark = process.environ().get(MARK, "")
            if mark == prefix or mark.startswith(prefix + "/"):
                process.send_signal(signal.SIGKILL)


def sweep(folder: Path) -> None:
    """Remove whatever browsers an earlier node left: processes and folders."""
    _kill_marked(folder)
    shutil.rmtree(folder, ignore_errors=True)
