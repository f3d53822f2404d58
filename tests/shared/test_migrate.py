"""Migrating: once, twice, two at once, and after a death half-way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from shared.migrate import migrate

ROOT = Path(__file__).parents[2]
# Everything that a migration makes, and which migrations are noted as applied.
SCHEMA = """
SELECT 'column', table_name, column_name, data_type || is_nullable || COALESCE(column_default, '')
FROM information_schema.columns WHERE table_schema = 'public' AND table_name !~ 'yoyo'
UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text !~ 'yoyo'
UNION ALL SELECT 'index', tablename, indexname, indexdef
FROM pg_indexes WHERE schemaname = 'public' AND tablename !~ 'yoyo'
UNION ALL SELECT 'trigger', tgrelid::regclass::text, tgname, pg_get_triggerdef(oid)
FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'function', proname, '', prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace
  AND proname <> 'pause'
UNION ALL SELECT 'applied', migration_id, '', '' FROM _yoyo_migration
"""
# A migration stops at its last statement until the test lets go of a lock.
PAUSE = """
CREATE FUNCTION pause() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock(7); END $$;
CREATE EVENT TRIGGER pause ON ddl_command_end WHEN TAG IN ('CREATE TRIGGER') EXECUTE FUNCTION pause();
"""
WAITING = """
SELECT pid FROM pg_stat_activity
WHERE pid IN (SELECT pid FROM pg_locks WHERE NOT granted) AND datname = current_database()
"""


def schema(url: str) -> set[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return set(connection.execute(SCHEMA))


def migrator(url: str) -> subprocess.Popen[str]:
    """`python -m shared.migrate`, as the job in the cluster runs it."""
    command = [sys.executable, "-m", "shared.migrate"]
    environment = {**os.environ, "DATABASE_URL": url}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(connection: psycopg.Connection[Any], statement: str) -> Sequence[Any]:
    while not (rows := connection.execute(statement).fetchall()):
        pass
    return rows


def test_migrating_twice_changes_nothing(empty_url: str) -> None:
    """The second time finds nothing to do, and the data stays."""
    assert migrate(empty_url) == sorted(file.stem for file in (ROOT / "shared/migrations").glob("*.sql"))
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute("INSERT INTO outbox VALUES ('t', 1, 1, '')")
    before = schema(empty_url)
    assert migrate(empty_url) == []
    assert schema(empty_url) == before
    with psycopg.connect(empty_url) as connection:
        assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (1,)


def test_two_migrators_at_once_are_one(empty_url: str, database_url: str) -> None:
    """One that comes while another is at it waits, and finds nothing left to do."""
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute(PAUSE)
        connection.execute("SELECT pg_advisory_lock(7)")
        first = migrator(empty_url)
        wait_for(connection, WAITING)
        second = migrator(empty_url)
        wait_for(connection, f"SELECT FROM ({WAITING}) w HAVING count(*) = 2")
        connection.execute("SELECT pg_advisory_unlock(7)")
        assert first.communicate(timeout=60)[0].startswith("applied 0001.initial\n")
        assert second.communicate(timeout=60) == ("up to date\n", "")
    assert schema(empty_url) == schema(database_url)


def test_a_killed_migrator_leaves_what_the_next_completes(empty_url: str, database_url: str) -> None:
    """SIGKILL in the middle of a migration: nothing of it stays, and no lock that would stop the next one."""
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute(PAUSE)
        connection.execute("SELECT pg_advisory_lock(7)")
        killed = migrator(empty_url)
        ((pid,),) = wait_for(connection, WAITING)
        killed.kill()
        killed.communicate()
        assert connection.execute("SELECT pid FROM pg_locks WHERE pid = %s", (pid,)).fetchall()
        connection.execute("SELECT pg_advisory_unlock(7)")
        connection.execute("DROP EVENT TRIGGER pause; DROP FUNCTION pause")
        assert connection.execute("SELECT to_regclass('jobs')").fetchone() == (None,)
    assert migrate(empty_url)
    assert schema(empty_url) == schema(database_url)


def test_the_command_says_what_it_did(empty_url: str) -> None:
    """Each migration applied, then that there is none left."""
    said = []
    for _ in range(2):
        process = migrator(empty_url)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        said.append(out)
    assert said[0].startswith("applied 0001.initial\n")
    assert said[1] == "up to date\n"


def test_the_command_says_what_it_needs() -> None:
    """Without DATABASE_URL: exit 1, and what to give."""
    process = migrator("")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert err.startswith("DATABASE_URL: not set; ")


@pytest.mark.parametrize("url", ["mysql://rpa:hunter2@db/rpa", "hunter2@db/rpa", "postgresql://hunter2@[/rpa"])
def test_another_database_is_refused(url: str) -> None:
    """What is no address of PostgreSQL: exit 1 and what would be one, without the password."""
    process = migrator(url)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert "hunter2" not in err
    assert "DATABASE_URL: must be " in err


def test_a_database_that_is_away_is_said(empty_url: str) -> None:
    """Exit 1 and the reason in one message, so that the job is tried again."""
    process = migrator(empty_url.replace("/test_", "/gone_"))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "does not exist" in err
    assert "Traceback" not in err


def test_one_of_several_hosts_is_found(empty_url: str) -> None:
    """An address that names a second host for the first one's failure."""
    parts = conninfo_to_dict(empty_url)
    hosts = f"%2Fnowhere:5432,{quote(str(parts['host']), safe='')}:{parts.get('port', 5432)}"
    assert migrate(f"postgresql://{parts['user']}@{hosts}/{parts['dbname']}")
