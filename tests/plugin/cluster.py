"""A cluster's API as far as `kn rpa` reads it, over HTTP; what it has are the manifests, and all is ready."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local.kustomize import build

Thing = dict[str, Any]
BASE = Path(__file__).parents[2] / "knative" / "base"
TEMPLATE = BASE / "22-secrets.template.yaml"
KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: here, cluster: {server: "URL"}}]
users: [{name: me, user: {}}]
contexts: [{name: here, context: {cluster: here, user: me}}]
current-context: here
"""
LISTS = {
    "brokers", "endpointslices", "nodes", "pingsources", "pods", "revisions", "services", "sinkbindings", "triggers",
}  # fmt: skip


def _installed() -> dict[str, Thing]:
    things = {_path(it): it | {"status": ready("True", "")} for it in build(BASE)}
    return things | dict(secrets("filled-in"))


def secrets(value: str) -> Iterator[tuple[str, Thing]]:
    """The template's, its placeholders replaced."""
    for it in yaml.safe_load_all(TEMPLATE.read_text().replace("CHANGE-ME", value)):
        data = {key: b64encode(text.encode()).decode() for key, text in it["stringData"].items()}
        yield _path(it), {"metadata": it["metadata"], "data": data}


def ready(status: str, message: str) -> Thing:
    """What a controller says of a thing."""
    return {"conditions": [{"type": "Ready", "status": status, "message": message}]}


def _path(thing: Thing) -> str:
    version, metadata = thing["apiVersion"], thing["metadata"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    within = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    return f"{root}{within}/{thing['kind'].lower()}s/{metadata['name']}"


@dataclass
class ClusterStandIn:
    """What there is, by its path."""

    things: dict[str, Thing] = field(default_factory=_installed)

    def path(self, name: str) -> str:
        """Of the one thing whose path ends so."""
        (found,) = [path for path in self.things if path.endswith(f"/{name}")]
        return found

    def app(self) -> Starlette:
        """The API server."""
        return Starlette(routes=[Route("/{path:path}", self._answer, methods=["GET", "POST"])])

    async def _answer(self, request: Request) -> Response:
        path = request.url.path
        if request.method == "POST":
            return JSONResponse({"status": {"allowed": True}}, 201)
        if path in self.things:
            return JSONResponse(self.things[path])
        folder, _, name = path.rpartition("/")
        if name in LISTS:
            return JSONResponse({"items": [it for at, it in self.things.items() if at.rpartition("/")[0] == path]})
        return JSONResponse({"message": f"{name} not found in {folder}"}, 404)
