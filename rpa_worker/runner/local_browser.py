"""A browser of this machine, instead of the one that the orchestrator would have started."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Playwright

from rpa_worker.browser import Driver
from rpa_worker.errors import WorkerError

INSTALLED = {"firefox": "firefox-esr", "chromium": "chromium"}
"""What Debian calls them."""
INSPECTORS = ("google-chrome", "microsoft-edge")
"""Browsers that show Playwright's inspector, besides Playwright's own Chromium."""


class NoBrowser(WorkerError):
    """No browser is installed that can do this; the message has the command that mends it."""


class Launcher(Driver):
    """Starts browsers instead of connecting to them."""

    def __init__(self, engine: str, *, visible: bool, slow_mo: int = 0, pause: bool = False) -> None:
        super().__init__(engine)
        self._visible = visible
        self._slow_mo = slow_mo
        self._pause = pause
        self.missing: NoBrowser | None = None
        """Why there was no browser."""

    async def connect(self, _: str) -> Browser:
        """A fresh browser. Raises NoBrowser, playwright's Error."""
        playwright = await self.playwright()
        try:
            if self._pause and self.engine != "chromium":  # which shows the inspector itself
                _require_inspector(playwright)
            options = self._program(self.browser_type(playwright).executable_path)
        except NoBrowser as error:
            self.missing = error
            raise
        return await self.browser_type(playwright).launch(
            headless=not self._visible, slow_mo=self._slow_mo, timeout=60_000, **options
        )

    def _program(self, playwrights_own: str) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if self.engine == "chromium":
            options["chromium_sandbox"] = os.name != "posix" or os.geteuid() != 0  # as root it refuses to start with it
        if Path(playwrights_own).exists():
            return options
        program = shutil.which(INSTALLED[self.engine])
        if program is None:
            raise NoBrowser(f"no {self.engine} is installed: run `playwright install {self.engine}`")
        if self.engine == "firefox":
            options["channel"] = "moz-firefox"  # Debian's Firefox is driven over WebDriver BiDi
        return {**options, "executable_path": program}


def _require_inspector(playwright: Playwright) -> None:
    # Playwright would wait for its inspector for ever.
    if not Path(playwright.chromium.executable_path).exists() and not any(map(shutil.which, INSPECTORS)):
        raise NoBrowser(
            "Playwright's inspector is a window of Chromium, whatever browser is inspected: "
            "run `playwright install chromium`, add --browser chromium, or use breakpoint() in the action instead"
        )


def has_display() -> bool:
    """Whether a window can be shown here."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
