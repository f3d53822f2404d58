"""`kn rpa doctor`"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial

import click
from rich.text import Text

from kn_rpa.api import Api
from kn_rpa.doctor.deployment import Deployment
from kn_rpa.doctor.eventing import check_broker, check_ticks, check_triggers
from kn_rpa.doctor.finding import Check, Finding, Mark, examine
from kn_rpa.doctor.images import check_functions, check_images
from kn_rpa.doctor.rights import check_rights
from kn_rpa.doctor.secrets import check_config, check_secrets
from kn_rpa.doctor.stores import Stores, check_answers
from kn_rpa.errors import NotGood
from kn_rpa.output import View, console, output_option, show
from kn_rpa.target import Command, Target

STYLES = {Mark.GOOD: "green", Mark.BAD: "bold red", Mark.WARNING: "yellow", Mark.UNKNOWN: "yellow"}
VIEW = View("part", "parts", {}, lambda it: it["part"])
PART_WIDTH = 10
PAUSE_SECONDS = 2
PATIENCE_SECONDS = 20
"""A function may start from zero first; one that cannot start would be waited for as long again by each check."""


@click.command(cls=Command, short_help="Say what is wrong with a deployment, and what mends it.")
@click.option(
    "-k", "--overlay", envvar="RPA_OVERLAY", default="knative/overlays/mine", show_default=True, show_envvar=True,
    help="The folder that your deployment is applied from; commands name it.",
)  # fmt: skip
@click.option("--wait", type=click.IntRange(0), default=0, help="Seconds to wait for everything to be well.")
@output_option
@click.pass_obj
def doctor(target: Target, overlay: str, wait: int, output: str | None) -> None:
    """Check a deployment part by part; say what is wrong and the command that mends it.

    Exit code 2 if something is wrong. It changes nothing.
    """
    until = time.monotonic() + wait
    while True:
        findings = list(_examined(target, overlay, quiet=bool(output) or wait > 0))
        if _is_well(findings) or time.monotonic() > until:
            break
        time.sleep(PAUSE_SECONDS)
    if output:
        show({"items": [_item(finding) for finding in findings]}, VIEW, output)
    elif wait:
        for finding in findings:
            _say(finding)
    if not _is_well(findings):
        raise NotGood(_sum(findings))


def _is_well(findings: Sequence[Finding]) -> bool:
    return all(finding.mark in (Mark.GOOD, Mark.WARNING) for finding in findings)


def _checks(target: Target, overlay: str) -> Iterator[tuple[str, Check]]:
    api, deployment = Api(target, patience=PATIENCE_SECONDS, once=True), None
    if target.on_cluster:
        deployment = Deployment(target.cluster, overlay, target)
        deployment.cluster.look_anew()
        for part, check in (
            ("secrets", check_secrets), ("config", check_config), ("rbac", check_rights), ("broker", check_broker),
            ("triggers", check_triggers), ("ticks", check_ticks), ("functions", check_functions),
            ("image", check_images),
        ):  # fmt: skip
            yield part, partial(check, deployment)
    stores = Stores(api, deployment)
    yield "answers", partial(check_answers, api)
    yield "database", stores.check_database
    yield "schema", stores.check_schema
    yield "valkey", stores.check_valkey
    yield "clock", stores.check_clocks
    yield "events", stores.check_backlog


def _examined(target: Target, overlay: str, *, quiet: bool) -> Iterator[Finding]:
    """Each finding; unless all are wanted at the end, printed as it comes, and what is looked at meanwhile."""
    screen = console()
    for part, check in _checks(target, overlay):
        if screen.is_terminal and not quiet:
            with screen.status(f"{part} ..."):
                findings = examine(part, check)
        else:
            findings = examine(part, check)
        for finding in findings:
            if not quiet:
                _say(finding)
            yield finding


def _say(finding: Finding) -> None:
    screen = console()
    mark = (finding.mark.value, STYLES[finding.mark])
    screen.print(Text.assemble(mark, f" {finding.part:{PART_WIDTH}} {finding.says}"))
    if finding.mend:
        screen.print(Text.assemble(" " * (PART_WIDTH + 4), (finding.mend, "bold")))


def _item(finding: Finding) -> dict[str, str | None]:
    return {
        "part": finding.part,
        "state": finding.mark.name.lower(),
        "says": finding.says,
        "mend": finding.mend or None,
    }


def _sum(findings: Sequence[Finding]) -> str:
    parts = dict.fromkeys(it.part for it in findings if it.mark is Mark.BAD)
    unknown = dict.fromkeys(it.part for it in findings if it.mark is Mark.UNKNOWN)
    words = [f"broken: {', '.join(parts)}"] if parts else []
    return "; ".join(words + ([f"not checked: {', '.join(unknown)}"] if unknown else []))
