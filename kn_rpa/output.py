"""What commands print: tables after kn's, JSON, YAML or names."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

Item = dict[str, Any]
STYLES = {
    "provisioning": "yellow", "dispatching": "yellow", "running": "cyan", "completed": "green",
    "failed": "red", "cancelled": "magenta", "paused": "yellow",
}  # fmt: skip
output_option = click.option(
    "-o", "--output", type=click.Choice(["json", "yaml", "name"]), help="Format; a table by default."
)
no_headers_option = click.option("--no-headers", is_flag=True, help="Leave the table's headers out.")


@dataclass(frozen=True)
class View:
    """How a kind of thing is shown."""

    kind: str
    plural: str
    columns: Mapping[str, Callable[[Item], Any]]
    name: Callable[[Item], Any]


def console(stream: IO[str] | None = None) -> Console:
    """Standard output; to a file or a pipe nothing is cut."""
    found = Console(file=stream or sys.stdout, highlight=False, soft_wrap=True)
    if not found.is_terminal:
        found.width = 10_000
    return found


def show_list(items: Iterable[Item], view: View, output: str | None, *, no_headers: bool = False) -> None:
    """Print a list."""
    found = list(items)
    if output:
        show({"items": found}, view, output)
    elif found:
        rows = [[str(value(item)) for value in view.columns.values()] for item in found]
        show_table([] if no_headers else list(view.columns), rows)
    else:
        click.echo(f"No {view.plural} found.")


def show(thing: Item, view: View, output: str) -> None:
    """Print an object, or a list as `items`, for a program."""
    match output:
        case "json":
            click.echo(json.dumps(thing, indent=2, ensure_ascii=False))
        case "yaml":
            import yaml

            click.echo(yaml.safe_dump(thing, sort_keys=False, allow_unicode=True), nl=False)
        case _:
            for item in thing.get("items", [thing]):
                click.echo(f"{view.kind}/{view.name(item)}")


def show_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as what they hold, on a terminal in colour."""
    table = Table(box=None, show_header=bool(headers), header_style="", pad_edge=False, padding=(0, 3, 0, 0))
    for header in headers or [""] * len(next(iter(rows := list(rows)))):
        table.add_column(header, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*(Text(cell, STYLES.get(cell, "")) for cell in row))
    target = console()
    with target.capture() as capture:
        target.print(table)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


def show_description(pairs: Mapping[str, Any]) -> None:
    """Names and values, a line each; those without a value are left out."""
    known = {name: value for name, value in pairs.items() if value not in (None, "", [], {})}
    width = max(map(len, known)) + 3
    for name, value in known.items():
        click.echo(f"{name + ':':{width}}{value}")


def moment(text: str | None) -> str:
    """A time as people read it, in their zone."""
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S") if text else ""


def age(text: str | None) -> str:
    """How long ago a time was, as kn writes it."""
    if not text:
        return ""
    return duration((datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds())


def duration(seconds: float) -> str:
    """Seconds as kn writes them: 45s, 7m, 3h, 12d."""
    for size, unit, until in ((1, "s", 120), (60, "m", 7200), (3600, "h", 172_800)):
        if seconds < until:
            return f"{max(seconds, 0) // size:.0f}{unit}"
    return f"{seconds // 86_400:.0f}d"
