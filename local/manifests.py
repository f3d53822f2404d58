"""The manifests of `knative/`, read as Knative would: Services with their environment, Triggers, PingSources."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Overrides = Mapping[str, Mapping[str, str]]
"""Values laid over ConfigMaps and Secrets by name, as an overlay would."""


class ManifestError(Exception):
    """A manifest asks for something that is not there; the message names both."""


@dataclass(frozen=True)
class Trigger:
    """Which events go where, and what happens when they cannot be delivered."""

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
    """A tick."""

    name: str
    schedule: str
    data: str
    sink: str


@dataclass(frozen=True)
class Service:
    """A Knative Service: what it runs, in which environment."""

    name: str
    argv: Sequence[str]
    container: Mapping[str, Any]
    volumes: Sequence[Mapping[str, Any]]


class Manifests:
    """Everything of one folder, with values laid over."""

    def __init__(self, folder: Path, overrides: Overrides) -> None:
        self._documents = _documents(folder)
        self._values = {kind: self._read_values(kind, overrides) for kind in ("ConfigMap", "Secret")}

    def _read_values(self, kind: str, overrides: Overrides) -> dict[str, dict[str, str]]:
        values = {d["metadata"]["name"]: {**d.get("stringData", {}), **d.get("data", {})} for d in self._of(kind)}
        for name, laid_over in overrides.items():
            if name in values or kind == "Secret":
                values.setdefault(name, {}).update(laid_over)
        return values

    def _of(self, kind: str, group: str = "") -> Iterator[dict[str, Any]]:
        return (d for d in self._documents if d["kind"] == kind and group in d["apiVersion"])

    def services(self) -> list[Service]:
        """The functions."""
        found = []
        for document in self._of("Service", "serving.knative.dev"):
            spec = document["spec"]["template"]["spec"]
            (container,) = spec["containers"]
            argv = [*container.get("command", []), *container.get("args", [])]
            found.append(Service(document["metadata"]["name"], argv, container, spec.get("volumes", [])))
        return found

    def triggers(self) -> list[Trigger]:
        """The subscriptions."""
        return [_trigger(document) for document in self._of("Trigger")]

    def pings(self) -> list[PingSource]:
        """The ticks."""
        return [
            PingSource(d["metadata"]["name"], spec["schedule"], spec.get("data", ""), spec["sink"]["ref"]["name"])
            for d in self._of("PingSource")
            for spec in [d["spec"]]
        ]

    def publishers(self) -> set[str]:
        """The functions that a SinkBinding gives the broker's address."""
        return {d["spec"]["subject"]["name"] for d in self._of("SinkBinding")}

    def environment(self, service: Service, mounts: Path) -> dict[str, str]:
        """What the container would find in its environment; its mounted files are written below `mounts`."""
        environment: dict[str, str] = {}
        for source in service.container.get("envFrom", []):
            ((kind, name),) = [
                ({"configMapRef": "ConfigMap", "secretRef": "Secret"}[k], ref["name"]) for k, ref in source.items()
            ]
            environment |= self._lookup(service, kind, name)
        for entry in service.container.get("env", []):
            value = self._value(service, entry)
            if value is not None:
                environment[entry["name"]] = value
        folders = self._mount(service, mounts)
        return {key: _rewritten(value, folders) for key, value in environment.items()}

    def _lookup(self, service: Service, kind: str, name: str) -> dict[str, str]:
        try:
            return self._values[kind][name]
        except KeyError:
            raise ManifestError(f"{service.name}: there is no {kind} {name}") from None

    def _value(self, service: Service, entry: Mapping[str, Any]) -> str | None:
        if "value" in entry:
            return str(entry["value"])
        ((reference, where),) = entry["valueFrom"].items()
        kind = {"secretKeyRef": "Secret", "configMapKeyRef": "ConfigMap"}[reference]
        value = self._values[kind].get(where["name"], {}).get(where["key"])
        if value is None and not where.get("optional"):
            raise ManifestError(
                f"{service.name}: {entry['name']} needs the key {where['key']} of {kind} {where['name']}"
            )
        return value

    def _mount(self, service: Service, mounts: Path) -> dict[str, str]:
        folders = {}
        volumes = {volume["name"]: volume for volume in service.volumes}
        for mount in service.container.get("volumeMounts", []):
            volume = volumes[mount["name"]]
            if "configMap" in volume:
                files = self._lookup(service, "ConfigMap", volume["configMap"]["name"])
            elif "secret" in volume:
                files = self._lookup(service, "Secret", volume["secret"]["secretName"])
            else:
                continue  # an emptyDir: the process has this machine's own /tmp
            folder = mounts / service.name / mount["mountPath"].strip("/")
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                (folder / name).touch(0o600)
                (folder / name).write_text(content)
            folders[mount["mountPath"]] = str(folder.resolve())
        return folders


def _documents(folder: Path) -> list[dict[str, Any]]:
    """As kustomize does: what kustomization.yaml lists, in its order, with its patches merged in."""
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())
    documents: list[dict[str, Any]] = []
    for name in listed["resources"]:
        path = folder / name
        documents += _documents(path) if path.is_dir() else _read(path)
    for patch in listed.get("patches", []):
        for change in _read(folder / patch["path"]):
            _merge(_patched(documents, change), change)
    return documents


def _read(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def _patched(documents: Sequence[dict[str, Any]], change: Mapping[str, Any]) -> dict[str, Any]:
    kind, name = change["kind"], change["metadata"]["name"]
    for document in documents:
        if (document["kind"], document["metadata"]["name"]) == (kind, name):
            return document
    raise ManifestError(f"a patch changes {kind} {name}, which is not there")


def _merge(document: dict[str, Any], change: Mapping[str, Any]) -> None:
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(document.get(key), dict):
            _merge(document[key], value)
        else:
            document[key] = value


def _trigger(document: Mapping[str, Any]) -> Trigger:
    spec = document["spec"]
    delivery = spec["delivery"]
    dead_letter = delivery.get("deadLetterSink")
    return Trigger(
        document["metadata"]["name"],
        spec.get("filter", {}).get("attributes", {}),
        spec["subscriber"]["ref"]["name"],
        delivery["retry"],
        delivery["backoffPolicy"],
        seconds(delivery["backoffDelay"]),
        seconds(delivery["timeout"]),
        dead_letter["ref"]["name"] if dead_letter else None,
    )


def seconds(duration: str) -> float:
    """An ISO 8601 duration of hours, minutes and seconds, as Knative's deliveries have it."""
    match = re.fullmatch(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?", duration)
    if match is None:
        raise ManifestError(f"{duration}: not a duration such as PT0.5S")
    hours, minutes, rest = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + rest


def _rewritten(value: str, folders: Mapping[str, str]) -> str:
    for mount_path, folder in folders.items():
        if value == mount_path or value.startswith(mount_path + "/"):
            return folder + value.removeprefix(mount_path)
    return value
