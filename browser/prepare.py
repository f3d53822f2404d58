"""`python -m browser.prepare FOLDER`: what Firefox compiles of itself at its first start, kept for all that follow.

A browser's profile is new each time, and so Firefox would parse and compile its own scripts each time: a third of its
start. It looks for the result below the profile, and takes it if `compatibility.ini` is of the same build. Nothing
else of the profile is kept: nothing that tells one browser from another.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import sync_playwright

from browser.serve import FIREFOX

CACHE = "startupCache"
COMPILED = ("startupCache.8.little", "scriptCache.bin", "scriptCache-child.bin")
KEPT = (CACHE, "compatibility.ini")
WRITTEN_SECONDS = 300
"""It writes some seconds after its start; minutes, where another machine is emulated."""


def prepare(folder: Path) -> None:
    """Start Firefox once and have it show a page; TimeoutError when it does not write what it compiled."""
    with TemporaryDirectory() as made, sync_playwright() as playwright:
        profile = Path(made)
        browser = playwright.firefox.launch_persistent_context(
            profile, channel="moz-firefox", executable_path=FIREFOX, headless=True, timeout=WRITTEN_SECONDS * 1000
        )
        page = browser.new_page()
        page.set_content("<title>Ready</title><input><button>Go</button>")
        page.fill("input", "text")
        page.click("button")
        until = time.monotonic() + WRITTEN_SECONDS
        while missing := [name for name in COMPILED if not (profile / CACHE / name).exists()]:
            if time.monotonic() > until:
                raise TimeoutError(f"{FIREFOX} did not write {', '.join(missing)} within {WRITTEN_SECONDS} s")
            time.sleep(0.1)
        browser.close()
        for name in KEPT:
            kept = profile / name
            shutil.copytree(kept, folder / name) if kept.is_dir() else shutil.copy2(kept, folder / name)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True)
    prepare(target)
