"""Spans on the stage: which trace they belong to, and what a process is spared that records none."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from local.manifests import Manifests
from shared import spans
from shared.telemetry import DEFAULTS, Telemetry
from tests.functions.stage import Stage
from tests.serving import eventually, serving
from tests.settings import BASE, ROOT, said_by
from tests.telemetry.receiver import Receiver, Span

A, B = "a" * 32, "b" * 32


def parent(trace_id: str, flags: str = "01") -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-{'c' * 16}-{flags}"}


@pytest.fixture
async def receiver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    """Where this process sends its spans, at once."""
    before = signal.getsignal(signal.SIGTERM)
    taken = Receiver()
    async with serving(taken.app()) as url:
        for name, value in {**DEFAULTS, spans.ENDPOINT: url, "OTEL_BSP_SCHEDULE_DELAY": "10"}.items():
            monkeypatch.setenv(name, value)
        telemetry = Telemetry("stage", "")
        monkeypatch.setattr(spans, "_telemetry", telemetry)
        yield taken
        await telemetry.aclose()
    signal.signal(signal.SIGTERM, before)


async def recorded(receiver: Receiver, name: str, times: int = 1) -> list[Span]:
    """The spans of this name, once there are so many."""
    await eventually(lambda: len([span for span in receiver.spans if span.name == name]) >= times, within=60)
    return [span for span in receiver.spans if span.name == name]


async def submit(stage: Stage, trace_id: str, flags: str = "01") -> int:
    wish = {"provider": "metrofiber", "action": "validation"}
    answer = await stage.call("submit_job", "POST", "/jobs", json=wish, headers=parent(trace_id, flags))
    return int(answer.json()["id"])


async def test_a_retry_stays_in_its_trace(stage: Stage, receiver: Receiver) -> None:
    """The second attempt's spans are told by their attempt."""
    await submit(stage, A)
    await stage.deliver_all()
    failure = {"kind": "application", "code": "x", "message": "x"}
    await stage.complete(stage.worker.orders[0], status="failed", failure=failure)
    await stage.deliver_all()
    await stage.complete(stage.worker.orders[1])
    await stage.deliver_all()
    (report,) = await recorded(receiver, "report to ORDS")
    assert (report.trace_id, report.attributes["attempt"], report.attributes["state"]) == (A, 2, "completed")
    for name in ("start a browser", "dispatch"):
        found = await recorded(receiver, name, 2)
        assert {span.trace_id for span in found} == {A}
        assert sorted(span.attributes["attempt"] for span in found) == [1, 2]


async def test_who_starts_anothers_browser_does_so_in_the_others_trace(stage: Stage, receiver: Receiver) -> None:
    """One event admits all jobs that fit, whoever submitted them."""
    first, second = await submit(stage, A), await submit(stage, B)
    (bell, _) = await stage.outbox()
    await stage.deliver(bell)
    browsers = await recorded(receiver, "start a browser", 2)
    assert {span.attributes["job_id"]: span.trace_id for span in browsers} == {first: A, second: B}


async def test_what_the_caller_does_not_sample_is_not_sent(stage: Stage, receiver: Receiver) -> None:
    """Its trace goes on all the same."""
    await submit(stage, A, "00")
    await submit(stage, B)
    await stage.deliver_all()
    await recorded(receiver, "dispatch")
    assert {span.trace_id for span in receiver.spans if "job_id" in span.attributes} == {B}
    assert {trace[3:35]: trace[-2:] for trace in stage.worker.traces if trace} == {A: "00", B: "01"}


async def test_a_request_without_a_trace_begins_one(stage: Stage, receiver: Receiver) -> None:
    """As does one whose traceparent is none."""
    for headers in ({}, {"traceparent": "none"}):
        answer = await stage.call("submit_job", "GET", "/jobs", headers=headers)
        assert answer.status_code == 200
    one, other = await recorded(receiver, "GET /jobs", 2)
    assert (one.parent_id, other.parent_id) == ("", "")
    assert one.trace_id != other.trace_id


async def test_what_fails_is_told_by_its_kind(stage: Stage, receiver: Receiver) -> None:
    """Messages may hold anything, so that none is sent."""
    with pytest.raises(ValueError, match="hunter2"), spans.span("step", "internal", None):
        raise ValueError("hunter2")
    (step,) = await recorded(receiver, "step")
    assert (step.failed, step.attributes) == (True, {"error.type": "ValueError"})
    stage.ords.status = 500
    order = await stage.until_running()
    await stage.complete(order)
    await stage.deliver_all()
    (report, *_) = await recorded(receiver, "report to ORDS")
    assert (report.failed, report.attributes["error.type"]) == (True, "ORDS answered 500")
    handled = [span for span in await recorded(receiver, "process rpa.job.finished.v1", 2) if span.failed]
    assert [span.attributes["error.type"] for span in handled] == ["503"]


async def test_a_collector_that_is_away_delays_nobody(stage: Stage, receiver: Receiver) -> None:
    """Spans are dropped, jobs are not."""
    receiver.away = True
    order = await stage.until_running()
    assert (await stage.complete(order)).status_code == 200
    await eventually(lambda: receiver.refused)


UNRECORDED = """
from shared import spans
with spans.span("step", "internal", "00-" + "a" * 32 + "-" + "b" * 16 + "-01", job_id=1) as span:
    span.note(state="pending"); spans.note(job_id=1); spans.rename("other")
assert span.traceparent == "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
"""
LOADED = f"""
import importlib, json, sys
for function in sys.argv[1:]:
    importlib.import_module(f"functions.{{function}}.main")
from rpa_worker import Worker
Worker()
{UNRECORDED}
print(json.dumps(sorted(sys.modules)))
"""


@pytest.mark.parametrize("switch", [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}])
def test_what_is_off_costs_nothing(switch: dict[str, str]) -> None:
    """No function and no worker imports anything of OpenTelemetry's, nor what it needs."""
    modules = said_by(LOADED, Manifests(BASE), **switch)
    assert {"functions.monitor.main", "rpa_worker.spans"} <= set(modules)
    assert [name for name in modules if name.startswith(("opentelemetry", "google.protobuf", "requests"))] == []


WITHOUT_PACKAGES = f"""
import sys
sys.modules["opentelemetry"] = None
from rpa_worker import Worker
from shared import config, logs
{UNRECORDED}
logs.configure("function", "INFO")
spans.configure("function", config.load(config.BaseSettings))
Worker()
{UNRECORDED}
"""


def test_functions_without_the_packages_say_so() -> None:
    """And work: the switch alone is no reason to fail."""
    argv = [sys.executable, "-c", WITHOUT_PACKAGES]
    switch = {spans.ENDPOINT: "http://collector:4318"}
    process = subprocess.run(argv, cwd=ROOT, env=switch, capture_output=True, text=True, check=True)
    lines = process.stderr.splitlines()
    assert len(lines) == 2
    assert all("OTEL_EXPORTER_OTLP_ENDPOINT is set, but opentelemetry" in line for line in lines)
