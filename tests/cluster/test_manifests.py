"""Base and overlays as a real API server and Knative's webhooks see them: no error and no warning.

What is not seen: nothing is started, Kafka's and RabbitMQ's own webhooks are not installed, and no OpenShift is asked
(its overlay has standard objects only; the ClusterRole that it names is OpenShift's).
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.documents import commands

if "KUBECONFIG" not in os.environ:
    pytest.skip("these tests need a cluster: set KUBECONFIG", allow_module_level=True)

KNATIVE = Path(__file__).parents[2] / "knative"
WITH_PLUGIN = {**os.environ, "PATH": f"{Path(__file__).parents[2] / 'bin'}:{os.environ['PATH']}"}
SCHEMAS = {
    "rabbitmqbrokerconfigs.eventing.knative.dev": Path(__file__).with_name("rabbitmqbrokerconfig.yaml"),
    "prometheusrules.monitoring.coreos.com": Path(__file__).with_name("prometheusrule.yaml"),
}
APPLIED = (
    "base", "base/22-secrets.template.yaml", "monitoring",
    "overlays/local", "overlays/dev", "overlays/openshift", "overlays/kafka", "overlays/rabbitmq",
)  # fmt: skip
FIRST = ("Namespace", "ServiceAccount")  # Serving's webhook asks for these when it looks at a Service
HANDLES_PODS = {
    "provision-browser": ["pods [] [] [create get watch delete]"],
    "reap-idle": ["pods [] [] [create get list watch delete]"],
}
DISCOVERY = re.compile(r"selfsubject|\[/|^Resources")
CARELESS = """
apiVersion: v1
kind: Pod
metadata: {name: careless, namespace: rpa}
spec: {containers: [{name: it, image: "dev.local/it:1"}]}
"""

Document = dict[str, Any]


class Place:
    """Namespaces of this run, so that a system that is installed is not touched."""

    def __init__(self) -> None:
        suffix = secrets.token_hex(3)
        self.names = {name: f"manifests-{suffix}-{name}" for name in ("rpa", "rpa-browsers")}

    def own(self, value: Any) -> Any:
        """A document with this run's namespaces instead."""
        if isinstance(value, list):
            return [self.own(item) for item in value]
        if not isinstance(value, dict):
            return value
        own = {key: self._name(key, item) for key, item in value.items()}
        if own.get("kind") == "Namespace":
            own["metadata"]["name"] = self.names[own["metadata"]["name"]]
        return own

    def _name(self, key: str, item: Any) -> Any:
        if key in ("namespace", "kubernetes.io/metadata.name") and isinstance(item, str):
            return self.names.get(item, item)
        return self.own(item)

    def made(self, applied: str) -> list[Document]:
        """What kustomize makes of a folder of `knative/`, or what a file there has."""
        path = KNATIVE / applied
        text = kubectl("kustomize", str(path)).stdout if path.is_dir() else path.read_text()
        return [self.own(document) for document in yaml.safe_load_all(text)]


def kubectl(*argv: str, stdin: Sequence[Document] = (), check: bool = True) -> subprocess.CompletedProcess[str]:
    text = yaml.safe_dump_all(stdin) if stdin else None
    return subprocess.run(["kubectl", *argv], input=text, capture_output=True, text=True, check=check)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """Both namespaces with base's accounts and rights in them, and the schemas that this cluster lacks."""
    place = Place()
    first = [d for d in place.made("base") if d["kind"] in (*FIRST, "Role", "RoleBinding")]
    lacking = [str(file) for name, file in SCHEMAS.items() if kubectl("get", "crd", name, check=False).returncode]
    for file in lacking:
        kubectl("apply", "-f", file)
        kubectl("wait", "--for=condition=Established", "-f", file)
    try:
        kubectl("apply", "-f", "-", stdin=first)
        yield place
    finally:
        kubectl("delete", "namespace", "--wait=false", *place.names.values())
        for file in lacking:
            kubectl("delete", "-f", file)


@pytest.mark.parametrize("applied", APPLIED)
def test_a_cluster_takes_it_without_a_word(place: Place, applied: str) -> None:
    """Every document, by its schema, the webhooks and the namespaces' security level."""
    documents = place.made(applied)
    done = kubectl("apply", "--dry-run=server", "-f", "-", stdin=documents, check=False)
    assert done.stderr == ""
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == len(documents)


def test_a_word_would_be_heard(place: Place) -> None:
    """A pod that is not restricted is refused, by the namespace that base makes."""
    done = kubectl("apply", "--dry-run=server", "-f", "-", stdin=[place.own(yaml.safe_load(CARELESS))], check=False)
    assert "violates PodSecurity" in done.stderr


def test_accounts_may_do_what_base_says_and_nothing_else(place: Place) -> None:
    """Asked of the API server: pods, for two of them, where browsers are."""
    accounts = [d["metadata"]["name"] for d in place.made("base") if d["kind"] == "ServiceAccount"]
    for account in accounts:
        for name, namespace in place.names.items():
            rights = granted(f"system:serviceaccount:{place.names['rpa']}:{account}", namespace)
            allowed = HANDLES_PODS.get(account, []) if name == "rpa-browsers" else []
            assert rights == allowed, (account, name)


def granted(user: str, namespace: str) -> list[str]:
    """What a user may do there that not everybody may."""
    said = kubectl("auth", "can-i", "--list", f"--as={user}", "-n", namespace).stdout
    return [" ".join(line.split()) for line in said.splitlines() if not DISCOVERY.search(line)]


def test_the_guides_speak_kn() -> None:
    """Every flag of every command is one that this kn has."""
    shown = commands("docs/how-to/roll-out.md", "kn revision list") + commands("docs/reference/kn-rpa.md", "kn rpa job")
    lines = [line.partition(" #")[0].strip() for line in shown.replace("\\\n", " ").splitlines()]
    for command in [line for line in lines if line.startswith("kn ")]:
        words = command.split()
        depth = 4 if words[1] == "rpa" and words[2] != "doctor" else 3
        asked = [*words[:depth], "--help"]
        offered = subprocess.run(asked, capture_output=True, text=True, check=True, env=WITH_PLUGIN).stdout
        for flag in re.findall(r"(?<= )-{1,2}[a-z-]+", command):
            assert re.search(rf"(?<![\w-]){flag}(?![\w-])", offered), command
