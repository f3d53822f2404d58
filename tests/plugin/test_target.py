"""Which deployment is meant, and what the command line says about itself."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.functions.stage import PASSWORD
from tests.plugin.terminal import Shell, matches_snapshot

NOWHERE = "http://127.0.0.1:1"


def local(shell: Shell) -> None:
    """As where `make up` runs: nothing but its file says where the system is."""
    env = shell.environment
    known = {
        "SUBMIT_URL": env.pop("RPA_URL"),
        "MONITOR_URL": env.pop("RPA_MONITOR_URL"),
        "ADMIN_USERNAME": "admin",
        "ADMIN_PASSWORD": PASSWORD,
    }
    del env["RPA_USERNAME"], env["RPA_PASSWORD"]
    (shell.folder / ".local").mkdir()
    (shell.folder / ".local" / "env").write_text("".join(f"{n}={shlex.quote(v)}\n" for n, v in known.items()))


async def test_a_system_of_make_up_is_found(shell: Shell) -> None:
    """With its addresses and its administrator, in the folder where it runs."""
    local(shell)
    assert await shell.says("job", "list") == "No jobs found.\n"
    assert await shell.says("browser", "list") == "No browsers found.\n"


async def test_what_is_named_goes_before_what_is_found(shell: Shell) -> None:
    """An address on the command line before the environment's, before the file of `make up`."""
    real = shell.environment["RPA_URL"]
    said = await shell.run("job", "list", "--url", NOWHERE)
    assert said.code == 1
    assert f"{NOWHERE} does not answer" in said.err
    assert (await shell.run("--url", NOWHERE, "job", "list", "--url", real)).code == 0
    assert (await shell.run("--url", real, "job", "list", RPA_URL=NOWHERE)).code == 0
    local(shell)
    said = await shell.run("job", "list", "-n", "elsewhere", KUBECONFIG=str(shell.folder / "none"))
    assert said.code == 1
    assert "no way to a cluster" in said.err


async def test_one_address_may_serve_both_functions(shell: Shell) -> None:
    """Behind a gateway that knows the paths; here submit_job answers what is monitor's."""
    said = await shell.run("browser", "list", RPA_MONITOR_URL="")
    assert (said.code, said.err) == (1, "Error: no such path\n")


async def test_without_anything_the_error_says_what_to_name(shell: Shell, tmp_path: Path) -> None:
    """No kubeconfig, no address, no system here."""
    shell.environment.clear()
    said = await shell.run("job", "list", KUBECONFIG=str(tmp_path / "none"))
    assert said.code == 1
    assert said.err.startswith("Error: no way to a cluster: ")
    assert said.err.endswith("name one with --kubeconfig, or a system with --url\n")


async def test_the_help_names_every_noun(shell: Shell) -> None:
    """And who one is, and what exit codes mean."""
    matches_snapshot("help", await shell.says("--help"))


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("jobs",), "No such command 'jobs'."),
        (("job", "list", "--bogus"), "No such option '--bogus'."),
        (("job", "describe"), "Missing argument 'ID'."),
        (("job", "list", "-o", "xml"), "'xml' is not one of 'json', 'yaml', 'name'."),
    ],
)
async def test_a_slip_is_an_error_as_kn_says_it(shell: Shell, words: tuple[str, ...], error: str) -> None:
    """Two lines on standard error, exit code 1."""
    said = await shell.run(*words)
    first, second = said.err.splitlines()
    assert (said.code, said.out, first.startswith("Error: "), error in first) == (1, "", True, True)
    assert second.endswith("--help' for usage")


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
async def test_a_shell_completes(shell: Shell, name: str) -> None:
    """Nouns, verbs and values; the script that it prints asks the command itself."""
    assert "_KN_RPA_COMPLETE" in await shell.says("completion", name)
    asked = {"_KN_RPA_COMPLETE": "bash_complete", "COMP_WORDS": "kn-rpa job list --status c", "COMP_CWORD": "4"}
    assert (await shell.run(**asked)).out.split() == ["plain,completed", "plain,cancelled"]
