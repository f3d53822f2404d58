"""Every setting of every function, as the functions declare it."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.environment import environment
from local.manifests import Manifests

ROOT = Path(__file__).parents[1]
BASE = ROOT / "knative" / "base"
SECRETS = {
    "rpa-database": {"DATABASE_URL": "postgresql://nowhere/rpa"},
    "rpa-tokens": {"JWT_SECRET_KEY": "k" * 32},
    "rpa-admin": {"ADMIN_USERNAME": "admin", "ADMIN_PASSWORD": "p"},
    "rpa-ords": {"CALLBACK_AUTH_TOKEN": "t"},
    "rpa-totp": {"OCTOTEL_TOTP_SECRET": "A" * 16},
}
NO_SETTINGS = {"environment", "providers", "seeds"}
SET_BY_KNATIVE = {"k_revision", "k_service", "k_sink"}
BOOLEANS = {"True": "true", "False": "false"}
# What a name nearly says by itself, and the code does not repeat.
MEANINGS = {
    "BROWSER_CPU_LIMIT": "CPU that a browser's pod may take",
    "BROWSER_CPU_REQUEST": "CPU that a browser's pod asks for",
    "BROWSER_MEMORY_LIMIT": "memory that a browser's pod may take",
    "BROWSER_MEMORY_REQUEST": "memory that a browser's pod asks for",
    "BROWSER_NODE_TOKEN": "the bearer token of the local runtime's browser node",
    "HEALTH_REPORT_ENABLED": "whether health reports are sent",
    "LOG_LEVEL": "DEBUG, INFO, WARNING or ERROR",
    "VALKEY_CLUSTER": "whether VALKEY_HOST is a node of a cluster",
    "VALKEY_PASSWORD": "the password of Valkey",
    "VALKEY_PORT": "the port of VALKEY_HOST",
    "VALKEY_TLS": "whether Valkey is reached through TLS",
}

# A function reads its settings when it is imported, so that is done in a process of its own.
DECLARED = """
import dataclasses, importlib, json, sys
from pydantic import SecretStr

def declared(function):
    for name, field in importlib.import_module(f"functions.{function}.main").Settings.model_fields.items():
        value = None if field.is_required() else field.get_default(call_default_factory=True)
        empty = value in (None, (), {}) or isinstance(value, SecretStr)
        yield {
            "name": name,
            "meaning": field.description,
            "secret": "SecretStr" in str(field.annotation),
            "required": field.is_required(),
            "default": "" if empty else str(value),
            "unreadable": dataclasses.is_dataclass(value),
        }

print(json.dumps([row for function in sys.argv[1:] for row in declared(function)]))
"""


@dataclass(frozen=True)
class Setting:
    """One name of the environment."""

    name: str
    meaning: str
    default: str
    secret: bool


@functools.cache
def settings() -> list[Setting]:
    """All of them by name; where functions differ, what the one says that cannot do without."""
    manifests = Manifests(BASE)
    found: dict[str, dict[str, Any]] = {}
    for row in said_by(DECLARED, manifests):
        known = found.setdefault(row["name"], row)
        if row["required"] and not known["required"]:
            found[row["name"]] = row
    base = manifests.config_maps["rpa-config"]
    return [_setting(row, base) for name, row in sorted(found.items()) if name not in NO_SETTINGS]


def _setting(row: Mapping[str, Any], base: Mapping[str, str]) -> Setting:
    name = row["name"].upper()
    if row["name"] in SET_BY_KNATIVE:
        default = "set by Knative"
    elif row["required"]:
        default = "must be given"
    else:
        value = base[name] if row["unreadable"] else row["default"]
        default = f"`{BOOLEANS.get(value, value)}`" if value else ""
    return Setting(name, row["meaning"] or MEANINGS[name], default, row["secret"])


def said_by(code: str, manifests: Manifests, **switches: str) -> Any:
    """The JSON that code prints in a process that has every function's environment, and their names as arguments."""
    manifests.lay_over(SECRETS)
    functions = sorted(path.parent.name for path in (ROOT / "functions").glob("*/main.py"))
    with tempfile.TemporaryDirectory() as mounts:
        values = {"PYTHONPATH": str(ROOT), "BROWSER_NODE_URL": "http://nowhere", **switches}
        for service in manifests.services():
            values |= environment(manifests, service, Path(mounts), {})
        argv = [sys.executable, "-W", "ignore", "-c", code, *functions]
        return json.loads(subprocess.run(argv, env=values, stdout=subprocess.PIPE, text=True, check=True).stdout)
