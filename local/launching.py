"""Starting `playwright launch-server` for the browser that is installed here, and why one ended."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
from pathlib import Path

from playwright._impl._driver import compute_driver_executable

from browser.ending import why_it_ended
from local.process import MARK, base_environment, die_with_parent
from local.sweeping import BROWSER_MARK

FIREFOX = "firefox-esr"


class NoBrowser(Exception):
    """No browser that Playwright can drive is installed; `make setup` installs one."""


def browser_kind() -> str:
    """Playwright's name of the browser that is wanted here."""
    return "chromium" if os.environ.get("BROWSER") == "chromium" else "firefox"


def launch_options(folder: Path, secret_path: str) -> dict[str, object]:
    """Playwright's options for the browser that is installed here. Raises NoBrowser."""
    # Port 0: the server takes a free one and says which, so that no two ever want the same.
    options: dict[str, object] = {"headless": True, "host": "127.0.0.1", "port": 0, "wsPath": secret_path}
    kind = browser_kind()
    if kind == "chromium":
        options["chromiumSandbox"] = os.geteuid() != 0  # it refuses to run as root otherwise
    if _playwrights_own(kind):
        return options  # ends by itself when the pipe to its launcher closes
    program = {"firefox": FIREFOX, "chromium": "chromium"}[kind]
    found = shutil.which(program)
    if not found:
        raise NoBrowser(f"neither Playwright's {kind} nor {program} is installed; run `make setup BROWSER={kind}`")
    if kind == "firefox":
        options["channel"] = "moz-firefox"  # Debian's Firefox is driven over WebDriver BiDi
    return {**options, "executablePath": _wrapped(folder, found)}


def _playwrights_own(kind: str) -> bool:
    where = os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache" / "ms-playwright"
    return any(Path(where).glob(f"{kind}-*/INSTALLATION_COMPLETE"))


def _wrapped(folder: Path, executable: str) -> str:
    # Playwright starts the browser in a session of its own: only the kernel still ends it with its launcher.
    wrapper = folder / "browser"
    wrapper.write_text(f'#!/bin/sh\nexec setpriv --pdeathsig KILL -- {shlex.quote(executable)} "$@"\n')
    wrapper.chmod(0o700)
    return str(wrapper)


async def launch(state: Path, name: str, folder: Path, secret_path: str) -> asyncio.subprocess.Process:
    """Start the server; its first line of output is its address. Raises NoBrowser, OSError."""
    config = folder / "config.json"
    config.touch(0o600)
    config.write_text(json.dumps(launch_options(folder, secret_path)))
    node, cli = compute_driver_executable()
    own = {MARK: str(state), BROWSER_MARK: name, "HOME": str(folder), "TMPDIR": str(folder)}
    with (folder / "log").open("wb") as log:
        return await asyncio.create_subprocess_exec(
            str(node),
            str(cli),
            "launch-server",
            "--browser",
            browser_kind(),
            "--config",
            str(config),
            env={**_environment(), **own},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )


def _environment() -> dict[str, str]:
    # Playwright looks for its own browsers below HOME, which is the browser's own folder here.
    browsers = str(Path.home() / ".cache" / "ms-playwright")
    return {"PLAYWRIGHT_BROWSERS_PATH": browsers, **base_environment(), "MOZ_CRASHREPORTER_DISABLE": "1"}


def forget_secret(folder: Path) -> None:
    """Remove the file that tells the server its secret path; it has read it."""
    (folder / "config.json").unlink(missing_ok=True)


def why(folder: Path, code: int, secret_path: str) -> str:
    """Why a browser ended, as far as its log says."""
    try:
        lines = (folder / "log").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    return why_it_ended(lines, code, secret_path)
