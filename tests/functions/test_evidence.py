"""Reading what workers left."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from shared.config import DatabaseSettings
from shared.db import Database
from shared.evidence import PIECE, Replaced, find
from tests.functions.refusals import refusal
from tests.functions.stage import Stage


async def upload(
    stage: Stage, order: dict[str, Any], name: str, content: bytes, kind: str = "application/octet-stream"
) -> None:
    headers = {"Content-Type": kind}
    answer = await stage.call(
        "callback", "PUT", f"/callbacks/evidence/{name}", token=order["token"], content=content, headers=headers
    )
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(
    ("kind", "disposition"),
    [("image/png", "inline"), ("text/html", "attachment"), ("application/pdf", "attachment")],
)
async def test_evidence_is_data_never_a_page_of_ours(stage: Stage, kind: str, disposition: str) -> None:
    """A file comes back as it was sent, under headers that keep a browser from running it."""
    order = await stage.until_running()
    await upload(stage, order, "a.bin", b"<script>", kind)
    answer = await stage.call("submit_job", "GET", f"/jobs/{order['job_id']}/evidence/a.bin")
    assert (answer.status_code, answer.content) == (200, b"<script>")
    assert answer.headers["content-type"].startswith(kind)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["content-disposition"] == disposition
    (listed_,) = (await stage.job(order["job_id"]))["evidence"]
    assert answer.headers["etag"] == f'"{listed_["sha256"]}"'


async def test_the_newest_attempts_file_is_given_unless_one_is_named(stage: Stage) -> None:
    """Each attempt has files of its own."""
    order = await stage.until_running()
    await upload(stage, order, "a.txt", b"one", "text/plain")
    failure = {"kind": "application", "code": "broke", "message": ""}
    await stage.complete(order, status="failed", failure=failure)
    await stage.deliver_all()
    order = stage.worker.orders[-1]
    assert order["attempt"] == 2
    await upload(stage, order, "a.txt", b"two", "text/plain")

    async def content(query: str = "") -> bytes:
        return (await stage.call("submit_job", "GET", f"/jobs/{order['job_id']}/evidence/a.txt{query}")).content

    assert [await content(), await content("?attempt=1"), await content("?attempt=2")] == [b"two", b"one", b"two"]


@pytest.mark.parametrize("path", ["other.txt", "a%00.txt", "%FF", "a.txt?attempt=9"])
async def test_unknown_evidence_is_404(stage: Stage, path: str) -> None:
    """No file of this name, or none in this attempt."""
    order = await stage.until_running()
    await upload(stage, order, "a.txt", b"one", "text/plain")
    refusal(await stage.call("submit_job", "GET", f"/jobs/{order['job_id']}/evidence/{path}"), 404, "name")


@pytest.mark.parametrize("attempt", ["one", "-1", "", "999999"])
async def test_a_bad_attempt_is_refused(stage: Stage, attempt: str) -> None:
    """The attempt is a number."""
    job = await stage.submit()
    answer = await stage.call("submit_job", "GET", f"/jobs/{job['id']}/evidence/a.txt?attempt={attempt}")
    refusal(answer, 422, "attempt")


@pytest.mark.parametrize("size", [0, 1, PIECE, 2 * PIECE + 1, 10 * 1024 * 1024])
async def test_a_file_comes_back_whole(stage: Stage, size: int) -> None:
    """In as many pieces as it takes."""
    order = await stage.until_running()
    content = secrets.token_bytes(size)
    await upload(stage, order, "a.bin", content)
    answer = await stage.call("submit_job", "GET", f"/jobs/{order['job_id']}/evidence/a.bin")
    assert answer.status_code == 200
    assert answer.content == content
    assert answer.headers["content-length"] == str(size)


async def test_a_file_that_is_replaced_meanwhile_is_not_mixed(stage: Stage) -> None:
    """The reader gets an end without an end, and comes again."""
    order = await stage.until_running()
    await upload(stage, order, "a.bin", bytes(3 * PIECE))
    database = Database(DatabaseSettings(environment={}, database_url=stage.settings["DATABASE_URL"]))
    try:
        pieces = (await find(database, order["job_id"], "a.bin")).content(database)
        assert [await anext(pieces), await anext(pieces)] == [bytes(PIECE)] * 2
        await upload(stage, order, "a.bin", b"x" * 3 * PIECE)
        with pytest.raises(Replaced, match=r"a\.bin"):
            await anext(pieces)
    finally:
        await database.aclose()
