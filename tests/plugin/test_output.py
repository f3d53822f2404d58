"""`-o json|yaml|name`: what programs read."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.functions.stage import Stage
from tests.functions.test_dead_letters import letter, submitted
from tests.plugin.terminal import Shell

LISTS = [
    ("job", "submit_job", "/jobs", "id", "job"),
    ("browser", "monitor", "/browser-services", "name", "browser"),
    ("provider", "monitor", "/providers", "name", "provider"),
    ("totp", "monitor", "/accounts", "account", "account"),
    ("deadletter", "monitor", "/dead-letters", "id", "deadletter"),
]


@pytest.mark.parametrize(("noun", "function", "path", "key", "kind"), LISTS, ids=[noun for noun, *_ in LISTS])
async def test_every_list_is_for_programs(
    shell: Shell, stage: Stage, noun: str, function: str, path: str, key: str, kind: str
) -> None:
    """JSON and YAML have what the API answers; names are what other commands take."""
    await stage.until_running()
    await letter(stage, await submitted(stage))
    items = (await stage.call(function, "GET", path)).json()["items"]
    assert items
    for output, read in (("json", json.loads), ("yaml", yaml.safe_load)):
        said = read(await shell.says(noun, "list", "-o", output))
        assert [it[key] for it in said["items"]] == [it[key] for it in items]
        assert [it.keys() for it in said["items"]] == [it.keys() for it in items]
    assert (await shell.says(noun, "list", "-o", "name")).split() == [f"{kind}/{it[key]}" for it in items]


async def test_an_accounts_name_is_taken_back(shell: Shell) -> None:
    """It is called after what it is, not after the noun that lists it."""
    name, *_ = (await shell.says("totp", "list", "-o", "name")).split()
    assert await shell.says("totp", "pause", name, "--reason", "r", "-o", "name") == f"{name}\n"


async def test_what_is_submitted_is_for_programs(shell: Shell, stage: Stage) -> None:
    """The new job as the API answers it, or its name alone, which other commands take."""
    submit = ("job", "submit", "metrofiber", "validation", "-o")
    for output, read in (("json", json.loads), ("yaml", yaml.safe_load)):
        said = read(await shell.says(*submit, output))
        made = await stage.job(said["id"])
        assert (said["provider"], said["action"], said["status"]) == ("metrofiber", "validation", "pending")
        assert said.keys() <= made.keys()
    name = await shell.says(*submit, "name")
    assert name == f"job/{said['id'] + 1}\n"
    assert "Status:      pending" in await shell.says("job", "describe", name.strip())
