"""What jobs' commands take: ids, and parameters as JSON or one by one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click


class JobId(click.ParamType[int]):
    """A job's number, also as `-o name` prints it."""

    name = "id"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> int:
        """The number."""
        text = str(value).removeprefix("job/")
        if not (text.isascii() and text.isdecimal()):
            self.fail(f"{value} is no job's id; kn rpa job list shows them", parameter, context)
        return int(text)


class Parameters(click.ParamType[dict[str, Any]]):
    """A JSON object: as it is, in a file (@FILE), or on standard input (-)."""

    name = "json"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> dict[str, Any]:
        """The object."""
        text = str(value)
        try:
            if text == "-":
                text = sys.stdin.read()
            elif text.startswith("@"):
                text = Path(text[1:]).read_text()
            parsed = json.loads(text)
        except (OSError, ValueError) as error:
            self.fail(f"no JSON: {error}", parameter, context)
        if not isinstance(parsed, dict):
            self.fail('must be an object, such as {"circuit": "C-1"}', parameter, context)
        return parsed


def pair(text: str) -> tuple[str, str]:
    """NAME=VALUE. Raises UsageError."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.UsageError(f"--param {text}: must be NAME=VALUE")
    return name, value
