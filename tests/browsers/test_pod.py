"""What a pod's state says about its browser. `tests/cluster` meets most of these states on a real cluster."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from shared.browsers import Phase
from shared.browsers.pod import browser_of, ending, unschedulable

READY = {"type": "Ready", "status": "True"}


def pod(status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """A pod as the API shows it."""
    own = {"name": "rpa-browser-7-2", "creationTimestamp": "2026-01-02T03:04:05Z", **metadata}
    return {"metadata": own, "spec": {}, "status": status}


def container(**state: Any) -> dict[str, Any]:
    """The status of a pod whose container is in this state."""
    return {"phase": "Pending" if "waiting" in state else "Running", "containerStatuses": [{"state": state}]}


def test_a_ready_pod_has_an_address() -> None:
    """Its labels say whose it is."""
    labels = {"rpa/job-id": "7", "rpa/attempt": "2"}
    browser = browser_of(pod({"phase": "Running", "podIP": "10.1.2.3", "conditions": [READY]}, labels=labels))
    assert (browser.phase, browser.address, browser.reason) == (Phase.READY, "10.1.2.3:3000", None)
    assert (browser.job_id, browser.attempt) == (7, 2)
    assert browser.created_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_an_address_of_ipv6_fits_into_a_url() -> None:
    """In brackets."""
    assert browser_of(pod({"podIP": "fd00::7", "conditions": [READY]})).address == "[fd00::7]:3000"


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"phase": "Pending"},
        container(waiting={"reason": "ContainerCreating"}),
        container(running={"startedAt": "2026-01-02T03:04:06Z"}),
        {"phase": "Running", "podIP": "10.1.2.3", "conditions": [{"type": "Ready", "status": "False"}]},
    ],
)
def test_a_pod_on_its_way_is_starting(status: dict[str, Any]) -> None:
    """From the moment that it is made, and without an address."""
    browser = browser_of(pod(status))
    assert (browser.phase, browser.address) == (Phase.STARTING, None)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (container(waiting={"reason": "ErrImageNeverPull", "message": "not there"}), "ErrImageNeverPull: not there"),
        (container(waiting={"reason": "CreateContainerConfigError"}), "CreateContainerConfigError"),
        (container(waiting={"reason": "CrashLoopBackOff"}), "CrashLoopBackOff"),
        (container(terminated={"reason": "OOMKilled", "exitCode": 137}), "OOMKilled (exit code 137)"),
        (container(terminated={"exitCode": 2, "message": "a\n  b"}), "Terminated (exit code 2): a b"),
        ({"phase": "Failed", "reason": "Evicted", "message": "low on disk"}, "Evicted: low on disk"),
        ({"phase": "Failed"}, "the pod has ended"),
        ({"phase": "Succeeded"}, "the pod has ended"),
        (
            {
                "phase": "Running",
                "podIP": "10.1.2.3",
                "conditions": [
                    READY,
                    {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"},
                ],
            },
            "PreemptionByScheduler",
        ),
    ],
)
def test_a_pod_that_will_not_be_ready_has_failed(status: dict[str, Any], reason: str) -> None:
    """With the reason in the words of Kubernetes, on one line."""
    browser = browser_of(pod(status))
    assert (browser.phase, browser.address, browser.reason) == (Phase.FAILED, None, reason)


def test_a_pod_that_is_being_deleted_has_failed() -> None:
    """Ready or not: it goes within seconds."""
    dying = pod({"podIP": "10.1.2.3", "conditions": [READY]}, deletionTimestamp="2026-01-02T03:05:05Z")
    assert ending(dying)
    assert (browser_of(dying).phase, browser_of(dying).reason) == (Phase.FAILED, "the pod is being deleted")


def test_a_pod_that_no_node_takes_waits() -> None:
    """It has not failed: there may be room soon."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    waiting = pod({"phase": "Pending", "conditions": [condition]})
    assert unschedulable(waiting) == "Unschedulable: 0/3 nodes"
    assert (browser_of(waiting).phase, browser_of(waiting).reason) == (Phase.STARTING, "Unschedulable: 0/3 nodes")
    assert unschedulable(pod({"conditions": [condition | {"reason": "SchedulingGated"}]})) is None


def test_of_a_long_log_the_end_is_kept() -> None:
    """There is the reason."""
    reason = browser_of(pod(container(terminated={"exitCode": 1, "message": "x" * 5000 + " no display"}))).reason
    assert reason
    assert len(reason) <= 500
    assert reason.endswith("no display")
