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
    kind, name = change["kind"], change["metadata"]["name"]
    for document in documents:
        if (document["kind"], document["metadata"]["name"]) == (kind, name):
            return document
    raise ManifestError(f"a patch changes {kind} {name}, which is not there")


def _merge(document: Document, change: Mapping[str, Any]) -> None:
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(document.get(key), dict):
            _merge(document[key], value)
        else:
            document[key] = value
