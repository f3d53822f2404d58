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


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A connection to a fresh database with the schema."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as opened:
        yield opened
