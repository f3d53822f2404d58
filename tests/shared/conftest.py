"""Databases without and with the schema."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest

from tests.conftest import fresh_database


@pytest.fixture
def empty_url(postgres_server_url: str) -> Iterator[str]:
    """A database without the schema."""
    yield from fresh_database(postgres_server_url, "template0")


@pytest.fixture(scope="module")
def module_url(postgres_server_url: str, migrated_template: str) -> Iterator[str]:
    """A database with the schema for all tests of a module."""
    yield from fresh_database(postgres_server_url, migrated_template)


@pytest.fixture
async def connection(module_url: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A connection to a database with the schema and empty tables."""
    async with await psycopg.AsyncConnection.connect(module_url, autocommit=True) as opened:
        for table in ("jobs", "outbox", "dead_letters", "totp_steps"):
            await opened.execute(f"DELETE FROM {table}")  # noqa: S608 - our names
        yield opened
