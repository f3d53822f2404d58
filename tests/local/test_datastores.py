"""PostgreSQL and Valkey of a local system: closed to strangers, kept across restarts, gone with their owner."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from valkey import Valkey
from valkey.exceptions import ValkeyError

from local.datastores import Datastores, datastores
from local.process import MARK
from tests.serving import eventually

OWNER = """
import asyncio, sys
from pathlib import Path
from local.datastores import datastores

async def own():
    async with datastores(Path(sys.argv[1])) as stores:
        print(stores.database_url, flush=True)
        await asyncio.sleep(600)

asyncio.run(own())
"""


@pytest.fixture
def state() -> Iterator[Path]:
    """A state folder that PostgreSQL's user gets through to."""
    with tempfile.TemporaryDirectory(prefix="rpa-test-stores-") as folder:
        yield Path(folder)


def servers(state: Path) -> list[psutil.Process]:
    """The processes that belong to a state folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == str(state.resolve()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def write(stores: Datastores) -> None:
    with psycopg.connect(stores.database_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS number")
    with Valkey.from_url(stores.valkey_url) as client:
        client.set("kept", "42")


def read(stores: Datastores) -> tuple[object, object]:
    with psycopg.connect(stores.database_url) as connection, Valkey.from_url(stores.valkey_url) as client:
        row = connection.execute("SELECT number FROM kept").fetchone()
        return row and row[0], client.get("kept")


async def test_data_is_kept_and_nothing_runs_in_between(state: Path) -> None:
    """What was written is there after a restart; a stop leaves no process."""
    async with datastores(state) as stores:
        write(stores)
    assert servers(state) == []
    async with datastores(state) as stores:
        assert read(stores) == (42, b"42")


async def test_strangers_get_nothing(state: Path) -> None:
    """Both want their password, which no command line and no readable file shows."""
    async with datastores(state) as stores:
        password = psycopg.conninfo.conninfo_to_dict(stores.database_url)["password"]
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(stores.database_url.replace(str(password), "guessed"))
        with pytest.raises(ValkeyError), Valkey(port=stores.valkey_port) as client:
            client.ping()
        for process in servers(state):
            words = " ".join(process.cmdline())
            assert str(password) not in words
            assert stores.valkey_password not in words
    assert (state / "secrets.json").stat().st_mode & 0o077 == 0


async def test_a_server_that_dies_comes_back(state: Path) -> None:
    """PostgreSQL killed at work recovers by itself, at the same address."""
    async with datastores(state) as stores:
        write(stores)
        for process in servers(state):
            if "postgres" in process.name() and "-D" in process.cmdline():
                process.kill()

        def recovered() -> bool:
            with contextlib.suppress(psycopg.OperationalError):
                return read(stores) == (42, b"42")
            return False

        await eventually(recovered)


async def test_a_killed_owner_takes_them_along_and_the_next_one_takes_over(state: Path) -> None:
    """SIGKILL of the owner ends both servers; what it had committed is there for the next."""
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(state), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout
    url = (await owner.stdout.readline()).decode().strip()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS number")
    os.kill(owner.pid, signal.SIGKILL)
    await owner.wait()
    await eventually(lambda: servers(state) == [])
    assert (state / "postgres" / "postmaster.pid").exists()
    async with datastores(state) as stores:
        assert read(stores) == (42, None)


async def test_a_first_start_that_was_killed_is_made_anew(state: Path) -> None:
    """Half-made data is no data."""
    (state / "postgres.new").mkdir()
    (state / "postgres.new" / "PG_VERSION").write_text("18\n")
    async with datastores(state) as stores:
        write(stores)
    assert not (state / "postgres.new").exists()


async def test_a_server_that_cannot_start_says_why(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of its log is the message."""
    monkeypatch.setattr("local.datastores.START_SECONDS", 1.0)
    async with datastores(state):
        pass
    (state / "postgres" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(RuntimeError, match=r"postgres\.log(.|\n)*9\.6"):
        async with datastores(state):
            pass
    assert servers(state) == []
