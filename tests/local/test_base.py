"""What `knative/base` promises about every function: who reaches it, what it knows, what it may do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from local.kustomize import build
from local.manifests import Manifests

ROOT = Path(__file__).parents[2]
BASE = ROOT / "knative" / "base"
TEMPLATE = BASE / "22-secrets.template.yaml"
PUBLIC = {"submit-job", "monitor"}
SLOW = {"provision-browser": 300, "dispatch-job": 300, "issue-totp": 300}
SECRETS = {
    "submit-job": {"rpa-database", "rpa-valkey", "rpa-tokens", "rpa-admin"},
    "provision-browser": {"rpa-database", "rpa-tokens"},
    "dispatch-job": {"rpa-database", "rpa-valkey", "rpa-tokens", "rpa-totp"},
    "issue-totp": {"rpa-database", "rpa-valkey", "rpa-tokens", "rpa-totp"},
    "callback": {"rpa-database", "rpa-valkey", "rpa-tokens"},
    "notify": {"rpa-database", "rpa-ords"},
    "reap-idle": {"rpa-database", "rpa-tokens"},
    "monitor": {"rpa-database", "rpa-valkey", "rpa-tokens", "rpa-ords"},
}


def documents(kind: str, group: str) -> list[dict[str, Any]]:
    return [d for d in build(BASE) if d["kind"] == kind and group in d["apiVersion"]]


def test_every_function_has_a_service() -> None:
    """One folder each, and nothing else is served."""
    folders = {path.parent.name.replace("_", "-") for path in (ROOT / "functions").glob("*/main.py")}
    assert {service.name for service in Manifests(BASE).services()} == folders == set(SECRETS)


def test_a_function_gets_only_the_secrets_that_it_needs() -> None:
    """Seeds of login codes above all."""
    for it in Manifests(BASE).services():
        named = {e["valueFrom"]["secretKeyRef"]["name"] for e in it.container["env"] if "valueFrom" in e}
        named |= {source["secretRef"]["name"] for source in it.container["envFrom"] if "secretRef" in source}
        assert named == SECRETS[it.name], it.name


def test_services_are_as_knative_and_restricted_pods_want_them() -> None:
    """Only people's functions are public; nothing is privileged, and nothing slows a cold start."""
    for document in documents("Service", "serving.knative.dev"):
        name = document["metadata"]["name"]
        visibility = document["metadata"]["labels"].get("networking.knative.dev/visibility")
        spec = document["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        assert (visibility is None) == (name in PUBLIC), name
        assert 60 <= spec["timeoutSeconds"] <= 300, name
        assert spec["timeoutSeconds"] == SLOW.get(name, spec["timeoutSeconds"]), name
        assert spec["serviceAccountName"] == name
        assert container["readinessProbe"] == {"httpGet": {"path": "/health/ready"}}, name
        assert container["securityContext"] == {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }, name
        assert {"name": "tmp", "emptyDir": {}} in spec["volumes"], name


def test_delivery_outlasts_no_function() -> None:
    """A trigger gives up no later than Knative ends the request, and its dead letters are kept."""
    limits = {
        f"http://{d['metadata']['name']}.rpa.svc.cluster.local": d["spec"]["template"]["spec"]["timeoutSeconds"]
        for d in documents("Service", "serving.knative.dev")
    }
    for trigger in Manifests(BASE).triggers():
        assert trigger.retry >= 5
        assert trigger.timeout_seconds <= limits[trigger.subscriber]
        assert trigger.dead_letter_sink in limits


def test_who_publishes_knows_the_broker() -> None:
    """And nobody else does."""
    mains = (ROOT / "functions").glob("*/main.py")
    publishing = {path.parent.name.replace("_", "-") for path in mains if "EventSettings" in path.read_text()}
    assert Manifests(BASE).publishers() == publishing


def test_the_template_has_every_secret_that_is_needed() -> None:
    """It names all of them, and is applied by nobody by accident."""
    template = {secret["metadata"]["name"] for secret in yaml.safe_load_all(TEMPLATE.read_text())}
    assert template == set().union(*SECRETS.values())
    assert not Manifests(BASE).secrets
