"""PostgreSQL servers that tests kill, freeze, restart, replicate and promote."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg

from local.datastores import POSTGRES_BIN_PATH, postgres_user
from local.process import die_with_parent, free_port

SETTINGS = "fsync=off shared_buffers=16MB max_connections=50 wal_level=replica hot_standby=on"
START_SECONDS = 60.0


class Server:
    """One server on this machine, in a folder of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._data = folder / name
        self._user = postgres_user(folder)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    def create(self) -> None:
        """An empty database cluster."""
        self._run("initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")

    def copy(self, primary: Server) -> None:
        """A standby of another server that runs."""
        source = f"host=127.0.0.1 port={primary.port} user=postgres"
        self._run("pg_basebackup", "-D", self._data, "-d", source, "-R", "-c", "fast", "--no-sync")

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        self._start()
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (self._folder / "log").read_text()
                time.sleep(0.05)
            else:
                return

    def _start(self) -> None:
        options = [word for setting in SETTINGS.split() for word in ("-c", setting)]
        argv: list[str | Path] = [POSTGRES_BIN_PATH / "postgres", "-D", self._data, "-k", ""]
        argv += ["-h", "127.0.0.1", "-p", str(self.port)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*argv, *options],
                user=self._user,
                group=self._user,
                cwd="/",
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(),
            )

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """End it; SIGQUIT is PostgreSQL's immediate shutdown, after which it recovers as after a crash."""
        if self._process is not None:
            self.thaw()
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Its processes stop where they are; the kernel still answers for them."""
        for process in self._processes():
            process.suspend()

    def thaw(self) -> None:
        """They go on."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def _processes(self) -> list[psutil.Process]:
        assert self._process is not None
        postmaster = psutil.Process(self._process.pid)
        return [postmaster, *postmaster.children(recursive=True)]

    def wait_for_standby(self) -> None:
        """Until its standby has all that was written."""
        behind = "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()"
        while not self.execute(behind):
            time.sleep(0.05)

    def promote(self) -> None:
        """A standby becomes a primary."""
        self.execute("SELECT pg_promote()")

    def read_only(self, yes: bool) -> None:
        """Refuse writes, as a managed server does whose disk is full; or take them again."""
        self.execute(f"ALTER SYSTEM SET default_transaction_read_only = {'on' if yes else 'off'}")
        self.execute("SELECT pg_reload_conf()")
        while self.execute("SHOW default_transaction_read_only") != ("on" if yes else "off"):
            time.sleep(0.01)

    def cut(self) -> None:
        """End every client's connection."""
        self.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )

    def execute(self, statement: str) -> object:
        """Tell the server something; the first value of what it answers."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    def url(self, database: str = "rpa") -> str:
        """An address."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def _run(self, program: str, *argv: object) -> None:
        command = [str(POSTGRES_BIN_PATH / program), *map(str, argv)]
        made = subprocess.run(command, user=self._user, group=self._user, cwd="/", capture_output=True, text=True)
        assert made.returncode == 0, made.stderr


@contextlib.contextmanager
def servers(folder: Path, *names: str) -> Iterator[list[Server]]:
    """Servers that are not made yet; what runs at the end is ended."""
    if user := postgres_user(folder):
        folder.chmod(0o755)
        shutil.chown(folder, user)
    made = [Server(folder, name) for name in names]
    try:
        yield made
    finally:
        for server in made:
            server.stop()
