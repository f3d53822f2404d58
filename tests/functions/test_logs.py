"""Logs: JSON lines that tell a job's whole way, and no secret."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import signal
import socket
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from tests.functions.refusals import unchanged
from tests.functions.stage import (
    CLIENT_SECRET,
    ORDS_TOKEN,
    PASSWORD,
    ROOT,
    SEED,
    SIGNING_KEY,
    Ords,
    Stage,
    Worker,
    environment,
)
from tests.serving import eventually, reachable, serving

TRACE_ID = "0123456789abcdef" * 2
TRACE = {"traceparent": f"00-{TRACE_ID}-{'b' * 16}-01"}


def lines(written: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


async def alone(call: Any) -> Any:
    """In a task of its own, as a server runs each request."""
    return await asyncio.create_task(call)


async def test_a_jobs_lines_are_found_by_job_and_trace(stage: Stage, written: io.StringIO) -> None:
    """From the request that made it to the report about it each line has the trace; of a job, its id and attempt."""
    wish = {"provider": "octotel", "action": "validation"}
    made = await alone(stage.call("submit_job", "POST", "/jobs", json=wish, headers=TRACE))
    job_id = made.json()["id"]
    for function in ("provision_browser", "dispatch_job"):
        (bell,) = await stage.outbox()
        await alone(stage.send(function, bell))
        await stage.execute("DELETE FROM outbox WHERE type = %s", bell.type.value)
    (order,) = stage.worker.orders
    await alone(stage.call("issue_totp", "POST", "/totp/octotel", token=order["token"], headers=TRACE))
    done = {"job_id": job_id, "attempt": 1, "status": "completed"}
    path = "/callbacks/job-complete"
    await alone(stage.call("callback", "POST", path, token=order["token"], json=done, headers=TRACE))
    (bell,) = await stage.outbox()
    await alone(stage.send("notify", bell))

    found = [line for line in lines(written) if line.get("trace_id") == TRACE_ID]
    told = {line["event"] for line in found}
    assert {"submitted", "claimed", "accepted", "totp issued", "reported", "reported to ORDS"} <= told
    of_job = [line for line in found if line.get("job_id") == job_id]
    assert told <= {line["event"] for line in of_job}
    assert all(line["attempt"] == 1 for line in of_job if line["event"] not in ("submitted", "request"))
    for line in found:
        assert datetime.fromisoformat(line["time"]).tzinfo
        # The stage has no broker.
        assert line["level"] == ("WARNING" if line["event"] == "events stay in the outbox" else "INFO")
    requests = [(line["method"], line["route"], line["status"]) for line in found if line["event"] == "request"]
    assert requests[0] == ("POST", "/jobs", 201)
    assert len(requests) == 6


async def test_a_jobs_whole_way_shows_no_secret(stage: Stage, written: io.StringIO) -> None:
    """Tokens, codes, seeds, keys and the browser's way in stay out of the log, at DEBUG, too."""
    orders = [await stage.until_running(provider=name) for name in ("octotel", "evotel")]
    code = await stage.call("issue_totp", "POST", "/totp/octotel", token=orders[0]["token"])
    for order in orders:
        await stage.complete(order)
    await stage.deliver_all()
    await stage.tick()
    secrets = [code.json()["code"], orders[1]["totp_code"], SEED, SIGNING_KEY, PASSWORD, ORDS_TOKEN, stage.token]
    for order in orders:
        secrets += [order["token"], order["browser_service_url"].rpartition("/")[2]]
    assert len(lines(written)) > 10
    assert [secret for secret in secrets if f"{secret}" in written.getvalue()] == []


async def test_refusals_show_no_secret(stage: Stage, written: io.StringIO) -> None:
    """What callers get wrong is logged with the reason, without what they sent."""
    order = await stage.until_running()
    basic = base64.b64encode(b"ords:wrong-secret-of-a-program").decode()
    wish = {"provider": "wrong-secret", "action": "x", "parameters": {"password": "wrong-secret\0"}}
    await stage.sign_in(password="wrong-secret")
    await stage.sign_in(password="wrong-secret", grant_type="wrong-secret")
    await stage.clients["submit_job"].post(
        "/auth/token", data={"grant_type": "client_credentials"}, headers={"Authorization": f"Basic {basic}"}
    )
    await stage.call("submit_job", "POST", "/jobs", json=wish)
    await stage.call("submit_job", "POST", "/jobs", json={**wish, "parameters": {}})
    await stage.call("submit_job", "POST", "/jobs", content=b'{"wrong-secret')
    await stage.call("submit_job", "GET", "/jobs", token="wrong-secret")
    await stage.call("submit_job", "GET", "/jobs", token=order["token"])
    await stage.call("submit_job", "GET", "/jobs?cursor=wrong-secret")
    await stage.complete({**order, "attempt": 2})
    await stage.complete(order, status="wrong-secret")
    await stage.call("issue_totp", "POST", "/totp/octotel", token=order["token"])
    refused = [line for line in lines(written) if line["event"] == "refused"]
    assert len(refused) == 12
    assert all(line["status"] >= 400 and line["detail"] for line in refused)
    for secret in ("wrong-secret", basic, order["token"], stage.token):
        assert secret not in written.getvalue()


async def test_an_error_of_ours_is_in_the_log_and_not_in_the_answer(stage: Stage, written: io.StringIO) -> None:
    """500 with nothing in it; the log has the traceback under the same trace id."""
    await stage.execute("ALTER TABLE outbox ADD CONSTRAINT nothing_fits CHECK (false)")
    try:
        wish = {"provider": "metrofiber", "action": "validation"}
        answer = await alone(stage.call("submit_job", "POST", "/jobs", json=wish, headers=TRACE))
    finally:
        await stage.execute("ALTER TABLE outbox DROP CONSTRAINT nothing_fits")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "outbox" not in answer.text
    (line,) = [line for line in lines(written) if line["level"] == "ERROR"]
    assert line["trace_id"] == TRACE_ID
    assert "CheckViolation" in line["exception"]


async def test_a_caller_that_hangs_up_is_no_error(stage: Stage, written: io.StringIO) -> None:
    """A body that ends half-way leaves one line, and nothing is made."""
    async with unchanged(stage), serving(stage.clients["submit_job"]._transport.app) as url:
        token = (await stage.sign_in()).json()["access_token"]
        head = f"POST /jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 100\r\n\r\n{{"
        _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(head.encode())
        writer.close()
        await eventually(lambda: '"route": "/jobs"' in written.getvalue())
    (line,) = [line for line in lines(written) if line.get("route") == "/jobs"]
    assert line["status"] == 400
    assert not [line for line in lines(written) if line["level"] == "ERROR"]


async def test_a_process_writes_json_lines_and_nothing_else(
    database_url: str, valkey_settings: dict[str, str], tmp_path: Path
) -> None:
    """Started as in its pod: every line of its output is one, with the function's name; SIGTERM ends it."""
    every = environment(database_url, valkey_settings, tmp_path / "p", Worker("http://worker"), Ords("http://ords"))
    target = {
        "FUNCTION_TARGET": "submit_job",
        "FUNCTION_SOURCE": "functions/submit_job/main.py",
        "FUNCTION_USE_ASGI": "true",
    }
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "uvicorn", "functions_framework.aio:app", f"--port={port}", "--log-level=warning",
        cwd=ROOT, env={"PATH": os.environ["PATH"], **every, **target, "LOG_LEVEL": "DEBUG"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        await reachable(client)
        form = {"grant_type": "client_credentials", "client_id": "ords", "client_secret": CLIENT_SECRET}
        token = (await client.post("/auth/token", data=form)).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}", **TRACE}
        wish = {"provider": "metrofiber", "action": "validation"}
        job_id = (await client.post("/jobs", json=wish, headers=headers)).json()["id"]
        await client.post("/jobs", json=wish, headers={"Authorization": f"Bearer {token}x"})
    process.send_signal(signal.SIGTERM)
    out, _ = await process.communicate()
    assert process.returncode in (0, -signal.SIGTERM)
    said = [json.loads(line) for line in out.splitlines()]
    assert {line["function"] for line in said} == {"submit_job"}
    (submitted,) = [line for line in said if line["event"] == "submitted"]
    assert (submitted["job_id"], submitted["trace_id"]) == (job_id, TRACE_ID)
    refused = [line for line in said if line["event"] == "refused"]
    assert [line["status"] for line in refused] == [401]
    assert token.encode() not in out
    assert CLIENT_SECRET.encode() not in out
