"""The tables of the reference that are made from the code; `python -m tests.docs.generated` writes them anew."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import click

from kn_rpa.cli import root
from local.manifests import Manifests
from tests.docs.documents import ROOT
from tests.settings import BASE, said_by, settings

# Functions read their settings when they are imported, so that is done in a process of its own.
ROUTES = """
import importlib, json, sys

def routes(function):
    for route in importlib.import_module(f"functions.{function}.main").APPLICATION._application.routes:
        if said := getattr(route, "operation", None):
            for method in sorted(route.methods - {"HEAD"}):
                answers, refuses = sorted(said.answers), sorted(said.refuses)
                yield [function, f"{method} {route.path_format}", said.who, said.summary, answers, refuses]

print(json.dumps([row for function in sys.argv[1:] for row in routes(function)]))
"""
PIPE = r"\|"
EVERYWHERE = ("GET /health", "GET /openapi.json")
EVENTS = "POST /"
ORDER = ("submit_job", "monitor", "issue_totp", "callback")


@dataclass(frozen=True)
class Generated:
    """A table between two comments of a document."""

    document: str
    name: str
    rows: Callable[[], Iterator[str]]

    @property
    def _place(self) -> re.Pattern[str]:
        return re.compile(rf"(<!-- {self.name} -->\n).*?(<!-- end of {self.name} -->)", re.DOTALL)

    def shown(self) -> str:
        """The table that the document has."""
        (found,) = self._place.finditer((ROOT / self.document).read_text())
        return found[0]

    def wanted(self) -> str:
        """The table that it should have."""
        lines = "".join(f"{row}\n" for row in self.rows())
        return f"<!-- {self.name} -->\n{lines}<!-- end of {self.name} -->"

    def write(self) -> None:
        """Give the document that table."""
        path = ROOT / self.document
        wanted = self.wanted()
        path.write_text(self._place.sub(lambda _: wanted, path.read_text()))


def setting_rows() -> Iterator[str]:
    """Every setting of every function."""
    yield "| setting | meaning | default |"
    yield "|---|---|---|"
    yield from (f"| `{it.name}` | {it.meaning} | {it.default} |" for it in settings())


def route_rows() -> Iterator[str]:
    """Every route of every function, but for those that all have and those of events."""
    yield "| route | of | for | does | answers, refuses |"
    yield "|---|---|---|---|---|"
    rows = [row for row in said_by(ROUTES, Manifests(BASE)) if row[1] != EVENTS and not row[1].startswith(EVERYWHERE)]
    for function, route, who, summary, answers, refuses in sorted(rows, key=lambda row: ORDER.index(row[0])):
        statuses = "; ".join(", ".join(map(str, part)) for part in (answers, refuses) if part)
        yield f"| `{route}` | `{function}` | {_whom(who)} | {summary} | {statuses} |"


def _whom(who: str) -> str:
    return {"": "everybody", "worker": "its worker"}.get(who, f"`{who}`")


def command_rows() -> Iterator[str]:
    """Every command of the plugin."""
    yield "| command | does |"
    yield "|---|---|"
    yield from _commands("kn rpa", root.commands)


def _commands(path: str, commands: Mapping[str, click.Command]) -> Iterator[str]:
    for name, command in sorted(commands.items()):
        words = f"{path} {name}"
        if isinstance(command, click.Group):
            yield from _commands(words, command.commands)
        else:
            context = click.Context(command)
            words = " ".join(
                [words, *(it.make_metavar(context) for it in command.params if isinstance(it, click.Argument))]
            )
            yield f"| `{words.replace('|', PIPE)}` | {command.get_short_help_str(limit=200)} |"


ALL = (
    Generated("docs/reference/settings.md", "settings", setting_rows),
    Generated("docs/reference/http-api.md", "routes", route_rows),
    Generated("docs/reference/kn-rpa.md", "commands", command_rows),
)

if __name__ == "__main__":
    for it in ALL:
        it.write()
