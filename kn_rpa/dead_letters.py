"""`kn rpa deadletter`"""

from __future__ import annotations

import click

from kn_rpa.api import Api
from kn_rpa.errors import Failure
from kn_rpa.output import View, age, no_headers_option, output_option, show, show_list
from kn_rpa.target import Group, Target

VIEW = View(
    "deadletter",
    "dead letters",
    {
        "ID": lambda it: it["id"],
        "STATUS": lambda it: it["status"],
        "TYPE": lambda it: it["event_type"],
        "JOB": lambda it: it["job_id"] or "",
        "ATTEMPT": lambda it: it["attempt"] or "",
        "FOR": lambda it: it["destination"],
        "TIMES": lambda it: it["times"],
        "AGE": lambda it: age(it["last_at"]),
        "REASON": lambda it: it["reason"],
    },
    lambda it: it["id"],
)


@click.group(cls=Group)
def deadletter() -> None:
    """Events that nobody could handle."""


@deadletter.command("list")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many at most, newest first.")
@output_option
@no_headers_option
@click.pass_obj
def list_letters(target: Target, limit: int, output: str | None, no_headers: bool) -> None:
    """List dead letters, newest first."""
    show_list(Api(target).items("/dead-letters", of="monitor", limit=limit), VIEW, output, no_headers=no_headers)


@deadletter.command()
@click.argument("letters", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that can be replayed.")
@output_option
@click.pass_obj
def replay(target: Target, letters: tuple[str, ...], everything: bool, output: str | None) -> None:
    """Send again what dead letters announce."""
    if bool(letters) == everything:
        raise click.UsageError("give the ids of letters, or --all")
    api = Api(target)
    if everything:
        click.echo(f"{_replay_all(api)} dead letters replayed.")
        return
    for letter in letters:
        number = letter.removeprefix("deadletter/")
        if not (number.isascii() and number.isdecimal()):
            raise Failure(f"{letter} is no dead letter's id; kn rpa deadletter list shows them")
        item = api.send("POST", f"/dead-letters/{number}:replay", of="monitor")
        if output:
            show(item, VIEW, output)
        else:
            click.echo(f"Dead letter {number} replayed.")


def _replay_all(api: Api) -> int:
    replayed, more = 0, True
    while more:
        answer = api.send("POST", "/dead-letters:replay", of="monitor")
        replayed += int(answer["replayed"])
        more = bool(answer["more"]) and answer["replayed"] > 0
    return replayed
