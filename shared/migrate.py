"""Bring a database to this version's schema: `python -m shared.migrate`.

Two migrators at once are safe: the second waits for the first's advisory lock and finds nothing to do.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict

from shared.config import ConfigError, DatabaseSettings, load
from shared.db import address

MIGRATIONS = Path(__file__).with_name("migrations")
LOCK = 0x5250_4101  # "RPA" and a number: the advisory lock that serialises migrators


def names() -> list[str]:
    """This version's migrations, in order."""
    return sorted(file.stem for file in MIGRATIONS.glob("*.sql") if not file.name.endswith(".rollback.sql"))


def migrate(database_url: str) -> list[str]:
    """Apply what is missing, in order, and return the names of what was applied.

    Raises psycopg.Error where the database refuses.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # yoyo's own imports use deprecated spellings
        from yoyo import get_backend, read_migrations

    database_url = address(database_url)
    with psycopg.connect(database_url, autocommit=True) as guard:
        guard.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        backend = get_backend(_yoyo_url(database_url))  # type: ignore[no-untyped-call]
        try:
            backend.break_lock()  # ours is held: what yoyo finds is what a killed migrator left
            with backend.lock():
                known = read_migrations(str(MIGRATIONS))  # type: ignore[no-untyped-call]
                missing = backend.to_apply(known)
                for migration in missing:
                    _apply(backend, migration)
                return [migration.id for migration in missing]
        finally:
            backend.connection.close()


def _apply(backend: Any, migration: Any) -> None:
    # The change and the note that it was made are one transaction: a killed migrator leaves both or neither.
    # yoyo's own way has two, and a log of who migrates, for which a user chosen at random has no name.
    with backend.transaction():
        migration.process_steps(backend, "apply")
        backend.mark_one(migration, log=False)


def _yoyo_url(database_url: str) -> str:
    # Every part as libpq reads it: yoyo would not understand several hosts.
    return f"postgresql+psycopg:///?{urlencode(conninfo_to_dict(database_url))}"


def main() -> int:
    """Migrate DATABASE_URL's database and say what was done."""
    try:
        applied = migrate(load(DatabaseSettings).database_url.get_secret_value())
    except (ConfigError, psycopg.Error) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("".join(f"applied {name}\n" for name in applied) or "up to date\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
