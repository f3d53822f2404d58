"""From a spec to the pod that Kubernetes is asked for, and back to what only the spec knew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.browsers import BrowserSpec
from shared.config import BrowserSettings

NAME_LABEL = "app.kubernetes.io/name"
NAME = "rpa-browser"
JOB_LABEL, ATTEMPT_LABEL = "rpa/job-id", "rpa/attempt"
PORT, HEALTH_PORT = 3000, 8081
SECRET_PATH = "WS_PATH"  # noqa: S105 - the variable's name
GRACE_SECONDS = 5
HEALTH_SECONDS = 5
"""One that starts answers as soon as it is ready, or after three."""
TMP_SIZE = "1Gi"
"""More than this on disk and the kubelet evicts the browser, not its neighbours."""


def manifest(spec: BrowserSpec, settings: BrowserSettings) -> dict[str, Any]:
    """The pod, which any namespace with the `restricted` security level takes."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": spec.name, "labels": _labels(spec)},
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": spec.lifetime_seconds,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [_container(spec, settings)],
            "volumes": [
                {"name": "tmp", "emptyDir": {"sizeLimit": TMP_SIZE}},
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": settings.browser_shm_size}},
            ],
        },
    }


def _labels(spec: BrowserSpec) -> dict[str, str]:
    labels = {NAME_LABEL: NAME, "app.kubernetes.io/part-of": "rpa-orchestrator"}
    if spec.job_id is not None:
        labels |= {JOB_LABEL: str(spec.job_id), ATTEMPT_LABEL: str(spec.attempt)}
    return labels


def _container(spec: BrowserSpec, settings: BrowserSettings) -> dict[str, Any]:
    return {
        "name": "browser",
        "image": settings.browser_service_image,
        "ports": [{"name": "websocket", "containerPort": PORT}, {"name": "health", "containerPort": HEALTH_PORT}],
        # A Secret for each pod would hide the path from nobody: who may read pods of this namespace sees these
        # browsers' lives anyway. So the namespace holds browsers alone, and only our functions may read its pods.
        "env": [{"name": SECRET_PATH, "value": spec.secret_path}, {"name": "HOME", "value": "/tmp"}],  # noqa: S108
        "resources": {
            "requests": {"cpu": settings.browser_cpu_request, "memory": settings.browser_memory_request},
            "limits": {"cpu": settings.browser_cpu_limit, "memory": settings.browser_memory_limit},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "readinessProbe": {
            "httpGet": {"path": "/health", "port": HEALTH_PORT},
            "periodSeconds": 1,
            "timeoutSeconds": HEALTH_SECONDS,
        },
        # What killed a browser before it could say so, such as a missing library, is in its log.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "shm", "mountPath": "/dev/shm"}],  # noqa: S108
    }


def secret_path_of(pod: Mapping[str, Any]) -> str | None:
    """The secret path that a pod was made with."""
    variables = pod["spec"]["containers"][0].get("env", [])
    return next((entry.get("value") for entry in variables if entry["name"] == SECRET_PATH), None)
