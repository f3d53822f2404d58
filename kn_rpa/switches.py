"""`kn rpa provider` and `kn rpa totp`: what may be paused, and resumed."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

import click

from kn_rpa.api import Api, Item
from kn_rpa.output import View, age, duration, no_headers_option, output_option, show, show_list
from kn_rpa.target import Group, Target


@dataclass(frozen=True)
class Switch:
    """A kind of thing that may be paused, and its path at monitor."""

    path: str
    view: View

    def turn(self, target: Target, name: str, verb: str, body: Item | None, output: str | None) -> None:
        """Pause or resume one, and say so."""
        name = name.removeprefix(f"{self.view.kind}/")
        item = Api(target).send("POST", f"{self.path}/{quote(name, safe='')}:{verb}", body, of="monitor")
        if output:
            show(item, self.view, output)
        else:
            click.echo(f"{self.view.kind.capitalize()} {name} {verb}d.")


def _state(item: Item) -> str:
    return "paused" if item["paused"] else "active"


def _why(item: Item) -> str:
    pause = item["paused"]
    return f"{pause['by']}: {pause['reason']}" if pause else ""


def _paused_for(item: Item) -> str:
    return age(item["paused"]["at"]) if item["paused"] else ""


def _seconds(value: float | None) -> str:
    return duration(value) if value else ""


PROVIDERS = Switch(
    "/providers",
    View(
        "provider",
        "providers",
        {
            "NAME": lambda it: it["name"],
            "STATE": _state,
            "LIVE": lambda it: f"{it['live']}/{it['max_sessions']}",
            "PENDING": lambda it: it["pending"],
            "OLDEST": lambda it: _seconds(it["oldest_waiting_seconds"]),
            "ACTIONS": lambda it: ",".join(it["actions"]),
            "PAUSED": _paused_for,
            "REASON": _why,
        },
        lambda it: it["name"],
    ),
)
ACCOUNTS = Switch(
    "/accounts",
    View(
        "account",
        "accounts",
        {
            "ACCOUNT": lambda it: it["account"],
            "STATE": _state,
            "PROVIDERS": lambda it: ",".join(it["providers"]),
            "WAITING": lambda it: "" if it["waiting"] is None else it["waiting"],
            "NEXT CODE": lambda it: _next_code(it),
            "PAUSED": _paused_for,
            "REASON": _why,
        },
        lambda it: it["account"],
    ),
)


def _next_code(item: Item) -> str:
    wait = item["predicted_wait_seconds"]
    return "" if wait is None else ("now" if wait < 1 else f"in {duration(wait)}")


def _verbs(group: click.Group, switch: Switch, argument: str) -> None:
    view = switch.view

    @group.command("list", help=f"List {view.plural}, what waits for them, and who paused them why.")
    @output_option
    @no_headers_option
    @click.pass_obj
    def list_(target: Target, output: str | None, no_headers: bool) -> None:
        show_list(Api(target).items(switch.path, of="monitor"), view, output, no_headers=no_headers)

    @group.command("pause", help=f"Start nothing new at one of the {view.plural}; what runs goes on.")
    @click.argument("name", metavar=argument)
    @click.option("--reason", required=True, help="Why, for whoever looks next.")
    @output_option
    @click.pass_obj
    def pause(target: Target, name: str, reason: str, output: str | None) -> None:
        switch.turn(target, name, "pause", {"reason": reason}, output)

    @group.command("resume", help=f"Let one of the {view.plural} go on; what waits for it starts.")
    @click.argument("name", metavar=argument)
    @output_option
    @click.pass_obj
    def resume(target: Target, name: str, output: str | None) -> None:
        switch.turn(target, name, "resume", None, output)


@click.group(cls=Group)
def provider() -> None:
    """Portals: what runs and waits there."""


@click.group(cls=Group)
def totp() -> None:
    """Accounts that log in with codes, and the queue for these."""


_verbs(provider, PROVIDERS, "PROVIDER")
_verbs(totp, ACCOUNTS, "ACCOUNT")
