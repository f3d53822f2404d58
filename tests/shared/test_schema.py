"""The database keeps its promises against any SQL, whoever writes it."""

from __future__ import annotations

import itertools
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import CheckViolation, ForeignKeyViolation, IntegrityError, NotNullViolation, UniqueViolation

from shared.jobs import LIVE, TERMINAL, State

Connection = psycopg.AsyncConnection[Any]
JOB = {
    "content_digest": b"",
    "provider": "metrofiber",
    "action": "validation",
    "parameters": "{}",
    "priority": 5,
    "max_retries": 3,
    "traceparent": "",
    "created_by": "test",
}
ALLOWED = {
    ("pending", "provisioning"),
    ("pending", "cancelled"),
    ("pending", "failed"),
    ("provisioning", "dispatching"),
    ("provisioning", "pending"),
    ("provisioning", "cancelled"),
    ("provisioning", "failed"),
    ("dispatching", "running"),
    ("dispatching", "pending"),
    ("dispatching", "completed"),
    ("dispatching", "cancelled"),
    ("dispatching", "failed"),
    ("running", "completed"),
    ("running", "pending"),
    ("running", "cancelled"),
    ("running", "failed"),
}
NOW = sql.SQL("now()")


def in_state(state: str) -> dict[str, Any]:
    """The columns that go with a state."""
    live = state in LIVE
    return {
        "state": state,
        "lease_expires_at": NOW if live else None,
        "claimed_at": NOW if live else None,
        "worker": "w" if state == "running" else None,
        "finished_at": NOW if state in TERMINAL else None,
        "error": "{}" if state == "failed" else None,
    }


def literal(value: Any) -> sql.Composable:
    return value if isinstance(value, sql.Composable) else sql.Literal(value)


async def insert(connection: Connection, table: str, **values: Any) -> Any:
    """Insert a row; its first column."""
    names = sql.SQL(", ").join(map(sql.Identifier, values))
    given = sql.SQL(", ").join(map(literal, values.values()))
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) RETURNING *").format(sql.Identifier(table), names, given)
    row = await (await connection.execute(statement)).fetchone()
    return row[0] if row else None


async def job(connection: Connection, state: str = "pending", **values: Any) -> int:
    return int(await insert(connection, "jobs", **JOB, **{**in_state(state), **values}))


async def change(connection: Connection, job_id: int, **values: Any) -> None:
    pairs = [sql.SQL("{} = {}").format(sql.Identifier(name), literal(value)) for name, value in values.items()]
    statement = sql.SQL("UPDATE jobs SET {} WHERE id = {}").format(sql.SQL(", ").join(pairs), sql.Literal(job_id))
    await connection.execute(statement)


async def entry(connection: Connection, job_id: int, to: str, came_from: str | None = None) -> None:
    values = {"job_id": job_id, "attempt": 1, "event": "e", "from_state": came_from, "to_state": to}
    await insert(connection, "history", **values)


@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ({"state": "lost"}, "jobs_state_known"),
        ({"parameters": "[]"}, "jobs_parameters_object"),
        ({"parameters": "null"}, "jobs_parameters_object"),
        ({"priority": 11}, "jobs_priority_range"),
        ({"priority": -1}, "jobs_priority_range"),
        ({"max_retries": 21}, "jobs_max_retries_range"),
        ({"external_job_id": ""}, "jobs_external_job_id_length"),
        ({"external_job_id": "x" * 201}, "jobs_external_job_id_length"),
        ({"attempt": 0}, "jobs_attempt_range"),
        ({"attempt": 5}, "jobs_attempt_range"),
    ],
    ids=str,
)
async def test_no_job_is_out_of_bounds(connection: Connection, values: dict[str, Any], constraint: str) -> None:
    """Each value stays within its range."""
    with pytest.raises(CheckViolation) as caught:
        await insert(connection, "jobs", **{**JOB, **values})
    assert caught.value.diag.constraint_name == constraint


@pytest.mark.parametrize(
    ("state", "values", "constraint"),
    [
        *((state, {"lease_expires_at": None}, "jobs_live_has_lease") for state in LIVE),
        *((state, {"claimed_at": None}, "jobs_live_has_lease") for state in LIVE),
        ("pending", {"lease_expires_at": NOW, "claimed_at": NOW}, "jobs_live_has_lease"),
        *((state, {"lease_expires_at": NOW, "claimed_at": NOW}, "jobs_live_has_lease") for state in TERMINAL),
        ("running", {"worker": None}, "jobs_running_has_worker"),
        *((state, {"finished_at": None}, "jobs_terminal_has_end") for state in TERMINAL),
        *((state, {"finished_at": NOW}, "jobs_terminal_has_end") for state in (State.PENDING, *LIVE)),
        ("failed", {"error": None}, "jobs_failed_has_error"),
        *((state, {"reported_at": NOW}, "jobs_reported_is_terminal") for state in (State.PENDING, *LIVE)),
    ],
    ids=str,
)
async def test_a_state_has_what_goes_with_it(
    connection: Connection, state: str, values: dict[str, Any], constraint: str
) -> None:
    """Leases of the living, ends of the ended, workers of the running, reasons of the failed."""
    with pytest.raises(CheckViolation) as caught:
        await job(connection, state, **values)
    assert caught.value.diag.constraint_name == constraint
    job_id = await job(connection, state)
    with pytest.raises(CheckViolation):
        await change(connection, job_id, **values)


@pytest.mark.parametrize(("before", "after"), list(itertools.product(State, State)))
async def test_the_state_machine_is_the_databases(connection: Connection, before: State, after: State) -> None:
    """A job goes from state to state as drawn, and no other way; what ended stays."""
    job_id = await job(connection, before)
    if before == after or (before, after) in ALLOWED:
        await change(connection, job_id, **({"priority": 1} if before == after else in_state(after)))
        return
    with pytest.raises(CheckViolation) as caught:
        await change(connection, job_id, **in_state(after))
    expected = "jobs_terminal_is_final" if before in TERMINAL else "jobs_state_machine"
    assert caught.value.diag.constraint_name == expected


@pytest.mark.parametrize("state", TERMINAL)
@pytest.mark.parametrize(
    "values",
    [{"attempt": 2}, {"result": '{"other": 1}'}, {"error": '{"other": 1}'}, {"finished_at": sql.SQL("now() + '1 s'")}],
    ids=str,
)
async def test_an_end_is_final(connection: Connection, state: State, values: dict[str, Any]) -> None:
    """Attempt, result, error and end of an ended job never change; its report may."""
    job_id = await job(connection, state)
    await change(connection, job_id, reported_at=NOW, report_attempts=3)
    with pytest.raises(CheckViolation) as caught:
        await change(connection, job_id, **values)
    assert caught.value.diag.constraint_name == "jobs_terminal_is_final"


@pytest.mark.parametrize(
    ("state", "values"),
    [
        ("running", {"attempt": 2}),
        ("pending", {"attempt": 3}),
        ("pending", {"attempt": 0}),
        ("running", {**in_state("pending"), "attempt": 3}),
        ("running", {**in_state("completed"), "attempt": 2}),
    ],
    ids=str,
)
async def test_attempts_follow_each_other(connection: Connection, state: str, values: dict[str, Any]) -> None:
    """One by one, and only by going back to pending."""
    job_id = await job(connection, state)
    with pytest.raises(CheckViolation) as caught:
        await change(connection, job_id, **values)
    assert caught.value.diag.constraint_name in ("jobs_attempts_in_order", "jobs_attempt_range")


async def test_a_change_says_when(connection: Connection) -> None:
    """updated_at is the database's, whatever the writer says."""
    job_id = await job(connection)
    await change(connection, job_id, updated_at=sql.SQL("now() - interval '1 day'"))
    row = await (await connection.execute("SELECT updated_at > now() - interval '1 minute' FROM jobs")).fetchone()
    assert row == (True,)


async def test_an_external_id_is_one_job(connection: Connection) -> None:
    """But for retries of it, of which each job has one."""
    first = await job(connection, "failed", external_job_id="X")
    retry = await job(connection, "failed", external_job_id="X", retry_of=first)
    await job(connection, external_job_id="X", retry_of=retry)
    for values, index in (
        ({"external_job_id": "X"}, "jobs_external_job_id_once"),
        ({"external_job_id": "X", "retry_of": first}, "jobs_retried_once"),
    ):
        with pytest.raises(UniqueViolation) as caught:
            await job(connection, **values)
        assert caught.value.diag.constraint_name == index
    await job(connection)
    await job(connection)


async def test_a_retry_outlives_what_it_retries(connection: Connection) -> None:
    """Retention takes the older job; its retry stands for the external id from then on."""
    first = await job(connection, "failed", external_job_id="X")
    retry = await job(connection, "failed", external_job_id="X", retry_of=first)
    await connection.execute("DELETE FROM jobs WHERE id = %s", (first,))
    row = await (await connection.execute("SELECT id, retry_of FROM jobs")).fetchone()
    assert row == (retry, None)
    with pytest.raises(UniqueViolation):
        await job(connection, external_job_id="X")


async def test_a_job_ends_once_in_its_history(connection: Connection) -> None:
    """A second end is refused; what happens to an ended job without a change of state is not."""
    job_id = await job(connection, "completed")
    await entry(connection, job_id, "completed", "running")
    await entry(connection, job_id, "completed", "completed")
    for end in TERMINAL:
        with pytest.raises(UniqueViolation) as caught:
            await entry(connection, job_id, end, "running")
        assert caught.value.diag.constraint_name == "history_one_end"


async def test_history_and_evidence_go_with_their_job(connection: Connection) -> None:
    """They belong to a job that exists."""
    job_id = await job(connection, "completed")
    file = {"attempt": 1, "name": "a", "content_type": "t", "size": 1, "sha256": b"", "content": b"x"}
    await entry(connection, job_id, "completed", "running")
    await insert(connection, "evidence", job_id=job_id, **file)
    for table, values in (("history", {"attempt": 1, "event": "e", "to_state": "pending"}), ("evidence", file)):
        with pytest.raises(ForeignKeyViolation):
            await insert(connection, table, job_id=10**12, **values)
    await connection.execute("DELETE FROM jobs")
    for table in ("history", "evidence"):
        found = await connection.execute(sql.SQL("SELECT FROM {}").format(sql.Identifier(table)))
        assert await found.fetchall() == []


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"name": "../a"}, CheckViolation),
        ({"name": ""}, CheckViolation),
        ({"name": "x" * 101}, CheckViolation),
        ({"name": "a\nb"}, CheckViolation),
        ({"size": 10 * 1024 * 1024 + 1}, CheckViolation),
        ({"size": -1}, CheckViolation),
        ({"content": None}, NotNullViolation),
        ({"name": "there"}, UniqueViolation),
    ],
    ids=str,
)
async def test_evidence_is_plain_and_bounded(
    connection: Connection, values: dict[str, Any], error: type[IntegrityError]
) -> None:
    """Names and sizes, and one file of a name in an attempt."""
    job_id = await job(connection)
    file = {"job_id": job_id, "attempt": 1, "content_type": "t", "size": 1, "sha256": b"", "content": b"x"}
    await insert(connection, "evidence", name="there", **file)
    with pytest.raises(error):
        await insert(connection, "evidence", **{**file, "name": "a", **values})


async def test_a_time_step_is_one_attempts(connection: Connection) -> None:
    """The ledger: an account's time step is given once."""
    step = {"account": "OCTOTEL", "step": 1, "attempt": 1}
    await insert(connection, "totp_steps", **step, job_id=1)
    with pytest.raises(UniqueViolation):
        await insert(connection, "totp_steps", **step, job_id=2)
    await insert(connection, "totp_steps", **{**step, "account": "OCTOTEL_2"}, job_id=2)


async def test_an_event_waits_once(connection: Connection) -> None:
    """The outbox has a happening once; dead letters have an event once for each destination."""
    bell = {"type": "t", "job_id": 1, "attempt": 1, "traceparent": ""}
    await insert(connection, "outbox", **bell)
    with pytest.raises(UniqueViolation):
        await insert(connection, "outbox", **bell)
    letter = {"event_source": "s", "event_id": "i", "event_type": "t", "reason": "", "event": "{}"}
    await insert(connection, "dead_letters", **letter, destination="a")
    await insert(connection, "dead_letters", **letter, destination="b")
    with pytest.raises(UniqueViolation):
        await insert(connection, "dead_letters", **letter, destination="a")
