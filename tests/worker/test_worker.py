"""The worker library against an orchestrator that records what it hears."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.responses import JSONResponse, Response

from rpa_worker import BusinessFailure, EvidenceRefused, Job, NoLoginCode, Worker
from tests.counterparts import TOKEN, Client, OrchestratorStandIn
from tests.serving import eventually

pytestmark = pytest.mark.usefixtures("client")


def conflict() -> Response:
    return JSONResponse({"detail": "the attempt is over"}, 409, media_type="application/problem+json")


def performs(worker: Worker, function: Callable[[Job], Awaitable[dict[str, object] | None]]) -> None:
    worker.action("octotel", "validation")(function)


async def forever(_: Job) -> None:
    await asyncio.Event().wait()


async def test_completes(worker: Worker, client: Client, orchestrator: OrchestratorStandIn) -> None:
    """An action's return value is the job's result; every call carries the token and the trace."""

    @worker.action("octotel", "validation")
    async def validate(job: Job) -> dict[str, object]:
        job.phase = "looking"
        await job.evidence("page.html", b"<p>", "text/html")
        return {"circuit": job.parameters["circuit"]}

    answer = await client.execute()
    assert answer.json() == {"status": "accepted", "heartbeat_seconds": 0.05}
    assert await orchestrator.completed() == {
        "job_id": 1,
        "attempt": 1,
        "status": "completed",
        "result": {"circuit": "C-1"},
        "evidence": ["page.html"],
        "totp_used": False,
        "failure": None,
    }
    assert orchestrator.calls("evidence") == [("page.html", "text/html", b"<p>")]
    assert {headers["authorization"] for headers in orchestrator.headers} == {f"Bearer {TOKEN}"}
    assert {headers["traceparent"] for headers in orchestrator.headers} == {f"00-{'a' * 32}-{'b' * 16}-01"}


async def test_heartbeats(worker: Worker, client: Client, orchestrator: OrchestratorStandIn) -> None:
    """The first heartbeat comes at once, and they go on, with the phase, through errors."""
    orchestrator.answer("heartbeat", Response(status_code=503))

    @worker.action("octotel", "validation")
    async def validate(job: Job) -> None:
        await eventually(lambda: orchestrator.heard)
        job.phase = "logging in"
        await eventually(lambda: len(orchestrator.calls("heartbeat")) > 2)

    await client.execute()
    await orchestrator.completed()
    first, *_, last = orchestrator.calls("heartbeat")
    assert first == {"job_id": 1, "attempt": 1}
    assert last == {"job_id": 1, "attempt": 1, "phase": "logging in"}


async def test_heartbeats_keep_a_short_lease(worker: Worker, client: Client, orchestrator: OrchestratorStandIn) -> None:
    """However rare they would be: a lease that lasts less is extended before it ends."""
    worker.heartbeat_seconds = 60
    orchestrator.lease_seconds = 3.0

    @worker.action("octotel", "validation")
    async def validate(_: Job) -> None:
        await eventually(lambda: len(orchestrator.calls("heartbeat")) > 2)

    await client.execute()
    assert (await orchestrator.completed())["status"] == "completed"


async def test_new_phase_is_told(client: Client, worker: Worker, orchestrator: OrchestratorStandIn) -> None:
    """A new phase is told at once, however rare the heartbeats are."""
    worker.heartbeat_seconds = 60

    @worker.action("octotel", "validation")
    async def validate(job: Job) -> None:
        for phase in ("logging in", "ordering"):
            await eventually(lambda: orchestrator.heard)
            job.phase = phase
            await eventually(lambda: orchestrator.calls("heartbeat")[-1].get("phase") == job.phase)

    await client.execute()
    await orchestrator.completed()
    phases = [beat.get("phase") for beat in orchestrator.calls("heartbeat")]
    assert phases == [None, "logging in", "ordering"]


async def test_same_order_twice(worker: Worker, client: Client, orchestrator: OrchestratorStandIn) -> None:
    """The same attempt ordered twice is accepted twice and performed once, even after it has ended."""
    performed = 0

    @worker.action("octotel", "validation")
    async def validate(_: Job) -> None:
        nonlocal performed
        performed += 1

    answers = [await client.execute() for _ in range(3)]
    await orchestrator.completed()
    answers.append(await client.execute())
    assert {answer.status_code for answer in answers} == {200}
    assert performed == 1
    assert (await client.execute(job_id=2)).status_code == 200
    await eventually(lambda: performed == 2)


async def test_later_attempt(worker: Worker, client: Client) -> None:
    """A later attempt ends an earlier one of the same job, which is refused from then on."""
    jobs: list[Job] = []

    @worker.action("octotel", "validation")
    async def validate(job: Job) -> None:
        jobs.append(job)
        await forever(job)

    await client.execute(attempt=1)
    await eventually(lambda: len(jobs) == 1)
    await client.execute(attempt=2)
    await eventually(lambda: len(jobs) == 2 and worker.status()["running"] == 1)
    assert [job.cancelled for job in jobs] == [True, False]
    assert (await client.execute(attempt=1)).status_code == 409


async def test_busy(worker: Worker, client: Client) -> None:
    """A full worker says so, answers 429 with Retry-After, and forgets the order."""
    may_end = asyncio.Event()

    @worker.action("octotel", "validation")
    async def validate(_: Job) -> None:
        await may_end.wait()

    assert (await client.http.get("/status")).json()["available"] is True
    assert [(await client.execute(job_id)).status_code for job_id in (1, 2, 3)] == [200, 200, 429]
    refusal = await client.execute(3)
    assert int(refusal.headers["retry-after"]) > 0
    assert (await client.http.get("/status")).json() == {
        "available": False,
        "capacity": 2,
        "running": 2,
        "draining": False,
    }
    may_end.set()
    await eventually(lambda: worker.status()["running"] == 0)
    assert (await client.execute(3)).status_code == 200


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"provider": "telkom"}, "provider"),
        ({"action": "dance"}, "action"),
        ({"job_id": "7"}, "job_id"),
        ({"attempt": 0}, "attempt"),
        ({"token": None}, "token"),
        ({"parameters": []}, "parameters"),
        ({"browser_service_url": 3}, "browser_service_url"),
    ],
)
async def test_order_refused(worker: Worker, client: Client, changes: dict[str, object], field: str) -> None:
    """An order that cannot be followed is refused with the name of the field."""
    performs(worker, forever)
    refusal = await client.execute(**changes)
    assert refusal.status_code == 422
    assert refusal.headers["content-type"] == "application/problem+json"
    assert refusal.json()["errors"][0]["field"] == field
    assert worker.status()["running"] == 0


@pytest.mark.parametrize("body", [b"{", b"[]", b""])
async def test_no_json(client: Client, body: bytes) -> None:
    """A body that is no JSON object is refused."""
    refusal = await client.http.post("/execute", content=body)
    assert refusal.status_code == 422
    assert refusal.json()["errors"][0]["field"] == "body"


async def test_stale_heartbeat(worker: Worker, client: Client, orchestrator: OrchestratorStandIn) -> None:
    """A heartbeat's 409 cancels the action, and nothing more is reported."""
    ended: list[bool] = []

    @worker.action("octotel", "validation")
    async def validate(job: Job) -> None:
        try:
            await forever(job)
        finally:
            ended.append(job.cancelled)

    await client.execute()
    await eventually(lambda: orchestrator.calls("heartbeat"))
    orchestrator.answer("heartbeat", conflict())
    await eventually(lambda: worker.status()["running"] == 0)
    assert ended == [True]
    assert not orchestrator.calls("complete")


@pytest.mark.parametrize("call", ["totp", "evidence", "complete"])
async def test_stale_elsewhere(worker: Worker, client: Client, orchestrator: OrchestratorStandIn, call: str) -> None:
    """409 to any call ends the attempt; a completion is not repeated."""
    orchestrator.answer(call, conflict())

    @worker.action("octotel", "validation")
    async def validate(job: Job) -> None:
        await job.totp()
        await job.evidence("a.txt", b"a")

    await client.execute()
    await eventually(lambda: worker.status()["running"] == 0)
    assert len(orchestrator.calls("complete")) == (1 if call == "complete" else 0)


async def test_completion_is_repeated(worker: Worker, client: Client, orchestrator: OrchestratorStandIn) -> None:
    """A completion is sent until the orchestrator takes it; the lease is kept meanwhile."""
    refusals = [Response(status_code=code) for code in (500, 503)]
    later = Response(status_code=429, headers={"retry-after": "0.2"})
    orchestrator.answer("complete", *refusals, later)

    @worker.action("octotel", "validation")
    async def validate(_: Job) -> dict[str, object]:
        return {"n": 1}

    await client.execute()
    await eventually(lambda: worker.status()["running"] == 0)
    bodies = orchestrator.calls("complete")
    assert len(bodies) == 4
    assert all(body == bodies[0] for body in bodies)
    calls = [call for call, _ in orchestrator.heard]
    assert "heartbeat" in calls[calls.index("complete") :]


async def test_patience_ends(worker: Worker, client: Client, orchestrator: OrchestratorStandIn) -> None:
    """A report that nobody takes is given up in the end, and its slot is free again."""
    orchestrator.answer("complete", *[Response(status_code=503) for _ in range(1000)])

    @worker.action("octotel", "validation")
    async def validate(_: Job) -> None:
        return None

    await client.execute()
    await eventually(lambda: len(orchestrator.calls("complete")) > 3)
    await eventually(lambda: worker.status()["running"] == 0)


async def test_result_refused(worker: Worker, client: Client, orchestrator: OrchestratorStandIn) -> None:
    """A result that the orchestrator refuses becomes a failure that says so."""
    orchestrator.answer("complete", JSONResponse({"detail": "body: larger than 262144 bytes"}, 413))

    @worker.action("octotel", "validation")
    async def validate(_: Job) -> dict[str, object]:
        return {"much": "x" * 1000}

    await client.execute()
    await eventually(lambda: worker.status()["running"] == 0)
    failure = orchestrator.calls("complete")[1]["failure"]
    assert (failure["kind"], failure["code"]) == ("application", "report_refused")
    assert "262144" in failure["message"]


async def test_business_failure(worker: Worker, client: Client, orchestrator: OrchestratorStandIn) -> None:
    """What the portal refuses is a business failure with the action's own code."""

    @worker.action("octotel", "validation")
    async def validate(_: Job) -> None:
        raise BusinessFailure("circuit_unknown", "The portal does not know circuit C-1")

    await client.execute()
    report = await orchestrator.completed()
    assert report["status"] == "failed"
    assert report["failure"] == {
        "kind": "business",
        "code": "circuit_unknown",
        "message": "The portal does not know circuit C-1",
    }


async def test_application_failure(
    worker: Worker,
    client: Client,
    orchestrator: OrchestratorStandIn,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Any other error is an application failure, bounded and without a secret, in the log too."""
    for name, value in {"URL": "http://portal", "EMAIL": "me@example.org", "PASSWORD": "pass-word"}.items():
        monkeypatch.setenv(f"OCTOTEL_{name}", value)

    class PortalChangedItsHTML(Exception):
        pass

    @worker.action("octotel", "validation")
    async def validate(job: Job) -> None:
        secrets = [job.portal.password, await job.totp(), TOKEN, "ws://browser:1/secret-path"]
        raise PortalChangedItsHTML(" ".join(secrets) + " " + "x" * 1000)

    await client.execute(browser_service_url="ws://browser:1/secret-path")
    failure = (await orchestrator.completed())["failure"]
    assert (failure["kind"], failure["code"]) == ("application", "portal_changed_its_html")
    assert len(failure["message"]) == 500
    for text in (failure["message"], caplog.text):
        assert "[hidden]" in text
        for secret in ("pass-word", "111111", TOKEN, "secret-path"):
            assert secret not in text


@pytest.mark.parametrize("result", [{"when": object()}, {"ratio": float("nan")}])
async def test_result_is_json(
    worker: Worker, client: Client, orchestrator: OrchestratorStandIn, result: dict[str, object]
) -> None:
    """A result that JSON cannot say is the action's failure."""

    @worker.action("octotel", "validation")
    async def validate(_: Job) -> dict[str, object]:
        return result

    await client.execute()
    assert (await orchestrator.completed())["failure"]["kind"] == "application"


async def test_action_cancels_itself(worker: Worker, client: Client, orchestrator: OrchestratorStandIn) -> None:
    """An action that ends in a cancellation of its own making has failed."""

    @worker.action("octotel", "validation")
    async def validate(_: Job) -> None:
        raise asyncio.CancelledError

    await client.execute()
    assert (await orchestrator.completed())["failure"]["code"] == "action_cancelled"


async def test_totp(worker: Worker, client: Client, orchestrator: OrchestratorStandIn) -> None:
    """Codes are asked for until there is one; a refused one is reported; the answer names the account."""
    orchestrator.answer("totp", Response(status_code=503, headers={"retry-after": "0"}), Response(status_code=429))
    orchestrator.answer("totp", JSONResponse({"code": "123456", "account": "OCTOTEL_2"}))

    @worker.action("octotel", "validation")
    async def validate(job: Job) -> dict[str, object]:
        return {"first": await job.totp(), "second": await job.totp(rejected=True), "account": job.account}

    await client.execute()
    report = await orchestrator.completed()
    assert report["result"] == {"first": "123456", "second": "111111", "account": "OCTOTEL"}
    assert report["totp_used"] is True
    assert orchestrator.calls("totp") == [("octotel", {})] * 3 + [("octotel", {"rejected": True})]


async def test_totp_at_dispatch(worker: Worker, client: Client, orchestrator: OrchestratorStandIn) -> None:
    """A code that came with the order is used first; the next one is asked for."""

    @worker.action("octotel", "validation")
    async def validate(job: Job) -> dict[str, object]:
        return {"codes": [await job.totp(), await job.totp()]}

    await client.execute(totp_code="999999")
    assert (await orchestrator.completed())["result"] == {"codes": ["999999", "111111"]}


async def test_no_totp(worker: Worker, client: Client, orchestrator: OrchestratorStandIn) -> None:
    """Where there are no codes, asking for one says why."""
    orchestrator.answer("totp", JSONResponse({"detail": "metrofiber has no TOTP"}, 422))
    reasons: list[str] = []

    @worker.action("octotel", "validation")
    async def validate(job: Job) -> None:
        with pytest.raises(NoLoginCode) as refusal:
            await job.totp()
        reasons.append(str(refusal.value))

    await client.execute()
    await eventually(lambda: reasons)
    await client.execute(job_id=2, totp_url=None)
    await eventually(lambda: len(reasons) == 2)
    assert "metrofiber has no TOTP" in reasons[0]
    assert "totp_url" in reasons[1]


async def test_evidence_refused(worker: Worker, client: Client, orchestrator: OrchestratorStandIn) -> None:
    """Evidence with a bad name or size is never sent; what the orchestrator refuses is not listed."""
    orchestrator.answer("evidence", Response(status_code=413))

    @worker.action("octotel", "validation")
    async def validate(job: Job) -> None:
        for name, content in {"../up": b"", "large": bytes(10 * 2**20 + 1), "refused.txt": b"x"}.items():
            with pytest.raises(EvidenceRefused):
                await job.evidence(name, content)
        await job.evidence("kept.txt", b"1")
        await job.evidence("kept.txt", b"2")

    await client.execute()
    report = await orchestrator.completed()
    assert report["failure"] is None
    assert report["evidence"] == ["kept.txt"]
    assert [name for name, *_ in orchestrator.calls("evidence")] == ["refused.txt", "kept.txt", "kept.txt"]
