"""The worker in a Python file, and settings in a file of NAME=VALUE lines."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from collections.abc import MutableMapping
from pathlib import Path

from rpa_worker.worker import Worker


class CannotLoad(Exception):
    """A file is not what was expected; the message names it and the remedy."""


def load_worker(file: Path) -> Worker:
    """The one Worker that this file makes. Raises CannotLoad, and whatever the file raises."""
    module_name = file.stem.replace("-", "_")
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise CannotLoad(f"{file}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    sys.path.insert(0, str(file.parent.resolve()))  # its neighbours can be imported, as `python FILE` lets them
    Worker.run = _serve_nothing  # type: ignore[method-assign]  # it may be called without a guard
    spec.loader.exec_module(module)
    workers = {id(value): value for value in vars(module).values() if isinstance(value, Worker)}
    if len(workers) != 1:
        raise CannotLoad(f"{file}: makes {len(workers) or 'no'} Worker; it must have one: worker = Worker()")
    return workers.popitem()[1]


def _serve_nothing(self: Worker, *, host: str | None = None, port: int | None = None) -> None:
    """One action is performed, and nobody calls."""


def read_environment(file: Path, environment: MutableMapping[str, str]) -> None:
    """Add what a file says, in shell syntax; what is set already stays. Raises CannotLoad."""
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CannotLoad(f"{file}: cannot be read: {error}") from None
    for number, line in enumerate(lines, start=1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            words = [""]
        for word in words[1:] if words[:1] == ["export"] else words:
            name, equals, value = word.partition("=")
            if not (name.isidentifier() and equals):
                raise CannotLoad(f"{file}:{number}: must be NAME=VALUE, the value in quotes if it has blanks")
            environment.setdefault(name, value)
