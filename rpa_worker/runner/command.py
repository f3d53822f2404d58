"""`rpa-worker run worker.py octotel validation -p circuit=OCT-1`"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rpa_worker.errors import InvalidOrder
from rpa_worker.runner.codes import LoginCodes
from rpa_worker.runner.loading import CannotLoad, load_worker, read_environment
from rpa_worker.runner.local_browser import Launcher, NoBrowser, has_display
from rpa_worker.runner.local_run import LocalRun
from rpa_worker.runner.notes import note
from rpa_worker.worker import Worker

COMPLETED, FAILED, NOT_STARTED, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Perform one action and print what the orchestrator would be told; 0 completed, 1 failed, 2 not even started."""
    wishes = _parser().parse_args(arguments)
    visible = has_display() and not wishes.headless
    if wishes.pause and not visible:
        return _refuse("--pause needs a browser that is seen: leave --headless out, or set DISPLAY")
    if wishes.pause:
        os.environ["PWDEBUG"] = "1"  # Playwright's own switch: its helper process reads it when it starts
    if not visible and not wishes.headless:
        note("there is no display: the browser is not seen")
    try:
        worker = _load(wishes.file, wishes.env_file)
        report = asyncio.run(_perform(worker, wishes, visible))
    except (CannotLoad, InvalidOrder, NoBrowser) as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        note("stopped")
        return INTERRUPTED
    print(json.dumps(report, indent=2))
    return COMPLETED if report and report["status"] == "completed" else FAILED


def _load(file: Path, settings: Sequence[Path]) -> Worker:
    for each in settings:
        read_environment(each, os.environ)
    try:
        return load_worker(file)
    except CannotLoad:
        raise
    except Exception:
        traceback.print_exc()
        raise CannotLoad(f"{file}: cannot be loaded; the reason is above") from None


async def _perform(worker: Worker, wishes: argparse.Namespace, visible: bool) -> dict[str, Any] | None:
    engine = wishes.browser or worker.driver.engine
    worker.driver = launcher = Launcher(engine, visible=visible, slow_mo=wishes.slow_mo, pause=wishes.pause)
    run = LocalRun(LoginCodes(os.environ), wishes.evidence)
    parameters = wishes.parameters | dict(wishes.param)
    report = await run.perform(worker, wishes.provider, wishes.action, parameters, wishes.account)
    if launcher.missing:
        raise launcher.missing
    return report


def _refuse(problem: str) -> int:
    print(f"Error: {problem}", file=sys.stderr)
    return NOT_STARTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("rpa-worker", description="Workers for the RPA orchestrator.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="run")
    run = commands.add_parser(
        "run",
        help="perform one action here, without an orchestrator",
        description="Perform one action in a browser of this machine, without an orchestrator and without a time "
        "limit. The portal's address and account come from the environment: OCTOTEL_URL, OCTOTEL_USERNAME, "
        "OCTOTEL_PASSWORD. Login codes are made from OCTOTEL_TOTP_SECRET (and OCTOTEL_TOTP_PERIOD and _DIGITS, where "
        "they are not 30 and 6), or asked for at the terminal. "
        "breakpoint() in the action opens Python's debugger.",
        epilog="Exit code: 0 completed, 1 failed, 2 not even started.",
    )
    add = run.add_argument
    add("file", type=Path, metavar="FILE", help="Python file that makes a Worker")
    add("provider", metavar="PROVIDER", help="such as octotel")
    add("action", metavar="ACTION", help="such as validation")
    add("-p", "--param", metavar="NAME=VALUE", type=_pair, action="append", default=[], help="one parameter, a text")
    add("--parameters", metavar="JSON", type=_object, default={}, help="all parameters")
    add("--account", metavar="PREFIX", help="how its variables begin, such as OCTOTEL_2; by default as the provider")
    add("--env-file", metavar="FILE", type=Path, action="append", default=[], help="NAME=VALUE lines; may be repeated")
    add("--evidence", metavar="FOLDER", type=Path, default=Path("evidence"), help="where evidence goes; ./evidence")
    add("--browser", choices=("firefox", "chromium"), help="by default what the worker or BROWSER says, else firefox")
    add("--headless", action="store_true", help="do not show the browser")
    add("--slow-mo", metavar="MS", type=int, default=0, help="wait so long after each step in the browser")
    add("--pause", action="store_true", help="open Playwright's inspector, and stop before each step")
    return parser


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text}: must be NAME=VALUE")
    return name, value


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"no JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError('must be an object, such as {"circuit": "OCT-1"}')
    return value
