"""PostgreSQL: a small pool that opens on first use and recovers by itself."""

from __future__ import annotations

import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import LiteralString

from psycopg import AsyncConnection, OperationalError
from psycopg.errors import UndefinedColumn, UndefinedFunction, UndefinedTable
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from shared.config import DatabaseSettings

Connection = AsyncConnection[TupleRow]
UNAVAILABLE = (OperationalError, PoolTimeout)
"""What callers see while PostgreSQL cannot be reached: try again later."""
NOT_MIGRATED = (UndefinedTable, UndefinedColumn, UndefinedFunction)
"""What callers see before `python -m shared.migrate` has run: try again later, too."""

# Wait for whoever holds this lock; it is held until the transaction ends.
ONE_AT_A_TIME: LiteralString = "SELECT pg_advisory_xact_lock(%(lock)s)"

WAIT_SECONDS = 5.0
STATEMENT_TIMEOUT = "-c statement_timeout=10s -c lock_timeout=5s -c idle_in_transaction_session_timeout=15s"
SILENCE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 15_000}
"""A server that is gone without a word is noticed by the kernel within 25 s."""


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
            yield connection

    async def _open(self) -> AsyncConnectionPool[Connection]:
        # functions-framework has no lifespan hook to open it in, and a cold start need not wait for it.
        pool = AsyncConnectionPool[Connection](
            self._settings.database_url.get_secret_value(),
            min_size=1,
            max_size=self._settings.database_pool_size,
            timeout=WAIT_SECONDS,
            max_idle=60,
            reconnect_timeout=30,
            check=_alive,
            kwargs={
                "autocommit": True,
                "connect_timeout": 5,
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


async def _alive(connection: Connection) -> None:
    # The server says nothing to an idle connection but farewell, and the kernel knows of its end: no need to ask.
    socket = select.poll()
    socket.register(connection.fileno(), select.POLLIN)
    if socket.poll(0):
        await AsyncConnectionPool.check_connection(connection)
