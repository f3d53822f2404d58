"""From a pod, as Kubernetes shows it, to where its browser stands and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from shared.browsers import Browser, Phase
from shared.browsers.manifest import ATTEMPT_LABEL, JOB_LABEL, PORT

Pod = Mapping[str, Any]

HOPELESS = {
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "ImageInspectError",
    "InvalidImageName",
    "RegistryUnavailable",
    "SignatureValidationFailed",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "CrashLoopBackOff",
}
"""What a container waits for that does not come by itself within a browser's start."""
REASON_LIMIT = 500
ENDING_LIMIT = 400


def browser_of(pod: Pod) -> Browser:
    """The browser that a pod is."""
    metadata, labels = pod["metadata"], pod["metadata"].get("labels", {})
    phase, reason = _standing(pod)
    return Browser(
        metadata["name"],
        phase,
        datetime.fromisoformat(metadata["creationTimestamp"]),
        _address(pod) if phase is Phase.READY else None,
        reason[:REASON_LIMIT] if reason else None,
        _number(labels.get(JOB_LABEL)),
        _number(labels.get(ATTEMPT_LABEL)),
    )


def unschedulable(pod: Pod) -> str | None:
    """Why no node takes the pod now, in the scheduler's words."""
    scheduled = _condition(pod, "PodScheduled")
    return _said("Unschedulable", scheduled) if scheduled.get("reason") == "Unschedulable" else None


def ending(pod: Pod) -> bool:
    """Whether it is being deleted."""
    return "deletionTimestamp" in pod["metadata"]


def _standing(pod: Pod) -> tuple[Phase, str | None]:
    if failure := _failure(pod):
        return Phase.FAILED, failure
    if _condition(pod, "Ready").get("status") == "True" and pod["status"].get("podIP"):
        return Phase.READY, None
    return Phase.STARTING, unschedulable(pod) or next(_waiting(pod), None)


def _failure(pod: Pod) -> str | None:
    """Why the pod will never be ready, or not be any more."""
    status = pod.get("status", {})
    if status.get("phase") == "Failed" and status.get("reason"):  # the kubelet's: DeadlineExceeded, Evicted ...
        return _said(status["reason"], status)
    if reason := _disruption(pod) or _hopeless(pod):
        return reason
    if ending(pod):
        return "the pod is being deleted"
    if ended := next(_ended(pod), None):
        return ended
    return "the pod has ended" if status.get("phase") in ("Failed", "Succeeded") else None


def _disruption(pod: Pod) -> str | None:
    """Drained, preempted, or its node lost: the pod goes soon."""
    target = _condition(pod, "DisruptionTarget")
    return _said(target.get("reason", "Disrupted"), target) if target.get("status") == "True" else None


def _hopeless(pod: Pod) -> str | None:
    return next((text for text in _waiting(pod) if text.partition(":")[0] in HOPELESS), None)


def _waiting(pod: Pod) -> Iterator[str]:
    for container in pod.get("status", {}).get("containerStatuses", []):
        if waiting := container.get("state", {}).get("waiting"):
            yield _said(waiting.get("reason", "Waiting"), waiting)


def _ended(pod: Pod) -> Iterator[str]:
    for container in pod.get("status", {}).get("containerStatuses", []):
        if ended := container.get("state", {}).get("terminated"):
            # The message may be the end of a log, and what matters is the end of that.
            message = str(ended.get("message") or "")[-ENDING_LIMIT:]
            yield _said(f"{ended.get('reason', 'Terminated')} (exit code {ended['exitCode']})", {"message": message})


def _said(reason: str, source: Mapping[str, Any]) -> str:
    message = " ".join(str(source.get("message") or "").split())
    return f"{reason}: {message}" if message else reason


def _condition(pod: Pod, kind: str) -> Mapping[str, Any]:
    conditions = pod.get("status", {}).get("conditions", [])
    return next((condition for condition in conditions if condition["type"] == kind), {})


def _address(pod: Pod) -> str:
    ip = pod["status"]["podIP"]
    return f"[{ip}]:{PORT}" if ":" in ip else f"{ip}:{PORT}"


def _number(label: str | None) -> int | None:
    return int(label) if label and label.isdecimal() else None
