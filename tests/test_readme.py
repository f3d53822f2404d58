"""What the README shows is true."""

from __future__ import annotations

import re
from pathlib import Path

from rpa_worker import Worker

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def block(language: str, holding: str = "") -> str:
    """The README's one block of a language that holds a text."""
    (found,) = [b for b in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if holding in b]
    return str(found)


def test_the_workers_example_runs() -> None:
    """It is a worker that knows octotel's validation and is ready for a job."""
    scope: dict[str, object] = {"__name__": "example"}
    exec(block("python"), scope)  # noqa: S102 - our own README
    worker = scope["worker"]
    assert isinstance(worker, Worker)
    assert worker.status()["available"] is True
    assert worker._find("octotel", "validation") is scope["validate"]
