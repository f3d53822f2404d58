"""RBAC: the two functions that handle pods may do so, in the browsers' namespace."""

from __future__ import annotations

from collections.abc import Iterator

from kn_rpa.doctor.deployment import Deployment
from kn_rpa.doctor.expected import BROWSER_RIGHTS
from kn_rpa.doctor.finding import Finding, bad, good


def check_rights(deployment: Deployment) -> Iterator[Finding]:
    """Asked of the API server itself, whatever grants it."""
    lacking: dict[str, list[str]] = {}
    for account, needed in BROWSER_RIGHTS.items():
        if verbs := [verb for verb in needed if not _may(deployment, account, verb)]:
            lacking.setdefault(", ".join(verbs), []).append(account)
    for missing, accounts in lacking.items():
        says = f"{' and '.join(accounts)} may not {missing} pods in {deployment.browsers}"
        yield bad("rbac", says, deployment.apply())
    if not lacking:
        yield good("rbac", f"{' and '.join(BROWSER_RIGHTS)} may handle pods in {deployment.browsers}")


def _may(deployment: Deployment, account: str, verb: str) -> bool:
    return deployment.cluster.may(account, verb, "pods", deployment.browsers)
