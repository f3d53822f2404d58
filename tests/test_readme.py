"""What the README shows is true."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from rpa_worker import Worker
from shared.providers import Provider

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md")
README = (ROOT / "README.md").read_text()


def block(language: str, holding: str = "") -> str:
    """The README's one block of a language that holds a text."""
    (found,) = [b for b in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if holding in b]
    return str(found)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_habit_exists(name: str) -> None:
    """What is said of make is a target of the Makefile that `make help` lists."""
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = set(re.findall(r"^  make ([a-z0-9]+)", said, re.MULTILINE))
    lines = re.findall(r"(?:`|^ *)make ((?:[a-z0-9]+ ?)+)", (ROOT / name).read_text(), re.MULTILINE)
    wanted = {word for line in lines for word in line.split()}
    assert wanted
    assert wanted <= listed


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_path_exists(name: str) -> None:
    """Files and folders that are named are there."""
    named = re.findall(r"`((?:[a-z_.]+/)+[\w.-]*)`", (ROOT / name).read_text())
    assert named
    missing = [path for path in named if not (ROOT / path).exists()]
    assert [path for path in missing if not path.startswith(".local") and "NNNN" not in path] == []


def test_the_workers_example_runs() -> None:
    """It is a worker that knows octotel's validation and is ready for a job."""
    scope: dict[str, object] = {"__name__": "example"}
    exec(block("python"), scope)  # noqa: S102 - our own README
    worker = scope["worker"]
    assert isinstance(worker, Worker)
    assert worker.status()["available"] is True
    assert worker._find("octotel", "validation") is scope["validate"]


def test_the_providers_example_is_one() -> None:
    """It is a valid entry, with two accounts."""
    provider = Provider.model_validate({"name": "octotel", **yaml.safe_load(block("yaml"))})
    assert [account.credentials for account in provider.accounts] == ["OCTOTEL", "OCTOTEL_2"]
