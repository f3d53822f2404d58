"""One trace from ORDS's request to its acknowledgement, read back from what the processes sent."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pyotp
import pytest

from demo.api import Api
from local.system import LocalSystem
from shared.config import TokenSettings
from shared.tokens import Keyring
from tests.serving import serving
from tests.telemetry.receiver import Receiver, Span, tree

CAPTURE = Path(__file__).parents[2] / ".local" / "captures" / "trace.txt"
TRACE_ID, ORDS_SPAN = "0123456789abcdef" * 2, "b" * 16
JWT = re.compile(r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}")
WISH = {"provider": "octotel", "action": "validation", "parameters": {"circuit": "OC-1001"}, "external_job_id": "T-1"}
NEVER = {"OTEL_BSP_SCHEDULE_DELAY": "600000"}
"""Then spans are sent when a process ends, and only then."""
HEARTBEAT = "POST /callbacks/heartbeat"

pytestmark = pytest.mark.timeout(180)


@dataclass
class Traced:
    """A job that was done by a system that has ended since."""

    job: dict[str, Any]
    receiver: Receiver
    secrets: set[str]

    @property
    def spans(self) -> list[Span]:
        return self.receiver.of(TRACE_ID)

    def one(self, name: str, service: str = "") -> Span:
        """The one span of this name."""
        (found,) = [span for span in self.spans if span.name == name and service in span.service]
        return found


@pytest.fixture(scope="module")
async def traced() -> AsyncIterator[Traced]:
    """A job with a login code, from a request with ORDS's traceparent until it is reported."""
    receiver = Receiver()
    with tempfile.TemporaryDirectory(prefix="rpa-test-trace-") as folder:
        async with serving(receiver.app()) as url:
            telemetry = {"rpa-config": {"OTEL_EXPORTER_OTLP_ENDPOINT": url, **NEVER}}
            async with LocalSystem(Path(folder), overrides=telemetry, ticks=False) as system:
                job = await _reported(system)
                secrets = await _secrets(system, job)
            yield Traced(job, receiver, secrets)


async def _reported(system: LocalSystem) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=system.env["SUBMIT_URL"], trust_env=False, timeout=30) as http:
        api = Api(http)
        await api.log_in(system.env["ADMIN_USERNAME"], system.env["ADMIN_PASSWORD"])
        headers = {"traceparent": f"00-{TRACE_ID}-{ORDS_SPAN}-01"}
        job = (await http.post("/jobs", json=WISH, headers=headers)).raise_for_status().json()
        async with asyncio.timeout(90):
            while not job["reported_at"]:
                await asyncio.sleep(0.1)
                job = await api.job(job["id"])
        return job


async def _secrets(system: LocalSystem, job: dict[str, Any]) -> set[str]:
    known = json.loads((system.state / "secrets.json").read_text())
    keyring = Keyring(TokenSettings(environment={}, jwt_secret_key=known["jwt_key"]))
    async with await psycopg.AsyncConnection.connect(system.env["DATABASE_URL"]) as database:
        steps = await (await database.execute("SELECT account, step FROM totp_steps")).fetchall()
    codes = [pyotp.TOTP(known[f"{account.lower()}_seed"]).generate_otp(step) for account, step in steps]
    assert codes
    path = keyring.browser_path(f"rpa-browser-{job['id']}-1", keyring.current).strip("/")
    return {*known.values(), *codes, path, WISH["parameters"]["circuit"]}


def test_every_step_is_there_once_and_in_its_place(traced: Traced) -> None:
    """One tree below ORDS's own span, through broker, browser and worker; nothing of the trace is outside it."""
    assert (traced.job["status"], traced.job["attempt"]) == ("completed", 1)
    found = list(tree(traced.spans, ORDS_SPAN))
    text = "".join(f"{_line(depth, span, traced.spans[0])}\n" for depth, span in found)
    CAPTURE.parent.mkdir(parents=True, exist_ok=True)
    CAPTURE.write_text(text)
    shape = [f"{'  ' * depth}{span.service}: {span.name}" for depth, span in found if span.name != HEARTBEAT]
    assert sorted(shape) == sorted(EXPECTED.strip("\n").splitlines())
    assert len(found) == len(traced.spans)


def _line(depth: int, span: Span, first: Span) -> str:
    after, took = (span.begun - first.begun) / 1e6, (span.ended - span.begun) / 1e6
    said = " ".join(f"{name}={value}" for name, value in sorted(span.attributes.items()))
    return f"{'  ' * depth}{span.name} [{span.service}, {span.kind}] +{after:.0f} ms, {took:.0f} ms  {said}"


EXPECTED = """
submit_job: POST /jobs
  submit_job: publish rpa.job.submitted.v1
    provision_browser: process rpa.job.submitted.v1
      provision_browser: start a browser
      provision_browser: publish rpa.browser.ready.v1
        dispatch_job: process rpa.browser.ready.v1
          dispatch_job: dispatch
            worker: validation at octotel
              issue_totp: POST /totp/{provider}
                issue_totp: wait for a login code
              callback: PUT /callbacks/evidence/{name}
              callback: PUT /callbacks/evidence/{name}
              callback: POST /callbacks/job-complete
                callback: publish rpa.job.finished.v1
                  provision_browser: process rpa.job.finished.v1
                  notify: process rpa.job.finished.v1
                    notify: report to ORDS
"""


def test_each_step_says_whose_it_is(traced: Traced) -> None:
    """Job and attempt at every span of the job, the provider where it is known, how it came out where it ends."""
    for span in traced.spans:
        assert (span.attributes["job_id"], span.attributes["attempt"]) == (traced.job["id"], 1), span.name
        assert not span.failed, span.name
        assert span.ended >= span.begun
    for name in ("POST /jobs", "start a browser", "dispatch", "validation at octotel", "wait for a login code"):
        assert traced.one(name).attributes["provider"] == "octotel", name
    for name in ("validation at octotel", "POST /callbacks/job-complete", "report to ORDS"):
        assert traced.one(name).attributes["state"] == "completed", name
    assert traced.one("dispatch").attributes["verdict"] == "accepted"
    assert traced.one("POST /jobs").attributes["http.response.status_code"] == 201


def test_each_step_has_its_kind(traced: Traced) -> None:
    """Requests are served, events produced and consumed, workers and ORDS called."""
    kinds = {
        "POST /jobs": "server",
        "publish rpa.browser.ready.v1": "producer",
        "process rpa.browser.ready.v1": "consumer",
        "start a browser": "internal",
        "dispatch": "client",
        "report to ORDS": "client",
    }
    assert {name: traced.one(name).kind for name in kinds} == kinds


def test_heartbeats_belong_to_the_workers_action(traced: Traced) -> None:
    """However many there were."""
    beats = [span for span in traced.spans if span.name == HEARTBEAT]
    assert beats
    assert {span.parent_id for span in beats} == {traced.one("validation at octotel").span_id}


def test_no_span_holds_a_secret(traced: Traced) -> None:
    """Of no trace: no password, seed, key, code, token, secret path, and nothing of a job's parameters."""
    said = [f"{span.service} {span.name} {span.attributes}" for span in traced.receiver.spans]
    assert len(said) > len(traced.spans)
    assert [text for text in said if JWT.search(text)] == []
    found = [
        (secret, text)
        for text in said
        for secret in traced.secrets
        if re.search(rf"(?<!\w){re.escape(secret)}(?!\w)", text)
    ]
    assert found == []


def test_probes_are_no_spans(traced: Traced) -> None:
    """Kubernetes asks for health all the time."""
    assert [span.name for span in traced.receiver.spans if "/health" in span.name] == []
