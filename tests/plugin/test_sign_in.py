"""Who the caller is: a token or a name and a password, which no command line and no output ever has."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.functions.stage import CLIENT_SECRET, PASSWORD, Stage
from tests.plugin.cluster import KUBECONFIG
from tests.plugin.conftest import Door
from tests.plugin.terminal import Said, Shell
from tests.serving import serving

LIST = ("job", "list")
NOBODY = {"RPA_USERNAME": "", "RPA_PASSWORD": ""}


def kept(shell: Shell) -> Path:
    """The one token that is kept."""
    (file,) = (shell.folder / ".cache" / "kn-rpa").iterdir()
    return file


def silent(said: Said) -> bool:
    """Whether no secret was printed."""
    return PASSWORD not in said.out + said.err


async def test_a_token_is_kept_for_the_next_command(shell: Shell, door: Door) -> None:
    """Signing in is slow and rated; the file is its owner's alone."""
    for _ in range(3):
        assert silent(await shell.run(*LIST))
    assert door.sign_ins == 1
    assert kept(shell).stat().st_mode & 0o777 == 0o600
    assert kept(shell).parent.stat().st_mode & 0o777 == 0o700
    assert PASSWORD not in kept(shell).read_text()


async def test_a_token_that_is_refused_is_replaced(shell: Shell, door: Door) -> None:
    """After a change of keys nobody has to clean up."""
    await shell.says(*LIST)
    kept(shell).write_text(json.dumps({"token": "old", "expires_at": time.time() + 3600}))
    await shell.says(*LIST)
    assert door.sign_ins == 2
    await shell.says(*LIST)
    assert door.sign_ins == 2


async def test_a_token_that_ends_soon_is_not_used(shell: Shell, door: Door) -> None:
    """Nor is a file that holds something else."""
    for content in (json.dumps({"token": "old", "expires_at": time.time() + 5}), "[]", "no json"):
        await shell.says(*LIST)
        kept(shell).write_text(content)
        before = door.sign_ins
        await shell.says(*LIST)
        assert door.sign_ins == before + 1


async def test_a_token_of_the_environment_is_used_as_it_is(shell: Shell, stage: Stage, door: Door) -> None:
    """Nobody signs in; a wrong one is refused, and not shown."""
    token = (await stage.sign_in()).json()["access_token"]
    assert (await shell.run(*LIST, RPA_TOKEN=token, **NOBODY)).code == 0
    said = await shell.run(*LIST, RPA_TOKEN="made-up-token")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("Error: Authorization: ")
    assert "made-up-token" not in said.err
    assert door.sign_ins == 0


async def test_what_a_program_may_not_is_refused(shell: Shell) -> None:
    """The scope is named."""
    who = {"RPA_USERNAME": "prometheus", "RPA_PASSWORD": CLIENT_SECRET}
    said = await shell.run(*LIST, **who)
    assert (said.code, said.err) == (1, "Error: the token lacks the scope jobs:read; ask /auth/token for it\n")
    assert (await shell.run("browser", "list", **who)).code == 0


async def test_a_wrong_password_is_refused(shell: Shell) -> None:
    """And not repeated."""
    said = await shell.run(*LIST, RPA_PASSWORD="guess-and-guess")
    assert (said.code, said.err) == (1, "Error: username, password: not known together\n")


async def test_without_a_terminal_nobody_is_asked(shell: Shell) -> None:
    """The error says what to set."""
    said = await shell.run(*LIST, **NOBODY)
    assert (said.code, said.err) == (1, "Error: no token: set RPA_TOKEN, or RPA_USERNAME and RPA_PASSWORD\n")


async def test_the_clusters_password_is_for_the_clusters_address(shell: Shell) -> None:
    """Nobody who is named by --url gets it, whatever cluster is named beside it."""
    asked: list[str] = []

    async def api_server(request: Request) -> Response:
        asked.append(request.url.path)
        secret = {"ADMIN_USERNAME": "admin", "ADMIN_PASSWORD": PASSWORD}
        return JSONResponse({"data": {key: b64encode(value.encode()).decode() for key, value in secret.items()}})

    async with serving(Starlette(routes=[Route("/{path:path}", api_server)])) as url:
        (shell.folder / "kubeconfig").write_text(KUBECONFIG.replace("URL", url))
        said = await shell.run(*LIST, "-n", "rpa", "--kubeconfig", str(shell.folder / "kubeconfig"), **NOBODY)
    assert (said.code, said.err) == (1, "Error: no token: set RPA_TOKEN, or RPA_USERNAME and RPA_PASSWORD\n")
    assert asked == []


async def test_on_a_terminal_name_and_password_are_asked_for(shell: Shell, stage: Stage) -> None:
    """The password is not shown."""
    await stage.submit(external_job_id="A-1")
    shell.environment |= NOBODY
    async with shell.on_a_terminal(*LIST) as screen:
        await screen.until("Username:")
        screen.type("admin\n")
        await screen.until("Password:")
        screen.type(f"{PASSWORD}\n")
        await screen.until("A-1")
    assert PASSWORD not in screen.seen


async def test_no_option_takes_a_secret(shell: Shell) -> None:
    """What is on a command line everybody on the machine can read."""
    said = await shell.says("job", "list", "--help")
    assert "--password" not in said
    assert "--token" not in said
