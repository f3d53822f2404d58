"""The part of kustomize that our manifests use: resources in order, patches merged in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]


class ManifestError(Exception):
    """A manifest asks for something that is not there; the message names both."""


def build(folder: Path) -> list[Document]:
    """What kustomization.yaml of a folder amounts to. Raises ManifestError."""
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())
    documents: list[Document] = []
    for name in listed["resources"]:
        path = folder / name
        documents += build(path) if path.is_dir() else _read(path)
    for patch in listed.get("patches", []):
        for change in _read(folder / patch["path"]):
            _merge(_patched(documents, change), change)
    return documents


def _read(path: Path) -> list[Document]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def _patched(documents: Sequence[Document], change: Mapping[str, Any]) -> Document:
    for document in documents:
        if identity(document) == identity(change):
            return document
    _, kind, namespace, name = identity(change)
    raise ManifestError(f"a patch changes {kind} {name} in {namespace or 'no namespace'}, which is not there")


def identity(document: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """What no two documents share: group and version, kind, namespace, name."""
    metadata = document["metadata"]
    return document["apiVersion"], document["kind"], metadata.get("namespace", ""), metadata["name"]


def _merge(document: Document, change: Mapping[str, Any]) -> None:
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(document.get(key), dict):
            _merge(document[key], value)
        else:
            document[key] = value
