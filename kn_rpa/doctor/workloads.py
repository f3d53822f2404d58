"""The stores that run in the deployment's own namespace, as in a trial."""

from __future__ import annotations

from kn_rpa.doctor.deployment import Deployment
from kn_rpa.kube import Absent, Denied, Thing

KINDS = ("deployments", "statefulsets")


def start(deployment: Deployment, host: str) -> str | None:
    """The command that brings back what a Service leads to; None where it is no Service, or leads somewhere."""
    name, _, domain = host.partition(".")
    if not name or (domain not in ("", deployment.namespace) and not domain.startswith(f"{deployment.namespace}.svc")):
        return None
    try:
        service = deployment.cluster.get(f"/api/v1/namespaces/{deployment.namespace}/services/{name}")
        if _leads_somewhere(deployment, name):
            return None
    except (Absent, Denied):
        return None
    selector = service["spec"].get("selector") or {}
    for kind in KINDS:
        for workload in deployment.all("/apis/apps/v1", kind).values():
            if selector and selector.items() <= workload["spec"]["template"]["metadata"].get("labels", {}).items():
                return deployment.kubectl(_bring_back(kind.removesuffix("s"), workload))
    return deployment.apply()


def _leads_somewhere(deployment: Deployment, service: str) -> bool:
    slices = deployment.all("/apis/discovery.k8s.io/v1", "endpointslices").values()
    own = [it for it in slices if it["metadata"].get("labels", {}).get("kubernetes.io/service-name") == service]
    return any(endpoint["conditions"].get("ready") for it in own for endpoint in it.get("endpoints") or [])


def _bring_back(kind: str, workload: Thing) -> str:
    name = f"{kind}/{workload['metadata']['name']}"
    return f"scale {name} --replicas=1" if workload["spec"].get("replicas", 1) == 0 else f"rollout restart {name}"
