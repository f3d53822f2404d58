"""What the checks read of a cluster, and the commands that they advise."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kn_rpa.kube import Absent, Cluster, Thing
from kn_rpa.target import Target

SERVING = "/apis/serving.knative.dev/v1"
EVENTING = "/apis/eventing.knative.dev/v1"
SOURCES = "/apis/sources.knative.dev/v1"


@dataclass
class Deployment:
    """One namespace, and the folder of manifests that it is applied from."""

    cluster: Cluster
    overlay: str
    target: Target

    @property
    def namespace(self) -> str:
        """Where the functions are."""
        return self.cluster.namespace

    def all(self, api: str, kind: str, namespace: str | None = None) -> dict[str, Thing]:
        """Things of a kind by name. Raises Absent, Denied, NotReached."""
        items = self.cluster.items(f"{api}/namespaces/{namespace or self.namespace}/{kind}")
        return {item["metadata"]["name"]: item for item in items}

    def services(self) -> dict[str, Thing]:
        """Knative Services."""
        return self.all(SERVING, "services")

    def config(self, name: str = "rpa-config") -> Mapping[str, str]:
        """A ConfigMap's values; none where it is missing."""
        try:
            found: Mapping[str, str] = self.cluster.get(f"/api/v1/namespaces/{self.namespace}/configmaps/{name}")[
                "data"
            ]
        except (Absent, KeyError):
            return {}
        return found

    @property
    def browsers(self) -> str:
        """The namespace of browsers' pods."""
        return self.config().get("NAMESPACE", "rpa-browsers")

    def kubectl(self, words: str, *, namespaced: bool = True) -> str:
        """A kubectl command for this cluster and namespace."""
        own = self._options()
        return f"kubectl{own} {words}" + (f" -n {shlex.quote(self.namespace)}" if namespaced else "")

    def kn(self, words: str) -> str:
        """A kn command for this cluster and namespace."""
        return f"kn{self._options()} {words} -n {shlex.quote(self.namespace)}"

    def apply(self) -> str:
        """Apply the manifests again: what is there and right stays as it is."""
        return self.kubectl(f"apply -k {shlex.quote(self.overlay)}", namespaced=False)

    def restart(self) -> str:
        """Have functions read their settings anew, all at once: half of them with another key refuse the others."""
        return self.kubectl("delete pod -l serving.knative.dev/service --wait=false")

    def rebind(self) -> str:
        """Have Knative look at SinkBindings again: one that once found no broker does not by itself."""
        return self.kubectl('annotate sinkbinding --all rpa/touched="$(date +%s)" --overwrite')

    def new_broker(self, name: str) -> str:
        """Make the broker, and give its address to those who publish."""
        return " && ".join([
            self.apply(), self.kubectl(f"wait --for=condition=Ready broker/{name} --timeout=60s"), self.rebind()
        ])  # fmt: skip

    def migrate(self) -> str:
        """Run the migration again. A Job cannot be changed, so the old one goes first."""
        return " && ".join([
            self.kubectl("delete job migrate --ignore-not-found"),
            self.apply(),
            self.kubectl("wait --for=condition=Complete job/migrate --timeout=300s"),
        ])  # fmt: skip

    def _options(self) -> str:
        given = {"kubeconfig": self.target.kubeconfig, "context": self.target.context}
        return "".join(f" --{name} {shlex.quote(value)}" for name, value in given.items() if value)


def not_ready(thing: Thing) -> str | None:
    """Why a Knative object is not ready, or None where it is."""
    conditions: list[dict[str, Any]] = thing.get("status", {}).get("conditions", [])
    for condition in conditions:
        if condition["type"] in ("Ready", "Succeeded"):
            if condition["status"] == "True":
                return None
            return str(condition.get("message") or condition.get("reason") or f"Ready is {condition['status']}")
    return "its controller has not looked at it yet"
