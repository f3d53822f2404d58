"""The browsers that are tested, where they are installed."""

from __future__ import annotations

import shutil

import pytest

needs_chromium = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="chromium is not installed; `make setup BROWSER=chromium` installs it"
)
ENGINES = ("firefox", pytest.param("chromium", marks=needs_chromium))
