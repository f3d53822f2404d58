"""Secrets and ConfigMaps: every value without which a function does not start. Values are never shown."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping

from kn_rpa.doctor.deployment import Deployment
from kn_rpa.doctor.expected import CONFIG_MAPS, NEEDED_KEYS, PLACEHOLDER, SEEDS
from kn_rpa.doctor.finding import Finding, bad, good
from kn_rpa.kube import Absent, Thing

NEW_KEY = "$(openssl rand -base64 48 | tr -d '\\n')"
"""A signing key that nobody has to know, so that the command is whole."""


def check_secrets(deployment: Deployment) -> Iterator[Finding]:
    """Every key that the functions name is there and filled in."""
    needed = _needed(deployment)
    found = [finding for name, keys in sorted(needed.items()) for finding in _secret(deployment, name, keys)]
    yield from found or [good("secrets", f"{', '.join(sorted(needed))}: every key is there")]


def _secret(deployment: Deployment, name: str, keys: set[str]) -> Iterator[Finding]:
    try:
        known = deployment.cluster.secret(name)
    except Absent:
        literals = " ".join(f"--from-literal={key}={_value(key)}" for key in sorted(keys))
        make = deployment.kubectl(f"create secret generic {name} {literals}")
        yield bad("secrets", f"{name} is missing", f"{make} && {deployment.restart()}")
        return
    for key in sorted(keys):
        value = known.get(key, "")
        if not value or PLACEHOLDER in value:
            wrong = f"still has {PLACEHOLDER} for" if value else "has no"
            yield bad("secrets", f"{name} {wrong} {key}", fill_in(deployment, name, key))


def fill_in(deployment: Deployment, name: str, key: str) -> str:
    """The command that gives a Secret's key its VALUE, which the caller knows."""
    if key == "JWT_SECRET_KEY":
        text = f'"{{\\"stringData\\": {{\\"{key}\\": \\"{NEW_KEY}\\"}}}}"'
    else:
        text = shlex.quote(json.dumps({"stringData": {key: "VALUE"}}))
    patch = deployment.kubectl(f"patch secret {name} --type merge -p {text}")
    return f"{patch} && {deployment.restart()}"


def _value(key: str) -> str:
    return f'"{NEW_KEY}"' if key == "JWT_SECRET_KEY" else "VALUE"


def _needed(deployment: Deployment) -> dict[str, set[str]]:
    """Names and keys: what this version always needs, what the Services name, and the seeds of login codes."""
    needed = {name: set(keys) for name, keys in NEEDED_KEYS.items()}
    for service in deployment.services().values():
        for container in service["spec"]["template"]["spec"]["containers"]:
            for reference in _references(container):
                needed.setdefault(reference["name"], set()).add(reference["key"])
    seeds = {f"{account}_TOTP_SECRET" for account in accounts_with_codes(deployment.config("rpa-providers"))}
    return needed | ({SEEDS: seeds} if seeds else {})


def _references(container: Thing) -> Iterator[Thing]:
    for entry in container.get("env", []):
        reference = entry.get("valueFrom", {}).get("secretKeyRef")
        if reference and not reference.get("optional"):
            yield reference


def accounts_with_codes(providers: Mapping[str, str]) -> Iterator[str]:
    """Accounts that need login codes, as 21-providers.yaml has them."""
    import yaml

    for file, text in providers.items():
        try:
            entry = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError):
            continue  # the function that reads it says so
        if isinstance(entry, dict) and entry.get("totp", "none") != "none":
            default = file.removesuffix(".yaml").upper().replace("-", "_")
            accounts = entry.get("accounts", [{"credentials": default}])
            known = [it for it in accounts if isinstance(it, dict)] if isinstance(accounts, list) else []
            yield from (str(it["credentials"]) for it in known if "credentials" in it)


def check_config(deployment: Deployment) -> Iterator[Finding]:
    """The ConfigMaps are there."""
    missing = [name for name in CONFIG_MAPS if not deployment.config(name)]
    if missing:
        yield bad("config", f"ConfigMap {', '.join(missing)} is missing or empty", deployment.apply())
    else:
        yield good("config", f"{', '.join(CONFIG_MAPS)}; browsers run in {deployment.browsers}")
