"""What `knative/base` promises about every function: who reaches it, what it knows, what it may do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.kustomize import build, identity
from local.manifests import Manifests
from shared.browsers.manifest import PORT
from shared.events import SOURCE, Type
from shared.http import AT_ONCE
from tests.docs.documents import story
from tests.settings import settings

ROOT = Path(__file__).parents[2]
KNATIVE = ROOT / "knative"
BASE = KNATIVE / "base"
TEMPLATE = BASE / "22-secrets.template.yaml"
PUBLIC = {"submit-job", "monitor"}
SLOW = {"provision-browser": 300, "dispatch-job": 300, "issue-totp": 300}
WORKER = {"app.kubernetes.io/component": "worker"}
HANDLES_PODS = {
    "provision-browser": ["create", "get", "watch", "delete"],
    "reap-idle": ["create", "get", "list", "watch", "delete"],
}
AT_ONCE_IN_A_POD = {
    "submit-job": 80, "provision-browser": 20, "dispatch-job": 40, "issue-totp": 100, "callback": 80, "notify": 40,
    "reap-idle": 10, "monitor": 40,
}  # fmt: skip
BROWSERS_AS_PODS = {"NAMESPACE", "BROWSER_SERVICE_IMAGE", "BROWSER_SHM_SIZE", "BROWSER_WARM_POOL"} | {
    f"BROWSER_{resource}_{bound}" for resource in ("CPU", "MEMORY") for bound in ("REQUEST", "LIMIT")
}
TAKEN = {"serviceAccountName", "containerConcurrency", "timeoutSeconds", "containers", "volumes"}
"""What Serving takes of a pod without a feature that is off by default."""
RESTRICTED = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
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


def documents(kind: str, group: str = "") -> list[dict[str, Any]]:
    return [d for d in build(BASE) if d["kind"] == kind and group in d["apiVersion"]]


def named(kind: str, name: str) -> dict[str, Any]:
    (found,) = [d for d in documents(kind) if d["metadata"]["name"] == name]
    return found


def templates() -> Iterator[tuple[str, dict[str, Any]]]:
    """What every pod of base and overlays is made from, by file and name."""
    for file in sorted(KNATIVE.rglob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            if isinstance(document, dict) and "containers" in (spec := pod_spec(document)):
                yield f"{file.relative_to(KNATIVE)} {document['metadata']['name']}", spec


def pod_spec(document: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = document.get("spec", {}).get("template", {}).get("spec", {})
    return spec


def test_everything_is_numbered_and_listed() -> None:
    """In the order of the numbers; only the template of the Secrets is applied by hand."""
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    files = sorted(file.name for file in BASE.glob("[0-9]*.yaml"))
    assert listed["resources"] == [name for name in files if name != TEMPLATE.name]
    assert listed["sortOptions"] == {"order": "fifo"}
    others = {file.name for file in BASE.iterdir()} - set(files)
    assert others == {"kustomization.yaml", *listed["configurations"]}


def test_everything_has_a_place_of_its_own() -> None:
    """In one of our two namespaces, and under a name that nothing else of its kind has."""
    everything = build(BASE)
    assert len({identity(d) for d in everything}) == len(everything)
    namespaces = {d["metadata"]["name"] for d in documents("Namespace")}
    assert namespaces == {"rpa", "rpa-browsers"}
    for d in everything:
        assert d["kind"] == "Namespace" or d["metadata"]["namespace"] in namespaces, identity(d)


def test_both_namespaces_take_restricted_pods_only() -> None:
    """And SinkBindings reach the functions on OpenShift too."""
    for namespace in documents("Namespace"):
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert named("Namespace", "rpa")["metadata"]["labels"]["bindings.knative.dev/include"] == "true"


def test_two_functions_handle_pods_and_nobody_anything_else() -> None:
    """In the browsers' namespace alone; the others have not even a token."""
    tokens = {d["metadata"]["name"]: d["automountServiceAccountToken"] for d in documents("ServiceAccount")}
    assert tokens == {name: name in HANDLES_PODS for name in [*SECRETS, "migrate"]}
    assert not [d for d in build(BASE) if d["kind"] in ("ClusterRole", "ClusterRoleBinding")]
    assert {d["metadata"]["name"] for d in documents("Role")} == set(HANDLES_PODS)
    assert {d["metadata"]["name"] for d in documents("RoleBinding")} == set(HANDLES_PODS)
    for name, verbs in HANDLES_PODS.items():
        role, binding = named("Role", name), named("RoleBinding", name)
        assert role["metadata"]["namespace"] == binding["metadata"]["namespace"] == "rpa-browsers"
        assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": verbs}]
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == ("Role", name)
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": "rpa"}]


@pytest.mark.parametrize(("where", "spec"), list(templates()))
def test_every_pod_is_restricted(where: str, spec: dict[str, Any]) -> None:
    """No user is asked for, since OpenShift chooses it; what has no account of its own gets no token."""
    assert "securityContext" not in spec, where
    assert "serviceAccountName" in spec or spec["automountServiceAccountToken"] is False, where
    for container in spec["containers"]:
        assert container["securityContext"] == RESTRICTED, where
        assert set(container["resources"]) == {"requests", "limits"}, where
        assert re.fullmatch(r"dev\.local/[a-z-]+:\d+", container["image"]), where


def test_there_are_pods_to_look_at() -> None:
    """Eight functions, the migration, two stores, and the demo's three."""
    assert len(list(templates())) == 14


def test_browsers_are_reached_by_workers_alone() -> None:
    """At the WebSocket; any policy that chose no pods or another direction would open them."""
    (policy,) = [d for d in documents("NetworkPolicy") if "Ingress" in d["spec"]["policyTypes"] and in_browsers(d)]
    assert policy["spec"]["podSelector"] == {}
    (rule,) = policy["spec"]["ingress"]
    assert rule["from"] == [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "rpa"}},
            "podSelector": {"matchLabels": WORKER},
        }
    ]
    assert rule["ports"] == [{"protocol": "TCP", "port": PORT}]


def test_workers_are_reached_by_dispatch_job_alone() -> None:
    """In the same namespace; the demo's has the label by which policies know one."""
    policy = named("NetworkPolicy", "workers-from-dispatch")
    assert policy["metadata"]["namespace"] == named("Service", "dispatch-job")["metadata"]["namespace"] == "rpa"
    assert policy["spec"] == {
        "podSelector": {"matchLabels": WORKER},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"serving.knative.dev/service": "dispatch-job"}}}]}],
    }
    worker = yaml.safe_load_all((KNATIVE / "overlays/dev/demo/worker.yaml").read_text())
    (labels,) = [d["spec"]["template"]["metadata"]["labels"] for d in worker if d["kind"] == "Deployment"]
    assert labels.items() >= WORKER.items()


def test_the_guide_s_policy_for_workers_elsewhere_is_base_s() -> None:
    """With the namespace of whom it lets in."""
    (example,) = [yaml.safe_load(it.text) for it in story("docs/how-to/deploy.md") if it.language == "yaml"]
    own = named("NetworkPolicy", "workers-from-dispatch")
    (peer,) = own["spec"]["ingress"][0]["from"]
    peer["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": own["metadata"]["namespace"]}}
    own["metadata"]["namespace"] = example["metadata"]["namespace"]
    assert example == own


def test_functions_are_reached_through_knative_alone() -> None:
    """All of them, and no other pod of theirs; OpenShift's namespaces are its overlay's."""
    policy = named("NetworkPolicy", "functions-from-knative")
    assert policy["metadata"]["namespace"] == "rpa"
    namespaces = {
        "key": "kubernetes.io/metadata.name",
        "operator": "In",
        "values": ["knative-serving", "kourier-system"],
    }
    assert policy["spec"] == {
        "podSelector": {"matchExpressions": [{"key": "serving.knative.dev/service", "operator": "Exists"}]},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"namespaceSelector": {"matchExpressions": [namespaces]}}]}],
    }


def test_browsers_reach_the_inner_gateway_alone() -> None:
    """Of what is in the cluster, besides names: that of cluster-local Services, at its port, and not the outer one."""
    rules = [
        rule
        for d in documents("NetworkPolicy")
        if in_browsers(d)
        for rule in d["spec"].get("egress", [])
        if any("podSelector" in peer for peer in rule["to"])
    ]
    assert rules == named("NetworkPolicy", "browsers-to-callback-and-totp")["spec"]["egress"]
    assert rules == [
        {
            "to": [
                {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kourier-system"}},
                    "podSelector": {"matchLabels": {"app": "3scale-kourier-gateway"}},
                }
            ],
            "ports": [{"protocol": "TCP", "port": 8081}],
        }
    ]


def in_browsers(document: dict[str, Any]) -> bool:
    return bool(document["metadata"]["namespace"] == "rpa-browsers")


@pytest.mark.parametrize(
    ("address", "reached"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1", True),
        ("10.96.0.1", False),
        ("10.244.3.7", False),
        ("100.64.0.9", False),
        ("169.254.169.254", False),  # where clouds hand out credentials
        ("172.30.0.1", False),
        ("192.168.1.1", False),
        ("fd00::1", False),
        ("fe80::1", False),
    ],
)
def test_browsers_reach_the_internet_and_nothing_of_ours(address: str, reached: bool) -> None:
    """But for names, of which policies say the port."""
    policies = [d["spec"] for d in documents("NetworkPolicy") if in_browsers(d)]
    for policy in policies:
        assert policy["podSelector"] == {}
    rules = [rule for policy in policies for rule in policy.get("egress", []) if "ports" not in rule]
    blocks = [peer["ipBlock"] for rule in rules for peer in rule["to"]]
    assert any(allows(block, address) for block in blocks) == reached


def allows(block: dict[str, Any], address: str) -> bool:
    where = ip_address(address)
    return where in ip_network(block["cidr"]) and not any(where in ip_network(net) for net in block["except"])


def test_the_migration_runs_as_the_functions_do() -> None:
    """The same image, tried again a few times, ended and forgotten by itself."""
    job = named("Job", "migrate")["spec"]
    (container,) = job["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-m", "shared.migrate"]
    assert container["image"] == Manifests(BASE).services()[0].container["image"]
    assert job["backoffLimit"] > 0
    assert job["activeDeadlineSeconds"] > 0
    assert job["ttlSecondsAfterFinished"] > 0


def test_every_event_is_described() -> None:
    """As the functions send it."""
    described = {}
    for d in documents("EventType"):
        attributes = {a["name"]: a.get("value") for a in d["spec"]["attributes"]}
        described[d["metadata"]["name"]] = (attributes["type"], attributes["source"])
    assert described == {kind.value: (kind.value, SOURCE) for kind in Type}


def test_base_knows_no_secret() -> None:
    """No Secret, no secret in a ConfigMap, and none in the template."""
    secret = {setting.name for setting in settings() if setting.secret}
    assert {"DATABASE_URL", "JWT_SECRET_KEY", "ADMIN_PASSWORD", "VALKEY_PASSWORD"} <= secret
    assert not documents("Secret")
    assert not secret & set(Manifests(BASE).config_maps["rpa-config"])
    values = [value for d in yaml.safe_load_all(TEMPLATE.read_text()) for value in d["stringData"].values()]
    assert [value for value in values if "CHANGE-ME" not in value] == ["admin"]


def test_the_configuration_has_settings_only() -> None:
    """A misspelt name would leave a default in force."""
    known = {setting.name for setting in settings()} | BROWSERS_AS_PODS
    assert set(Manifests(BASE).config_maps["rpa-config"]) <= known


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
        # Not /health/ready: who calls while a store is down is told so at once, and does not wait for a pod.
        assert container["readinessProbe"] == {"httpGet": {"path": "/health/live"}}, name
        assert set(spec) <= TAKEN, name
        assert all(set(volume) & {"emptyDir", "configMap", "secret", "projected"} for volume in spec["volumes"]), name
        assert {"name": "tmp", "emptyDir": {}} in spec["volumes"], name


def test_a_pod_has_a_limit_below_which_its_process_refuses_nobody() -> None:
    """So that Knative holds callers back and adds pods; 0 would be no limit."""
    services = {d["metadata"]["name"]: d for d in documents("Service", "serving.knative.dev")}
    limits = {name: d["spec"]["template"]["spec"]["containerConcurrency"] for name, d in services.items()}
    assert limits == AT_ONCE_IN_A_POD
    assert max(limits.values()) < AT_ONCE
    scales = {name: d["spec"]["template"]["metadata"]["annotations"] for name, d in services.items()}
    assert {name for name, it in scales.items() if it["autoscaling.knative.dev/min-scale"] != "0"} == set()
    assert {int(it["autoscaling.knative.dev/max-scale"]) for it in scales.values()} == {3, 20}


def test_the_broker_answers_before_it_delivers() -> None:
    """Its own default is to answer after every handler has, which outlasts whoever publishes."""
    broker = named("Broker", "default")
    assert broker["metadata"]["annotations"] == {"messaging.knative.dev/async-handler": "true"}
    assert "spec" not in broker


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
