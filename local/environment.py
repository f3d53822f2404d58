"""A container's environment, resolved as the kubelet does it, for a process of this machine."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local.kustomize import ManifestError
from local.manifests import Manifests, Service

_CLUSTER_ADDRESS = re.compile(r"http://([a-z0-9-]+)\.[a-z0-9-]+\.svc\.cluster\.local")


def environment(manifests: Manifests, service: Service, mounts: Path, addresses: Mapping[str, str]) -> dict[str, str]:
    """What the container would find, its mounted files below `mounts`, addresses those of this machine.

    Raises ManifestError where a ConfigMap, a Secret or a key is missing.
    """
    resolved: dict[str, str] = {}
    for source in service.container.get("envFrom", []):
        ((kind, reference),) = source.items()
        resolved |= _values(manifests, service, kind, reference)
    for entry in service.container.get("env", []):
        value = _value(manifests, service, entry)
        if value is not None:
            resolved[entry["name"]] = value
    folders = _mount(manifests, service, mounts / service.name)
    return {name: here(_below(value, folders), addresses) for name, value in resolved.items()}


def here(text: str, addresses: Mapping[str, str]) -> str:
    """A text with the cluster's addresses replaced by those of this machine, where they are known."""
    return _CLUSTER_ADDRESS.sub(lambda match: addresses.get(match[1], match[0]), text)


def _values(manifests: Manifests, service: Service, kind: str, reference: Mapping[str, Any]) -> dict[str, str]:
    known = manifests.config_maps if kind.startswith("configMap") else manifests.secrets
    name = reference["name"]
    if name not in known and not reference.get("optional"):
        raise ManifestError(f"{service.name}: {kind} names {name}, which is not there")
    return known.get(name, {})


def _value(manifests: Manifests, service: Service, entry: Mapping[str, Any]) -> str | None:
    if "valueFrom" not in entry:
        return str(entry.get("value", ""))
    ((kind, where),) = entry["valueFrom"].items()
    known = manifests.config_maps if kind == "configMapKeyRef" else manifests.secrets
    value = known.get(where["name"], {}).get(where["key"])
    if value is None and not where.get("optional"):
        raise ManifestError(f"{service.name}: {entry['name']} needs the key {where['key']} of {where['name']}")
    return value


def _mount(manifests: Manifests, service: Service, mounts: Path) -> dict[str, Path]:
    """Write the files of ConfigMap and Secret volumes; where each mount path is here."""
    shutil.rmtree(mounts, ignore_errors=True)
    volumes = {volume["name"]: volume for volume in service.volumes}
    folders = {}
    for mount in service.container.get("volumeMounts", []):
        volume = volumes[mount["name"]]
        if "configMap" in volume:
            files = _values(manifests, service, "configMap", volume["configMap"])
        elif "secret" in volume:
            files = _values(manifests, service, "secret", {"name": volume["secret"]["secretName"]})
        else:
            continue  # an emptyDir: the process has this machine's own /tmp
        folders[mount["mountPath"]] = folder = mounts / mount["mountPath"].strip("/")
        _write(folder, files)
    return folders


def _write(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).touch(0o600)
        (folder / name).write_text(content)


def _below(value: str, folders: Mapping[str, Path]) -> str:
    for mount_path, folder in folders.items():
        if value == mount_path or value.startswith(mount_path + "/"):
            return f"{folder}{value.removeprefix(mount_path)}"
    return value
