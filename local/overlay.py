"""What this machine lays over the manifests, and the addresses it tells."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from local.accounts import Account, seeds
from local.datastores import Datastores
from local.manifests import Overrides

ADMIN = "admin"


def overlay(stores: Datastores, secrets: Mapping[str, str], accounts: Iterable[Account]) -> Overrides:
    """The Secrets that base expects, and where the stores are."""
    return {
        "rpa-database": {"DATABASE_URL": stores.database_url},
        "rpa-valkey": {"VALKEY_PASSWORD": stores.valkey_password},
        "rpa-tokens": {"JWT_SECRET_KEY": secrets["jwt_key"]},
        "rpa-admin": {"ADMIN_USERNAME": ADMIN, "ADMIN_PASSWORD": secrets["admin_password"]},
        "rpa-ords": {"CALLBACK_AUTH_TOKEN": secrets["ords_token"]},
        "rpa-totp": seeds(accounts),
        "rpa-config": {"VALKEY_HOST": stores.valkey_host, "VALKEY_PORT": str(stores.valkey_port)},
    }


def own_providers(folder: Path) -> Overrides:
    """The portals of a folder of NAME.yaml files, beside those of the manifests or instead of them."""
    return {"rpa-providers": {file.name: file.read_text() for file in sorted(folder.glob("*.yaml"))}}


def public_environment(
    addresses: Mapping[str, str], broker_url: str, stores: Datastores, secrets: Mapping[str, str]
) -> dict[str, str]:
    """The addresses and the login of a system, for people and tests."""
    return {
        "SUBMIT_URL": addresses["submit-job"],
        "TOTP_URL": addresses["issue-totp"],
        "CALLBACK_URL": addresses["callback"],
        "MONITOR_URL": addresses["monitor"],
        "BROKER_URL": broker_url,
        "DATABASE_URL": stores.database_url,
        "VALKEY_URL": stores.valkey_url,
        "ADMIN_USERNAME": ADMIN,
        "ADMIN_PASSWORD": secrets["admin_password"],
        "ORDS_INBOX_URL": addresses["ords"],
        "PORTAL_URL": addresses["portal"],
        "WORKER_URL": addresses["worker"],
    }


def write_environment(file: Path, environment: Mapping[str, str]) -> None:
    """In shell syntax, whole or not at all, for its owner alone."""
    draft = file.with_suffix(".new")
    draft.touch(0o600)
    draft.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in environment.items()))
    draft.replace(file)
