"""PostgreSQL: a small pool that opens on first use and recovers by itself."""

from __future__ import annotations

import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import LiteralString, TypeVar

from psycopg import AsyncConnection, OperationalError
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import (
    IdleInTransactionSessionTimeout,
    ReadOnlySqlTransaction,
    UndefinedColumn,
    UndefinedFunction,
    UndefinedTable,
)
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from shared.config import DatabaseSettings

Connection = AsyncConnection[TupleRow]
UNAVAILABLE = (OperationalError, PoolTimeout, ReadOnlySqlTransaction, IdleInTransactionSessionTimeout)
"""What callers see while PostgreSQL cannot be reached, or takes no writes, or took us for dead: try again later."""
NOT_MIGRATED = (UndefinedTable, UndefinedColumn, UndefinedFunction)
"""What callers see before `python -m shared.migrate` has run: try again later, too."""

# Wait for whoever holds this lock; it is held until the transaction ends.
ONE_AT_A_TIME: LiteralString = "SELECT pg_advisory_xact_lock(%(lock)s)"

WAIT_SECONDS = 5.0
CONNECT_SECONDS = 3
"""For each host: whoever waits for a connection also gets one from a second host when the first is dead."""
ANSWER_SECONDS = 12.0
"""The server gives up any statement after 10 s; one that is silent for longer is frozen, and its kernel is not."""
STATEMENT_TIMEOUT = "-c statement_timeout=10s -c lock_timeout=5s -c idle_in_transaction_session_timeout=15s"
SILENCE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 15_000}
"""A server that is gone without a word is noticed by the kernel within 25 s."""


Answer = TypeVar("Answer")


def address(database_url: str) -> str:
    """As libpq reads it: of several hosts the one that takes writes, unless the address wants another."""
    wanted = {"target_session_attrs": "read-write", "connect_timeout": str(CONNECT_SECONDS)}
    given = {name: str(value) for name, value in conninfo_to_dict(database_url).items()}
    return make_conninfo("", **(wanted | given))


class BoundedConnection(AsyncConnection[TupleRow]):
    """A connection that is closed where an answer takes too long."""

    async def wait(self, gen: PQGen[Answer], interval: float = 0.1, timeout: float | None = None) -> Answer:
        """Raises OperationalError after 12 s."""
        try:
            return await super().wait(gen, interval, timeout or ANSWER_SECONDS)
        except OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()  # what it still answers belongs to nobody
            raise


class Database:
    """A pool of connections in autocommit: one statement is one transaction unless the caller opens one."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self._settings = settings
        self._pool: AsyncConnectionPool[Connection] | None = None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection from the pool. Raises one of UNAVAILABLE after 5 s."""
        if self._pool is None:
            self._pool = await self._open()
        async with self._pool.connection() as connection:
            try:
                yield connection
            except ReadOnlySqlTransaction:
                await self._pool.drain()  # new connections look for the server that takes writes
                raise

    async def _open(self) -> AsyncConnectionPool[Connection]:
        # functions-framework has no lifespan hook to open it in, and a cold start need not wait for it.
        pool = AsyncConnectionPool[Connection](
            address(self._settings.database_url.get_secret_value()),
            connection_class=BoundedConnection,
            min_size=1,
            max_size=self._settings.database_pool_size,
            timeout=WAIT_SECONDS,
            max_idle=60,
            reconnect_timeout=WAIT_SECONDS,  # and anew for the next caller: longer waits would outlive the outage
            check=self._alive,
            kwargs={
                "autocommit": True,
                **SILENCE,
                "options": STATEMENT_TIMEOUT,
                "application_name": self._settings.k_service,
            },
            open=False,
        )
        await pool.open()
        return pool

    async def ping(self) -> None:
        """Raises one of UNAVAILABLE where the database does not answer."""
        async with self.connection() as connection:
            await connection.execute("SELECT 1")

    async def aclose(self) -> None:
        """Give the connections back."""
        if self._pool is not None:
            await self._pool.close()
            self._pool = None

    async def _alive(self, connection: Connection) -> None:
        # The server says nothing to an idle connection but farewell, and the kernel knows of its end: no need to ask.
        socket = select.poll()
        socket.register(connection.fileno(), select.POLLIN)
        if not socket.poll(0):
            return
        try:
            await AsyncConnectionPool.check_connection(connection)
        except OperationalError:
            if self._pool is not None:
                await self._pool.drain()  # what ended one ended all: nobody should find the others one by one
            raise
