"""What operators paused, and pausing it: providers and accounts."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from psycopg.rows import dict_row

from functions.monitor import queries
from functions.monitor.models import Pause, ProviderState
from shared.db import ONE_AT_A_TIME, Connection
from shared.events import Doorbell, Type
from shared.jobs import ADMISSION_LOCK
from shared.providers import Provider


class Kind(StrEnum):
    """What can be paused."""

    PROVIDER = "provider"
    ACCOUNT = "account"


def pause_of(row: dict[str, Any] | None) -> Pause | None:
    """A row of pauses, as shown."""
    return Pause(by=row["paused_by"], at=row["paused_at"], reason=row["reason"]) if row else None


async def provider_states(connection: Connection, providers: Iterable[Provider]) -> list[ProviderState]:
    """These providers by name, with what runs and waits there."""
    known = {provider.name: provider for provider in providers}
    async with connection.cursor(row_factory=dict_row) as cursor:
        rows = await (await cursor.execute(queries.PROVIDERS, {"names": list(known)})).fetchall()
    return [
        ProviderState.model_validate(
            {
                **row,
                "actions": known[row["name"]].actions,
                "max_sessions": known[row["name"]].max_sessions,
                "paused": pause_of(row["paused"]),
            }
        )
        for row in rows
    ]


async def paused_accounts(connection: Connection) -> dict[str, Pause]:
    """The pauses of accounts, by account."""
    rows = await (await connection.execute(queries.PAUSED_ACCOUNTS)).fetchall()
    return {name: pause for name, row in rows if (pause := pause_of(row))}


async def pause(connection: Connection, kind: Kind, name: str, reason: str, by: str) -> None:
    """Nothing new starts there any more."""
    async with connection.transaction():
        await connection.execute(ONE_AT_A_TIME, {"lock": ADMISSION_LOCK})
        values = {"kind": kind.value, "name": name, "reason": reason, "by": by}
        await connection.execute(queries.PAUSE, values)


async def resume(connection: Connection, kind: Kind, name: str, providers: Iterable[str]) -> list[Doorbell]:
    """Lift the pause; what to publish, so that what waits at these providers starts now."""
    values = {"kind": kind.value, "name": name, "providers": list(providers)}
    rows = await (await connection.execute(queries.RESUME, values)).fetchall()
    return [Doorbell(Type(kind_), job_id, attempt, trace) for kind_, job_id, attempt, trace in rows]
