"""The local runtime's browser node, whose browsers may fail to start, dawdle or crash as drawn.

Jobs of the provider `firefox` get Firefox, all others a light browser. Browsers are drawn by the job that was
submitted, which ids and names would not repeat, and warm ones by their number.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import psycopg

from local import browsers
from local.browser_node import serve
from local.launching import launch
from local.process import MARK, base_environment, die_with_parent
from local.sweeping import BROWSER_MARK
from tests.faults.drawing import Lots

LIGHT = Path(__file__).with_name("light_browser.py")
JOB = "SELECT provider, parameters ->> 'n' FROM jobs WHERE id = %s"
NEVER = 3600.0
KINDS = (None, "cannot start", "never ready", "starts slowly", "crashes")


def fate(lots: Lots, *which: object, warm: bool = False) -> tuple[float | None, float, str | None]:
    """Seconds until a browser is ready (None: it ends at once), seconds that it lives, and what is wrong with it."""
    if "browsers" not in lots.classes:
        return 0.0, NEVER, None
    draw = lots.of("browser", warm, *which)
    # Warm ones are few, and what becomes of them has its own statements.
    kind = draw.choices(KINDS, [45, 12, 3, 10, 30] if warm else [70, 8, 2, 10, 10])[0]
    match kind:
        case "cannot start":
            return None, NEVER, kind
        case "never ready":
            return NEVER, NEVER, kind
        case "starts slowly":
            return draw.uniform(2.2, 4.0), NEVER, kind
        case "crashes":
            return 0.0, draw.uniform(0.2, 1.5), kind
        case _:
            return 0.0, NEVER, None


class Launcher:
    """Starts either kind."""

    def __init__(self, lots: Lots, folder: Path) -> None:
        self._lots = lots
        self._folder = folder

    async def __call__(self, state: Path, name: str, folder: Path, secret_path: str) -> asyncio.subprocess.Process:
        """As local.launching.launch does."""
        job, _, attempt = name.removeprefix("rpa-browser-").partition("-")
        if job == "warm":
            provider, which = None, [self._number_of_warm()]
        else:
            provider, n = await asyncio.to_thread(self._job, int(job))
            which = [n, attempt]
        starts, lives, wrong = fate(self._lots, *which, warm=job == "warm")
        if wrong:
            with (self._folder / "browsers").open("a") as file:
                file.write(f"browser {wrong}\n")
        if provider == "firefox":
            return await launch(state, name, folder, secret_path)
        config = folder / "config.json"
        config.touch(0o600)
        config.write_text(json.dumps({"wsPath": secret_path, "starts_after": starts, "lives": lives}))
        environment = {**base_environment(), MARK: str(state), BROWSER_MARK: name}
        with (folder / "log").open("wb") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(LIGHT), str(config), env=environment, start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log,
                preexec_fn=die_with_parent(),
            )  # fmt: skip

    def _number_of_warm(self) -> int:
        with (self._folder / "warm").open("a") as file:  # a node that died is followed by another
            file.write(".")
            return file.tell()

    def _job(self, job: int) -> tuple[str | None, str | None]:
        """Its provider, and its number among those that were submitted."""
        while True:
            try:
                with psycopg.connect((self._folder / "database").read_text(), connect_timeout=2) as connection:
                    return connection.execute(JOB, (job,)).fetchone() or (None, None)
            except (psycopg.Error, OSError):
                continue


def main() -> None:
    """Serve as the local runtime's node does."""
    folder = Path(os.environ["RPA_FAULTS"])
    drawn: dict[str, Any] = json.loads((folder / "lots.json").read_text())
    browsers.launch = Launcher(Lots(drawn["seed"], frozenset(drawn["classes"])), folder)  # type: ignore[assignment]
    asyncio.run(serve(int(os.environ["PORT"]), os.environ["BROWSER_NODE_TOKEN"], Path(os.environ[MARK])))


if __name__ == "__main__":
    main()
