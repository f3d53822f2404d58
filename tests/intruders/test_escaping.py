"""What strangers write is shown as what it is: in a log one line of JSON, to a browser no page of ours."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from tests.functions.stage import Stage

NASTY = 'x\n{"level": "ERROR", "event": "forged"}\r\x1b[2J\u2028\x85<script>alert(1)</script>{{7*7}}\u202e'


async def test_a_log_line_is_one_line_whatever_is_in_it(stage: Stage, written: io.StringIO) -> None:
    """Newlines, escape sequences and markup from everywhere make no line of their own, and stand there escaped."""
    job = {"provider": "octotel", "action": "validation", "parameters": {NASTY: NASTY}, "external_job_id": NASTY}
    made = (await stage.call("submit_job", "POST", "/jobs", json=job)).json()
    await stage.deliver_all()
    (order,) = stage.worker.orders
    beat = {"job_id": made["id"], "attempt": 1, "phase": NASTY}
    await stage.call("callback", "POST", "/callbacks/heartbeat", token=order["token"], json=beat)
    await stage.call("submit_job", "POST", "/jobs", json={**job, NASTY: 1, "provider": NASTY})
    await stage.call("submit_job", "GET", "/jobs", params={NASTY: NASTY})
    await stage.sign_in(username=NASTY, grant_type=NASTY)
    event = {"specversion": "1.0", "id": "e", "source": "/s", "type": "\u2028<script>\u202e\x85", "data": NASTY}
    headers = {"Content-Type": "application/cloudevents+json"}
    await stage.clients["notify"].post("/", content=json.dumps(event).encode(), headers=headers)
    failure = {"kind": "business", "code": NASTY[:90], "message": NASTY}
    assert (await stage.complete(order, status="failed", failure=failure)).status_code == 200
    await stage.deliver_all()
    said = written.getvalue()
    lines = [json.loads(line) for line in said.splitlines()]
    assert {"submitted", "refused", "dead letter", "reported"} <= {line["event"] for line in lines}
    assert "forged" not in {line["event"] for line in lines}
    assert said.isascii()
    assert not [sign for sign in "\r\x1b" if sign in said]
    assert stage.ords.reports[0]["error"]["message"] == NASTY


async def test_parameters_and_results_stay_out_of_the_log(stage: Stage, written: io.StringIO) -> None:
    """They are the customer's: the log has ids."""
    order = await stage.until_running(parameters={"customer": "what-a-customer-said"})
    await stage.complete(order, result={"answer": "what-a-portal-said"})
    await stage.deliver_all()
    assert stage.ords.reports[0]["result"] == {"answer": "what-a-portal-said"}
    assert "customer-said" not in written.getvalue()
    assert "portal-said" not in written.getvalue()


async def test_a_line_has_a_bound(stage: Stage, written: io.StringIO) -> None:
    """A refusal repeats the beginning of an unknown field's name."""
    wish: dict[str, Any] = {"provider": "metrofiber", "action": "validation", "f" * 200_000: 1}
    answer = await stage.call("submit_job", "POST", "/jobs", json=wish)
    assert answer.status_code == 422
    assert max(map(len, written.getvalue().splitlines())) < 3000
    assert len(answer.content) < 3000


@pytest.mark.parametrize("kind", ["text/html", "image/svg+xml", "application/xhtml+xml", "text/javascript"])
async def test_evidence_is_no_page_of_ours(stage: Stage, kind: str) -> None:
    """A browser that opens it runs nothing, sniffs nothing and sends nothing."""
    order = await stage.until_running()
    page = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    await stage.call(
        "callback", "PUT", "/callbacks/evidence/a", token=order["token"], content=page, headers={"Content-Type": kind}
    )
    answer = await stage.call("submit_job", "GET", f"/jobs/{order['job_id']}/evidence/a")
    assert answer.content == page
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert "sandbox;" in policy
    assert "default-src 'none'" in policy
    assert answer.headers["content-disposition"] == ("inline" if kind.startswith("image/") else "attachment")
