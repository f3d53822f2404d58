"""The pool gives out no connection that has ended, and asks the server no question about it."""

from __future__ import annotations

import secrets
import select
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from shared.config import DatabaseSettings
from shared.db import Database
from tests.serving import eventually


class Pool:
    """A database's pool, and what the server sees of it."""

    def __init__(self, url: str, server: psycopg.AsyncConnection[Any]) -> None:
        self.name = f"pool-{secrets.token_hex(4)}"
        self.server = server
        settings = {"database_url": SecretStr(url), "database_pool_size": 1, "k_service": self.name}
        self.database = Database(DatabaseSettings.model_validate({"environment": {}, **settings}))

    async def connections(self) -> list[tuple[int, str]]:
        """The process behind each connection, and what it was told last."""
        statement = "SELECT pid, query FROM pg_stat_activity WHERE application_name = %s"
        return await (await self.server.execute(statement, (self.name,))).fetchall()


@pytest.fixture
async def pool(module_url: str, connection: psycopg.AsyncConnection[Any]) -> AsyncIterator[Pool]:
    """With one connection that nobody uses."""
    pool = Pool(module_url, connection)
    await pool.database.ping()
    yield pool
    await pool.database.aclose()


async def test_what_the_server_ended_is_not_given_out(pool: Pool) -> None:
    """A restart, a failover or an administrator ends an idle connection: the next caller gets a new one."""
    ((ended, _),) = await pool.connections()
    await pool.server.execute("SELECT pg_terminate_backend(%s, 5000)", (ended,))
    await pool.database.ping()
    assert ended not in dict(await pool.connections())


async def test_an_idle_connection_may_hear_something(pool: Pool) -> None:
    """Not everything that the server says is farewell: the connection is whole, and the next caller has it."""
    async with pool.database.connection() as mine:
        await mine.execute("LISTEN news")
        whole = mine.info.backend_pid
        heard = mine.fileno()
    await pool.server.execute("NOTIFY news")
    await eventually(lambda: select.select([heard], [], [], 0)[0])
    async with pool.database.connection() as mine:
        assert mine.info.backend_pid == whole


async def test_a_connection_is_given_out_unasked(pool: Pool) -> None:
    """The server hears nothing between two callers: a question would cost each of them a round trip."""
    async with pool.database.connection() as mine:
        await mine.execute("SELECT 'the first caller'")
    async with pool.database.connection():
        assert [said for _, said in await pool.connections()] == ["SELECT 'the first caller'"]


async def test_a_server_that_is_gone_without_a_word_is_missed(pool: Pool) -> None:
    """The kernel asks after it every few seconds, and gives up what was sent and never confirmed."""
    async with pool.database.connection() as mine:
        asked = {name: int(value) for name, value in mine.info.get_parameters().items() if value.isdecimal()}
    silence = max(asked["keepalives_interval"] * asked["keepalives_count"], asked["tcp_user_timeout"] / 1000)
    assert asked["keepalives_idle"] + silence <= 25
