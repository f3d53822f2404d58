"""What people install for themselves: the worker library and `kn rpa`, each a distribution of its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from tests.docs.documents import commands, sentence
from tests.docs.test_commands import bash
from tests.functions.stage import Stage
from tests.plugin.conftest import door, one_stage, shell, stage
from tests.plugin.terminal import Shell

__all__ = ["door", "one_stage", "shell", "stage"]

ROOT = Path(__file__).parents[1]
BACKEND = "setuptools>=77"
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_{kind}(sys.argv[1]))"
WORKS = """
import asyncio, json, sys
import httpx, rpa_worker
from pathlib import Path

async def main():
    worker = rpa_worker.Worker()
    transport = httpx.ASGITransport(worker.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
        return (await client.get("/status")).json()

print(json.dumps([rpa_worker.__file__, asyncio.run(main())]))
"""
ACTION = """
from rpa_worker import Job, Worker

worker = Worker()

@worker.action("octotel", "validation")
async def validate(job: Job) -> dict[str, object]:
    return {"circuit": job.parameters["circuit"], "code": len(await job.totp())}
"""


def project(file: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / file).read_text())


def sources(package: str) -> set[str]:
    """Every module of a package."""
    paths = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py")}
    return {str(path) for path in paths if "build" not in path.parts}


def test_dependencies_are_those_of_the_project() -> None:
    """What a distribution asks for is what its code is tested with here, and the versions are one."""
    root, worker, plugin = (
        project("pyproject.toml"),
        project("rpa_worker/pyproject.toml"),
        project("kn_rpa/pyproject.toml"),
    )
    extras = root["project"]["optional-dependencies"]
    assert worker["project"]["dependencies"] == extras["worker"]
    assert worker["project"]["optional-dependencies"]["telemetry"] == extras["telemetry"]
    assert set(worker["project"]["optional-dependencies"]["local"]) < set(root["project"]["dependencies"])
    assert plugin["project"]["dependencies"] == root["dependency-groups"]["plugin"]
    for package in ("rpa_worker", "kn_rpa"):
        assert f'\n__version__ = "{root["project"]["version"]}"\n' in (ROOT / package / "__init__.py").read_text()


def from_the_index(requirement: str, folder: Path) -> Path:
    """A folder that has a distribution and what it asks for."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(folder)]
    done = subprocess.run([*pip, requirement], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{requirement} is out of reach: {done.stderr.strip().splitlines()[-1]}")
    return folder


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build backend, from the package index."""
    return from_the_index(BACKEND, tmp_path_factory.mktemp("backend"))


def build(backend: Path, source: Path, kind: str, target: Path) -> Path:
    """The wheel or sdist of a source folder."""
    target.mkdir(exist_ok=True)
    command = [sys.executable, "-c", BUILD.format(kind=kind), str(target)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(backend)}
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target / done.stdout.splitlines()[-1]


def copied(package: str, target: Path) -> Path:
    """The sources of a package, as they are in a fresh checkout."""
    return shutil.copytree(ROOT / package, target, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))


def build_both(backend: Path, package: str, folder: Path) -> tuple[Path, list[str]]:
    """The wheel that is built from the sdist, and what the wheel holds."""
    copy = copied(package, folder / "source")
    with tarfile.open(build(backend, copy, "sdist", folder / "dist")) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    wheel = build(backend, unpacked, "wheel", folder / "dist")
    return wheel, zipfile.ZipFile(wheel).namelist()


def closure(names: Iterable[str]) -> set[str]:
    """These distributions, and all that they ask for on this machine."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for requirement in distribution(name).requires or []:
            wanted, _, marker = requirement.partition(";")
            if "extra ==" not in marker and "platform" not in marker and "python_version" not in marker:
                waiting.append(re.split(r"[^\w.-]", wanted.strip())[0])
    return found


def environment_with(wheel: Path, extras: Iterable[str], folder: Path) -> Path:
    """The Python of a new environment that has a wheel and what it asks for, linked from here, and nothing else."""
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    shutil.unpack_archive(wheel, packages, "zip")
    (metadata,) = packages.glob("*.dist-info/METADATA")
    asked = re.findall(
        r"^Requires-Dist: ([\w.-]+)[^;\n]*(?:; extra == \"(\w+)\")?$", metadata.read_text(), re.MULTILINE
    )
    for name in closure(name for name, extra in asked if not extra or extra in extras):
        for file in distribution(name).files or []:
            top = packages / file.parts[0]
            if file.parts[0] != ".." and not top.exists():
                top.symlink_to(Path(str(distribution(name).locate_file(file.parts[0]))))
    return folder / "bin" / "python"


@pytest.mark.parametrize("package", ["rpa_worker", "kn_rpa"])
def test_a_wheel_holds_the_package_and_nothing_else(backend: Path, package: str, tmp_path: Path) -> None:
    """Built from the sdist, with every module, and its types where it has them."""
    _, names = build_both(backend, package, tmp_path)
    held = {name for name in names if ".dist-info/" not in name}
    typed = {f"{package}/py.typed"} if (ROOT / package / "py.typed").exists() else set()
    assert held == sources(package) | typed


def test_the_worker_library_runs_alone(backend: Path, tmp_path: Path) -> None:
    """In an environment of the wheel and what it asks for, a worker answers, and an action is tried."""
    wheel, _ = build_both(backend, "rpa_worker", tmp_path)
    python = environment_with(wheel, ["local"], tmp_path / "venv")
    done = subprocess.run([python, "-I", "-c", WORKS], capture_output=True, text=True, check=True)
    where, status = json.loads(done.stdout)
    assert Path(where).is_relative_to(tmp_path / "venv")
    assert status["available"] is True
    file = tmp_path / "my_worker.py"
    file.write_text(ACTION)
    run = [python, "-I", "-m", "rpa_worker", "run", file, "octotel", "validation", "-p", "circuit=OCT-1"]
    settings = {"OCTOTEL_TOTP_SECRET": "A" * 32, "HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run(run, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"] == {"circuit": "OCT-1", "code": 6}


def test_spans_and_login_codes_are_extras(backend: Path, tmp_path: Path) -> None:
    """Without them the environment has neither OpenTelemetry nor pyotp, and says which extra is missing."""
    wheel, _ = build_both(backend, "rpa_worker", tmp_path)
    python = environment_with(wheel, [], tmp_path / "venv")
    (tmp_path / "my_worker.py").write_text(ACTION)
    run = [python, "-I", "-m", "rpa_worker", "run", tmp_path / "my_worker.py", "octotel", "validation"]
    settings = {
        "OCTOTEL_TOTP_SECRET": "A" * 32, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "HOME": str(tmp_path), "PATH": os.environ["PATH"],
    }  # fmt: skip
    done = subprocess.run([*run, "-p", "circuit=1"], env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'rpa-worker[local]'" in json.loads(done.stdout)["failure"]["message"]
    assert "opentelemetry is not installed" in done.stderr


async def test_the_plugin_runs_alone(backend: Path, shell: Shell, stage: Stage, tmp_path: Path) -> None:
    """In an environment of the wheel and what it asks for, it says what it is, and lists what a system has."""
    wheel, _ = build_both(backend, "kn_rpa", tmp_path)
    python = environment_with(wheel, [], tmp_path / "venv")
    settings = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], **shell.environment}

    def said(*words: str) -> str:
        command = [python, "-I", "-m", "kn_rpa", *words]
        done = subprocess.run(command, env=settings, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    job = await stage.submit()
    assert said("--help").startswith("Usage: kn-rpa [OPTIONS] COMMAND [ARGS]...")
    listed = await asyncio.to_thread(said, "job", "list", "--no-headers")
    assert listed.split()[:3] == [str(job["id"]), job["provider"], job["action"]]
    assert json.loads(await asyncio.to_thread(said, "job", "list", "-o", "json"))["items"][0]["id"] == job["id"]


@pytest.mark.timeout(400)
def test_the_plugin_is_installed_as_shown(tmp_path: Path) -> None:
    """Its command is then on the PATH, and needs nothing of this folder."""
    pipx = from_the_index("pipx", tmp_path / "pipx")
    copied("kn_rpa", tmp_path / "kn_rpa")
    places = {"PIPX_HOME": str(tmp_path / "home"), "PIPX_BIN_DIR": str(tmp_path / "bin")}
    path = f"{pipx / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, **places, "PATH": path, "PYTHONPATH": str(pipx), "PIP_NO_COMPILE": "1"}
    bash(commands("docs/reference/kn-rpa.md", "pipx install"), tmp_path, **environment)
    said = subprocess.run(
        [tmp_path / "bin" / "kn-rpa", "--version"], env={}, capture_output=True, text=True, check=True
    )
    assert said.stdout == f"kn-rpa, version {project('pyproject.toml')['project']['version']}\n"


@pytest.mark.timeout(400)
def test_the_library_is_installed_as_shown(tmp_path: Path) -> None:
    """In a new environment there is its command; a browser for it comes from Playwright."""
    copied("rpa_worker", tmp_path / "rpa_worker")
    from_the_index("pip", tmp_path / "reached")
    venv.create(tmp_path / "venv", with_pip=True)
    environment = {**os.environ, "PATH": f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}", "PIP_NO_COMPILE": "1"}
    bash(sentence("README.md", "pip install"), tmp_path, **environment)
    bash(sentence("docs/tutorial.md", "pip install"), tmp_path, **environment)
    said = bash(sentence("examples/library_worker/README.md", "rpa-worker run --help"), tmp_path, **environment)
    assert "--env-file" in said
    said = bash(f"{sentence('docs/tutorial.md', 'playwright install')} --dry-run", tmp_path, **environment)
    assert "chrom" in said.lower()  # the download itself is a browser's


@pytest.mark.timeout(400)
def test_locks_are_renewed_as_shown(tmp_path: Path) -> None:
    """Where the projects ask for nothing new, that changes no version."""
    uv = from_the_index("uv", tmp_path / "uv")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    environment = {**os.environ, "PATH": f"{uv / 'bin'}:{os.environ['PATH']}"}
    reached = subprocess.run([uv / "bin" / "uv", "pip", "compile", "-"], input="six", env=environment, text=True)
    if reached.returncode:
        pytest.skip("uv reaches no package index")
    bash(commands("CONTRIBUTING.md", "uv pip compile"), tmp_path, **environment)
    for file in ("functions.txt", "demo.txt", "dev.txt"):
        assert locked(tmp_path / "requirements" / file) == locked(ROOT / "requirements" / file)


def locked(file: Path) -> set[str]:
    """Names and versions of a lock; hashes are of whatever its index has by now."""
    return set(re.findall(r"^[\w.-]+==\S+", file.read_text(), re.MULTILINE))
