"""Migrations: whole or not at all, whoever runs them and whenever they are killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from yoyo import get_backend

from shared.migrate import MIGRATIONS, migrate
from tests.conftest import fresh_database

AS_OWNER = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
HIDE = 'for file in passwd nsswitch.conf; do mount --bind /dev/null /etc/$file || exit 1; done; exec "$@"'
NAMELESS = ["unshare", *AS_OWNER, "--mount", "sh", "-c", HIDE, "sh"]
"""Runs where no user has a name."""
WAIT_SECONDS = 20.0
ALL = sorted(file.stem for file in MIGRATIONS.glob("*.sql"))


@pytest.fixture
def empty_url(postgres_server_url: str) -> Iterator[str]:
    """A database without the schema."""
    yield from fresh_database(postgres_server_url, "template1")


def start(url: str, *as_whom: str) -> subprocess.Popen[str]:
    values = {name: value for name, value in os.environ.items() if name not in ("LOGNAME", "USER", "LNAME", "USERNAME")}
    return subprocess.Popen(
        [*as_whom, sys.executable, "-m", "shared.migrate"],
        cwd=Path(__file__).parents[1],
        env={**values, "DATABASE_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def notes(url: str) -> psycopg.Connection[tuple[object, ...]]:
    """A connection that lets nobody note that a migration was made."""
    backend = get_backend(url.replace("postgresql://", "postgresql+psycopg://"))
    backend.ensure_internal_schema_updated()
    backend.connection.close()
    connection = psycopg.connect(url)
    connection.execute("LOCK TABLE _yoyo_migration IN SHARE MODE")
    return connection


def wait_until_it_waits(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    waiting = "SELECT FROM pg_locks WHERE relation = '_yoyo_migration'::regclass AND NOT granted"
    deadline = time.monotonic() + WAIT_SECONDS
    while connection.execute(waiting).fetchone() is None:
        assert time.monotonic() < deadline, "the migrator never came to its note"


def test_a_killed_migrator_leaves_nothing_half_done(empty_url: str) -> None:
    """The next one finds either the old schema or the new one."""
    with notes(empty_url) as connection:
        migrator = start(empty_url)
        wait_until_it_waits(connection)
        migrator.kill()
        migrator.communicate()
    assert migrate(empty_url) == ALL
    assert migrate(empty_url) == []


@pytest.mark.skipif(subprocess.run([*NAMELESS, "true"]).returncode != 0, reason="no namespaces of mounts here")
def test_a_user_without_a_name_migrates(empty_url: str) -> None:
    """OpenShift and restricted pods run as a number that no passwd file has."""
    output, _ = start(empty_url, *NAMELESS).communicate(timeout=WAIT_SECONDS)
    assert output == "".join(f"applied {name}\n" for name in ALL)
