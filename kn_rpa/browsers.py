"""`kn rpa browser`"""

from __future__ import annotations

import click

from kn_rpa.api import Api
from kn_rpa.output import View, age, no_headers_option, output_option, show_list
from kn_rpa.target import Group, Target

VIEW = View(
    "browser",
    "browsers",
    {
        "NAME": lambda it: it["name"],
        "JOB": lambda it: it["job_id"] or "",
        "ATTEMPT": lambda it: it["attempt"] or "",
        "PROVIDER": lambda it: it["provider"] or "",
        "STATUS": lambda it: it["status"] or ("warm" if it["ready_at"] else "starting"),
        "AGE": lambda it: age(it["created_at"]),
    },
    lambda it: it["name"],
)


@click.group(cls=Group)
def browser() -> None:
    """Browsers and the attempts that they belong to."""


@browser.command("list")
@output_option
@no_headers_option
@click.pass_obj
def list_browsers(target: Target, output: str | None, no_headers: bool) -> None:
    """List browsers."""
    show_list(Api(target).items("/browser-services", of="monitor"), VIEW, output, no_headers=no_headers)
