"""`make audit`: secrets are found, and an audit that could not be done does not look like one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCK = f"six==1.17.0 --hash=sha256:{'0' * 64}\n"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A small project under git."""
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    for folder in ("bin", "requirements", "tests"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / "bin" / "audit", tmp_path / "bin")
    (tmp_path / "requirements" / "functions.txt").write_text(LOCK)
    (tmp_path / "main.py").write_text("print('hello')\n")
    (tmp_path / "tests" / "test_main.py").write_text("password = 'correct-horse'\n")
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    return tmp_path


def audit(sources: Path, **settings: str) -> tuple[int, str]:
    """How it ends, and all that it says."""
    subprocess.run(["git", "add", "-f", "main.py", "tests", "requirements"], cwd=sources, check=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(sources), **settings}
    done = subprocess.run([sources / "bin" / "audit"], env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("main.py", "password = 'correct-horse'"),
        ("main.py", "URL = 'postgresql://rpa:hunter2@db/rpa'"),
        ("tests/test_main.py", "AWS = 'AKIA" + "Q" * 16 + "'"),
        ("tests/test_main.py", "-----BEGIN RSA PRIVATE " + "KEY-----"),
    ],
)
def test_a_secret_in_the_sources_is_found(sources: Path, file: str, line: str) -> None:
    """With the file's name; before anything is asked of the network."""
    (sources / file).write_text(f"{line}\n")
    code, said = audit(sources)
    assert code != 0
    assert f"{file}:1" in said


OUT_OF_REACH = {"HTTPS_PROXY": "http://127.0.0.1:9", "PIP_NO_CACHE_DIR": "1"}


def test_without_advisories_it_says_so(sources: Path) -> None:
    """Where they cannot be reached, and the setting allows it, it passes and warns."""
    code, said = audit(sources, AUDIT_WITHOUT_ADVISORIES="1", **OUT_OF_REACH)
    assert code == 0
    assert "requirements/functions.txt was NOT audited" in said


def test_advisories_that_cannot_be_read_are_a_failure(sources: Path) -> None:
    """Nobody takes it for an audit."""
    code, said = audit(sources, **OUT_OF_REACH)
    assert code != 0
    assert "the advisories for requirements/functions.txt could not be read" in said


def test_a_known_weakness_is_a_failure(sources: Path) -> None:
    """Even where advisories may be out of reach."""
    (sources / ".venv").unlink()
    (sources / ".venv" / "bin").mkdir(parents=True)
    for name, script in (
        ("detect-secrets-hook", "exit 0"),
        ("pip-audit", "echo 'Found 1 known vulnerability'; exit 1"),
    ):
        program = sources / ".venv" / "bin" / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    code, said = audit(sources, AUDIT_WITHOUT_ADVISORIES="1")
    assert code != 0
    assert "requirements/functions.txt has known weaknesses" in said
