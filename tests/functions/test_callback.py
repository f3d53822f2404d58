"""What workers report: heartbeats, evidence, completion."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.functions.refusals import refusal, unchanged
from tests.functions.stage import Stage, open_stage

MIB = 1024 * 1024
BROKE = {"kind": "application", "code": "broke", "message": "it broke"}
NO = {"kind": "business", "code": "unknown_circuit", "message": "the portal knows no such circuit"}
Order = dict[str, Any]


async def beat(stage: Stage, order: Order, **more: Any) -> httpx.Response:
    body = {"job_id": order["job_id"], "attempt": order["attempt"], **more}
    return await stage.call("callback", "POST", "/callbacks/heartbeat", token=order["token"], json=body)


async def upload(
    stage: Stage, order: Order, content: Any, name: str = "a.png", kind: str | None = "image/png"
) -> httpx.Response:
    headers = {"Content-Type": kind} if kind is not None else {}
    path = f"/callbacks/evidence/{name}"
    return await stage.call("callback", "PUT", path, token=order["token"], content=content, headers=headers)


async def lease(stage: Stage, order: Order) -> datetime:
    (row,) = await stage.rows("SELECT lease_expires_at FROM jobs WHERE id = %s", order["job_id"])
    return row["lease_expires_at"]


async def events(stage: Stage, order: Order) -> list[str]:
    return [entry["event"] for entry in (await stage.job(order["job_id"]))["history"]]


# Heartbeats


async def test_a_heartbeat_extends_the_lease(stage: Stage) -> None:
    """The answer says until when; a minute of silence from now is allowed."""
    order = await stage.until_running()
    await stage.execute("UPDATE jobs SET lease_expires_at = now() + interval '1 s'")
    answer = await beat(stage, order)
    assert answer.status_code == 200
    assert answer.json()["status"] == "running"
    until = datetime.fromisoformat(answer.json()["lease_expires_at"])
    assert until == await lease(stage, order)
    assert timedelta(seconds=50) < until - datetime.now(UTC) <= timedelta(seconds=60)
    assert answer.json()["lease_seconds"] == pytest.approx(60, abs=0.5)


async def test_heartbeats_do_not_extend_an_attempt_for_ever(stage: Stage) -> None:
    """However often a worker beats, its attempt ends WORKER_TIMEOUT after its browser was ready at the latest."""
    order = await stage.until_running()
    await stage.execute("UPDATE jobs SET claimed_at = now() - interval '2159 s'")  # 1800 + 60 + 300 s in all
    until = datetime.fromisoformat((await beat(stage, order)).json()["lease_expires_at"])
    assert until - datetime.now(UTC) <= timedelta(seconds=1)


async def test_a_phase_is_noted_when_it_changes(stage: Stage) -> None:
    """History tells what a worker does, once for each change."""
    order = await stage.until_running()
    for phase in ("login", "login", None, "login", "search"):
        await beat(stage, order, **({"phase": phase} if phase else {}))
    history = (await stage.job(order["job_id"]))["history"]
    assert [e["detail"]["phase"] for e in history if e["event"] == "phase"] == ["login", "search"]


async def test_a_heartbeat_proves_that_a_job_was_taken(stage: Stage) -> None:
    """A worker whose answer was lost shows by its first heartbeat that it has the job."""
    job = await stage.submit()
    stage.worker.execute_status = 500
    await stage.deliver_all()
    assert (await stage.job(job["id"]))["status"] == "dispatching"
    (browser,) = await stage.rows("SELECT * FROM browsers")
    assert browser["job_id"] == job["id"]
    order = {"job_id": job["id"], "attempt": 1, "token": stage.worker.offered[-1]["token"]}
    assert (await beat(stage, order, phase="login")).status_code == 200
    job = await stage.job(job["id"])
    assert job["status"] == "running"
    assert job["history"][-1]["event"] == "accepted"
    assert job["history"][-1]["detail"] == {"by": "heartbeat", "phase": "login"}


# Completion


async def test_a_job_is_completed_with_its_result(stage: Stage) -> None:
    """Result and the use of a login code are kept; the end is announced."""
    order = await stage.until_running()
    answer = await stage.complete(order, result={"valid": True, "speed": 1.5}, totp_used=True)
    assert (answer.status_code, answer.json()) == (200, {"status": "completed"})
    job = await stage.job(order["job_id"])
    assert (job["status"], job["result"], job["error"]) == ("completed", {"valid": True, "speed": 1.5}, None)
    assert job["history"][-1]["detail"] == {"by": "worker", "totp_used": True}
    assert job["finished_at"]
    assert [bell.type for bell in await stage.outbox()] == ["rpa.job.finished.v1"]


async def test_told_twice_it_ends_once(stage: Stage) -> None:
    """A completion sent again, at once or with other content, is answered as the first and changes nothing."""
    order = await stage.until_running()
    answers = await asyncio.gather(*(stage.complete(order, result={"n": n}) for n in range(8)))
    assert {(a.status_code, a.json()["status"]) for a in answers} == {(200, "completed")}
    async with unchanged(stage):
        answer = await stage.complete(order, status="failed", failure=BROKE)
    assert (answer.status_code, answer.json()) == (200, {"status": "completed"})
    assert (await events(stage, order)).count("completed") == 1


async def test_the_portals_no_is_final(stage: Stage) -> None:
    """A business failure is not tried again, whatever retries are left."""
    order = await stage.until_running(max_retries=3)
    assert (await stage.complete(order, status="failed", failure=NO)).json() == {"status": "failed"}
    job = await stage.job(order["job_id"])
    assert (job["status"], job["attempt"], job["error"]) == ("failed", 1, NO)


async def test_what_broke_is_tried_again_until_retries_are_used_up(stage: Stage) -> None:
    """An application failure goes back to pending as the next attempt; told twice it costs one; the last one fails."""
    order = await stage.until_running(max_retries=1)
    for _ in range(2):
        assert (await stage.complete(order, status="failed", failure=BROKE)).json() == {"status": "pending"}
    job = await stage.job(order["job_id"])
    assert (job["status"], job["attempt"], job["error"]) == ("pending", 2, BROKE)
    await stage.deliver_all()
    order = stage.worker.orders[-1]
    assert order["attempt"] == 2
    assert (await stage.complete(order, status="failed", failure=BROKE)).json() == {"status": "failed"}
    assert [e["event"] for e in (await stage.job(order["job_id"]))["history"]][-1] == "failed"


# Too late, or not theirs


async def cancelled(stage: Stage, order: Order) -> None:
    await stage.call("submit_job", "DELETE", f"/jobs/{order['job_id']}")


async def timed_out(stage: Stage, _: Order) -> None:
    await stage.execute("UPDATE jobs SET lease_expires_at = now() - interval '1 s'")
    await stage.tick()


async def forgotten(stage: Stage, _: Order) -> None:
    await stage.execute("DELETE FROM jobs")


async def late(stage: Stage, _: Order) -> None:
    await stage.execute("UPDATE jobs SET deadline = now()")
    await stage.tick()


@pytest.mark.parametrize(
    ("ends", "code"),
    [(cancelled, "cancelled"), (timed_out, "stale_attempt"), (forgotten, "unknown_job"), (late, "finished")],
)
async def test_a_worker_that_is_too_late_is_told_to_stop(stage: Stage, ends: Any, code: str) -> None:
    """Nothing that a worker sends for an attempt that ended changes anything: 409, and why."""
    order = await stage.until_running()
    await ends(stage, order)
    async with unchanged(stage):
        for answer in (await beat(stage, order), await upload(stage, order, b""), await stage.complete(order)):
            assert refusal(answer, 409)["code"] == code
            assert "stop working on it" in answer.json()["detail"]


async def test_a_token_speaks_for_its_own_attempt(stage: Stage) -> None:
    """The token of another job, or of the attempt before, reports for nobody else: 403."""
    mine, other = await stage.until_running(), await stage.until_running()
    async with unchanged(stage):
        for wrong in ({"job_id": other["job_id"]}, {"attempt": 2}, {"job_id": 2**70}):
            for answer in (await beat(stage, {**mine, **wrong}), await stage.complete({**mine, **wrong})):
                assert refusal(answer, 403, "job_id, attempt")["code"] == "wrong_attempt"


async def test_nobody_reports_before_a_worker_has_the_job(stage: Stage) -> None:
    """A heartbeat for an attempt that no worker was given is refused."""
    stage.worker.available = False
    job = await stage.submit()
    (bell,) = await stage.outbox()
    await stage.deliver(bell)
    order = {"job_id": job["id"], "attempt": 1, "token": stage.worker_token(job["id"])}
    async with unchanged(stage):
        refusal(await beat(stage, order), 409)


# What is refused


@pytest.mark.parametrize(
    ("report", "field"),
    [
        ({"status": "done"}, "status"),
        ({"status": None}, "status"),
        ({"result": []}, "result"),
        ({"result": {"a": "\0"}}, "result"),
        ({"status": "failed"}, "body"),
        ({"failure": BROKE}, "body"),
        ({"status": "failed", "failure": {**BROKE, "kind": "other"}}, "failure.kind"),
        ({"status": "failed", "failure": {**BROKE, "code": ""}}, "failure.code"),
        ({"status": "failed", "failure": {**BROKE, "code": "a\0"}}, "failure.code"),
        ({"status": "failed", "failure": {**BROKE, "message": "m" * 4001}}, "failure.message"),
        ({"status": "failed", "failure": {**BROKE, "trace": ""}}, "failure.trace"),
        ({"totp_used": "yes"}, "totp_used"),
        ({"evidence": "a.png"}, "evidence"),
        ({"evidence": ["a.png"] * 101}, "evidence"),
        ({"evidence": ["there.png", "missing.png"]}, "evidence.1"),
        ({"evidence": ["a\0"]}, "evidence.0"),
        ({"job_id": "1"}, "job_id"),
        ({"attempt": None}, "attempt"),
        ({"surprise": 1}, "surprise"),
    ],
    ids=str,
)
async def test_a_bad_completion_ends_nothing(stage: Stage, report: dict[str, Any], field: str) -> None:
    """The wrong field is named, and the attempt goes on."""
    order = await stage.until_running()
    await upload(stage, order, b"", "there.png")
    async with unchanged(stage):
        refusal(await stage.complete(order, **report), 422, field)


@pytest.mark.parametrize(
    ("more", "field"),
    [({"phase": "p" * 101}, "phase"), ({"phase": "\0"}, "phase"), ({"phase": 1}, "phase"), ({"busy": True}, "busy")],
    ids=str,
)
async def test_a_bad_heartbeat_extends_nothing(stage: Stage, more: dict[str, Any], field: str) -> None:
    """The wrong field is named."""
    order = await stage.until_running()
    async with unchanged(stage):
        refusal(await beat(stage, order, **more), 422, field)


async def test_a_completion_has_256_kib_at_most(stage: Stage) -> None:
    """A larger result is 413."""
    order = await stage.until_running()
    async with unchanged(stage):
        refusal(await stage.complete(order, result={"page": "x" * 256 * 1024}), 413, "body")


# Evidence


async def test_a_file_is_kept_and_replaced_while_the_attempt_lives(stage: Stage) -> None:
    """The answer says what was kept; the same name again is the newer file."""
    order = await stage.until_running()
    for content in (b"one", b"two"):
        answer = await upload(stage, order, content)
        assert (answer.status_code, answer.json()) == (
            201,
            {"name": "a.png", "size": 3, "sha256": hashlib.sha256(content).hexdigest()},
        )
    await upload(stage, order, b"", "empty.bin", None)
    await stage.complete(order, evidence=["a.png", "empty.bin"])
    kept = {e["name"]: (e["size"], e["content_type"]) for e in (await stage.job(order["job_id"]))["evidence"]}
    assert kept == {"a.png": (3, "image/png"), "empty.bin": (0, "application/octet-stream")}


@pytest.mark.parametrize("name", [".hidden", "-a", "a b", "a%00", "%C3%A9.png", "x" * 101, "a;b", "%2e%2e"])
async def test_a_bad_name_is_refused(stage: Stage, name: str) -> None:
    """Names are plain, so that they are safe wherever the files go."""
    order = await stage.until_running()
    async with unchanged(stage):
        refusal(await upload(stage, order, b"", name), 422, "name")


@pytest.mark.parametrize("kind", ["", "image", "image/png, text/html", "text/html; charset='x'", "a/" + "b" * 61])
async def test_a_bad_media_type_is_refused(stage: Stage, kind: str) -> None:
    """The type comes back in a header, so it is one and nothing else."""
    order = await stage.until_running()
    async with unchanged(stage):
        refusal(await upload(stage, order, b"", kind=kind), 422, "Content-Type")


async def chunks(total: int) -> AsyncIterator[bytes]:
    for _ in range(total // 65536):
        yield bytes(65536)
    yield bytes(total % 65536)


async def test_a_file_has_10_mib_at_most(stage: Stage) -> None:
    """One byte more is 413, whether the length is declared or not; exactly as many are kept."""
    order = await stage.until_running()
    async with unchanged(stage):
        for content in (bytes(10 * MIB + 1), chunks(10 * MIB + 1)):
            assert refusal(await upload(stage, order, content), 413, "body")["code"] == "too_large"
    assert (await upload(stage, order, chunks(10 * MIB))).status_code == 201


FILL = """
INSERT INTO evidence (job_id, attempt, name, content_type, size, sha256, content)
SELECT id, attempt, 'file' || n, 'image/png', %s, '', '' FROM jobs, generate_series(1, %s) n
"""


@pytest.mark.parametrize(("size", "files", "fits"), [(1, 99, True), (1, 100, False), (10 * MIB, 10, False)])
async def test_an_attempt_has_100_files_and_100_mib_at_most(stage: Stage, size: int, files: int, fits: bool) -> None:
    """Beyond that a new file is 413; one that replaces another still fits."""
    order = await stage.until_running()
    await stage.execute(FILL, size, files)
    answer = await upload(stage, order, b"x")
    assert answer.status_code == (201 if fits else 413)
    assert (await upload(stage, order, b"x", "file1")).status_code == 201


async def test_a_code_that_was_never_given_cannot_have_been_refused(stage: Stage) -> None:
    """A worker that says so without having asked for one does not count against the account."""
    failure = {"kind": "application", "code": "totp_rejected", "message": ""}
    order = await stage.until_running(provider="octotel")
    for _ in range(3):
        await stage.complete(order, status="failed", failure=failure)
    await stage.deliver_all()
    order = stage.worker.orders[-1]
    assert (await stage.call("issue_totp", "POST", "/totp/octotel", token=order["token"])).status_code == 200


async def test_a_completion_is_taken_while_valkey_is_down(database_url: str, tmp_path: Path) -> None:
    """A refused login code that cannot be counted does not keep the report from being taken."""
    nowhere = {"VALKEY_HOST": "127.0.0.1", "VALKEY_PORT": "1"}
    async with open_stage(database_url, nowhere, tmp_path / "p") as stage:
        order = await stage.until_running()
        failure = {"kind": "application", "code": "totp_rejected", "message": ""}
        assert (await stage.complete(order, status="failed", failure=failure)).json() == {"status": "pending"}
