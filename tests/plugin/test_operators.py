"""`kn rpa browser`, `provider`, `totp` and `deadletter`"""

from __future__ import annotations

import json
import re

import pytest

from tests.functions.stage import Stage
from tests.functions.test_dead_letters import letter, submitted
from tests.plugin.terminal import Shell, matches_snapshot


async def test_browsers_are_listed(shell: Shell, stage: Stage) -> None:
    """With the attempts that they belong to."""
    assert await shell.says("browser", "list") == "No browsers found.\n"
    await stage.execute("ALTER TABLE jobs ALTER COLUMN id RESTART WITH 101")
    await stage.until_running()
    matches_snapshot("browser_list", await shell.says("browser", "list"))
    assert await shell.says("browser", "list", "-o", "name") == "browser/rpa-browser-101-1\n"


async def test_a_provider_is_paused_and_resumed(shell: Shell, stage: Stage) -> None:
    """The list says by whom and why; nothing starts there meanwhile."""
    assert await shell.says("provider", "pause", "metrofiber", "--reason", "the portal is down") == (
        "Provider metrofiber paused.\n"
    )
    await stage.submit()
    await stage.deliver_all()
    matches_snapshot("provider_list", await shell.says("provider", "list"))
    assert stage.worker.orders == []
    assert await shell.says("provider", "resume", "provider/metrofiber") == "Provider metrofiber resumed.\n"
    await stage.deliver_all()
    assert len(stage.worker.orders) == 1


async def test_an_account_is_paused_and_resumed(shell: Shell) -> None:
    """Codes are held back until somebody has looked."""
    assert await shell.says("totp", "pause", "OCTOTEL", "--reason", "locked at the portal") == (
        "Account OCTOTEL paused.\n"
    )
    listed = await shell.says("totp", "list")
    matches_snapshot("totp_list", re.sub(r"\b(now|in \d+s)\b *", lambda match: f"{'soon':{len(match[0])}}", listed))
    said = json.loads(await shell.says("totp", "resume", "OCTOTEL", "-o", "json"))
    assert (said["account"], said["paused"]) == ("OCTOTEL", None)


@pytest.mark.parametrize("noun", ["provider", "totp"])
async def test_a_pause_has_a_reason_and_a_known_name(shell: Shell, noun: str) -> None:
    """Both are asked for by name."""
    said = await shell.run(noun, "pause", "OCTOTEL")
    assert (said.code, "Missing option '--reason'" in said.err) == (1, True)
    said = await shell.run(noun, "pause", "no/such", "--reason", "r")
    assert said.code == 1
    assert said.err.startswith("Error: ")


async def test_dead_letters_are_listed_and_replayed(shell: Shell, stage: Stage) -> None:
    """One by one, or all that can be."""
    assert await shell.says("deadletter", "list") == "No dead letters found.\n"
    await stage.execute("ALTER TABLE jobs ALTER COLUMN id RESTART WITH 101")
    await stage.execute("ALTER TABLE dead_letters ALTER COLUMN id RESTART WITH 11")
    for _ in range(3):
        await letter(stage, await submitted(stage), "provision-browser")
    matches_snapshot("deadletter_list", await shell.says("deadletter", "list"))
    assert await shell.says("deadletter", "replay", "11") == "Dead letter 11 replayed.\n"
    assert await shell.says("deadletter", "replay", "deadletter/12") == "Dead letter 12 replayed.\n"
    assert await shell.says("deadletter", "replay", "--all") == "1 dead letters replayed.\n"
    assert len(await stage.outbox()) == 3


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ((), "give the ids of letters, or --all"),
        (("1", "--all"), "give the ids of letters, or --all"),
        (("one",), "one is no dead letter's id"),
        (("404",), "404"),
    ],
)
async def test_what_cannot_be_replayed_is_refused(shell: Shell, words: tuple[str, ...], error: str) -> None:
    """Exit code 1 and the reason."""
    said = await shell.run("deadletter", "replay", *words)
    assert said.code == 1
    assert error in said.err
