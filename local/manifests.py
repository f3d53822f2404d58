"""The manifests of `knative/`, read as Knative would: Services, Triggers, PingSources, SinkBindings."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.kustomize import Document, ManifestError, build

Overrides = Mapping[str, Mapping[str, str]]
"""Values laid over ConfigMaps and Secrets by name, as an overlay would."""


@dataclass(frozen=True)
class Trigger:
    """Which events go where, and what happens when they cannot be delivered. Addresses are the cluster's."""

    name: str
    attributes: Mapping[str, str]
    subscriber: str
    retry: int
    backoff_policy: str
    backoff_seconds: float
    timeout_seconds: float
    dead_letter_sink: str | None


@dataclass(frozen=True)
class PingSource:
    """A tick: when, what, and the cluster's address that gets it."""

    namespace: str
    name: str
    schedule: str
    content_type: str
    data: str
    sink: str


@dataclass(frozen=True)
class Service:
    """A Knative Service: what it runs, and the container that says in which environment."""

    name: str
    argv: Sequence[str]
    container: Mapping[str, Any]
    volumes: Sequence[Mapping[str, Any]]


class Manifests:
    """Everything of one folder, with values laid over."""

    def __init__(self, folder: Path) -> None:
        self._documents = build(folder)
        self.config_maps = {d["metadata"]["name"]: {**d.get("data", {})} for d in self._of("ConfigMap")}
        self.secrets = {d["metadata"]["name"]: _decoded(d) for d in self._of("Secret")}

    def lay_over(self, overrides: Overrides) -> None:
        """Change values of ConfigMaps and Secrets, as one more overlay would."""
        for name, values in overrides.items():
            # What is no ConfigMap here is a Secret: those are kept elsewhere than in the manifests.
            known = self.config_maps if name in self.config_maps else self.secrets
            known[name] = known.get(name, {}) | dict(values)

    def reschedule(self, schedules: Mapping[str, str]) -> None:
        """Change when PingSources tick, by their names. Raises ManifestError."""
        known = {d["metadata"]["name"]: d["spec"] for d in self._of("PingSource")}
        for name, schedule in schedules.items():
            if name not in known:
                raise ManifestError(f"there is no PingSource {name}; there are {', '.join(known)}")
            known[name]["schedule"] = schedule

    def _of(self, kind: str, group: str = "") -> Iterator[Document]:
        return (d for d in self._documents if d["kind"] == kind and group in d["apiVersion"])

    def services(self) -> list[Service]:
        """The functions."""
        return [_service(document) for document in self._of("Service", "serving.knative.dev")]

    def triggers(self) -> list[Trigger]:
        """The subscriptions."""
        return [_trigger(document) for document in self._of("Trigger")]

    def pings(self) -> list[PingSource]:
        """The ticks."""
        return [_ping(document) for document in self._of("PingSource")]

    def publishers(self) -> set[str]:
        """The functions that a SinkBinding gives the broker's address."""
        return {d["spec"]["subject"]["name"] for d in self._of("SinkBinding")}

    def broker_path(self) -> str:
        """Where the one broker takes events."""
        (broker,) = self._of("Broker")
        return f"/{broker['metadata']['namespace']}/{broker['metadata']['name']}"


def _decoded(secret: Document) -> dict[str, str]:
    plain: dict[str, str] = secret.get("stringData", {})
    return {name: base64.b64decode(value).decode() for name, value in secret.get("data", {}).items()} | plain


def _service(document: Document) -> Service:
    spec = document["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    argv = [*container.get("command", []), *container.get("args", [])]
    return Service(document["metadata"]["name"], argv, container, spec.get("volumes", []))


def _trigger(document: Document) -> Trigger:
    spec, delivery = document["spec"], document["spec"]["delivery"]
    sink = delivery.get("deadLetterSink")
    return Trigger(
        name=document["metadata"]["name"],
        attributes=spec.get("filter", {}).get("attributes", {}),
        subscriber=_address(document, spec["subscriber"]),
        retry=delivery["retry"],
        backoff_policy=delivery["backoffPolicy"],
        backoff_seconds=seconds(delivery["backoffDelay"]),
        timeout_seconds=seconds(delivery["timeout"]),
        dead_letter_sink=_address(document, sink) if sink else None,
    )


def _ping(document: Document) -> PingSource:
    spec = document["spec"]
    return PingSource(
        namespace=document["metadata"]["namespace"],
        name=document["metadata"]["name"],
        schedule=spec["schedule"],
        content_type=spec.get("contentType", "text/plain"),
        data=spec.get("data", ""),
        sink=_address(document, spec["sink"]),
    )


def _address(document: Document, destination: Mapping[str, Any]) -> str:
    namespace = document["metadata"]["namespace"]
    return f"http://{destination['ref']['name']}.{namespace}.svc.cluster.local{destination.get('uri', '')}"


def seconds(duration: str) -> float:
    """An ISO 8601 duration of hours, minutes and seconds, as Knative's deliveries have it. Raises ManifestError."""
    match = re.fullmatch(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?", duration)
    if match is None or not any(match.groups()):
        raise ManifestError(f"{duration}: not a duration such as PT0.5S")
    hours, minutes, rest = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + rest
