"""`kn rpa doctor` of a deployment whose API server is a stand-in; tests/cluster breaks real ones."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable

import pytest

from tests.plugin.cluster import KUBECONFIG, ClusterStandIn, Thing, ready, secrets
from tests.plugin.terminal import Shell, matches_snapshot
from tests.serving import serving

DOCTOR = ("doctor", "-n", "rpa")


@pytest.fixture
async def cluster(shell: Shell) -> AsyncIterator[ClusterStandIn]:
    """The one of the shell's kubeconfig."""
    stand_in = ClusterStandIn()
    async with serving(stand_in.app()) as url:
        (shell.folder / "kubeconfig").write_text(KUBECONFIG.replace("URL", url))
        shell.environment["KUBECONFIG"] = str(shell.folder / "kubeconfig")
        yield stand_in


async def bad(shell: Shell) -> list[tuple[str, str, str]]:
    """Each broken part, what is said of it, and what mends it."""
    said = await shell.run(*DOCTOR, "-o", "json")
    assert said.code == 2
    return [(it["part"], it["says"], it["mend"]) for it in json.loads(said.out)["items"] if it["state"] == "bad"]


async def test_a_deployment_that_is_well(shell: Shell, cluster: ClusterStandIn) -> None:  # noqa: ARG001 - it is asked
    """Every part is looked at, the cluster's first."""
    matches_snapshot("doctor_of_a_cluster", await shell.says(*DOCTOR))


async def test_secrets_that_nobody_filled_in(shell: Shell, cluster: ClusterStandIn) -> None:
    """Each is named, with the command that fills it in: the address that has a placeholder as its password, too."""
    cluster.things |= secrets("CHANGE-ME")
    names = {
        "rpa-database": "DATABASE_URL",
        "rpa-tokens": "JWT_SECRET_KEY",
        "rpa-admin": "ADMIN_PASSWORD",
        "rpa-ords": "CALLBACK_AUTH_TOKEN",
        "rpa-totp": "OCTOTEL_TOTP_SECRET",
    }
    told = {says: mend for part, says, mend in await bad(shell) if part == "secrets"}
    assert told.keys() == {f"{name} still has CHANGE-ME for {key}" for name, key in names.items()}
    for (name, key), (_, mend) in zip(sorted(names.items()), sorted(told.items()), strict=True):
        assert mend.startswith(f"kubectl patch secret {name} ")
        assert key in mend


def without(name: str) -> Callable[[ClusterStandIn], Thing]:
    """Takes a thing away."""
    return lambda cluster: cluster.things.pop(cluster.path(name))


def not_ready(cluster: ClusterStandIn) -> None:
    """As Knative says it of a revision that does not come up."""
    cluster.things[cluster.path("services/notify")]["status"] = ready("False", "Revision failed\nits container exited")


LAST_WORDS = """ERROR:    Exception in 'lifespan' protocol
Traceback (most recent call last):
  File "/app/shared/config.py", line 51, in load
    raise ConfigError("\\n".join(problems)) from None
shared.config.ConfigError: CALLBACK_TIMEOUT: must be a number
CALLBACK_URL: is missing
ERROR:    Application startup failed. Exiting.
"""
NAMED = "shared.config.ConfigError: CALLBACK_TIMEOUT: must be a number; CALLBACK_URL: is missing"


def ended(cluster: ClusterStandIn) -> None:
    """As the kubelet says it of one that has just ended, before it is started again."""
    crashing(cluster)
    (state,) = cluster.things["/api/v1/namespaces/rpa/pods/notify-2-a"]["status"]["containerStatuses"]
    state |= {"state": {"terminated": {"exitCode": 3, "message": LAST_WORDS}}, "lastState": {}, "ready": False}


def crashing(cluster: ClusterStandIn) -> None:
    """As the kubelet says it of a function that ends at once."""
    cluster.things[cluster.path("services/notify")]["status"] = {"latestCreatedRevisionName": "notify-2"}
    labels = {"serving.knative.dev/service": "notify", "serving.knative.dev/revision": "notify-2"}
    state = {
        "name": "user-container",
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
        "lastState": {"terminated": {"exitCode": 3, "message": LAST_WORDS}},
    }
    cluster.things["/api/v1/namespaces/rpa/pods/notify-2-a"] = {
        "metadata": {"name": "notify-2-a", "labels": labels},
        "spec": {"containers": [{"name": "user-container", "image": "dev.local/rpa-functions:1"}]},
        "status": {"containerStatuses": [state]},
    }


APPLY = "kubectl apply -k knative/overlays/mine"
LOGS = "kubectl logs -l serving.knative.dev/service=notify -c user-container --tail=20 -n rpa"


@pytest.mark.parametrize(
    ("broken", "part", "says", "mend"),
    [
        (without("configmaps/rpa-config"), "config", "ConfigMap rpa-config is missing or empty", APPLY),
        (without("configmaps/rpa-providers"), "config", "ConfigMap rpa-providers is missing or empty", APPLY),
        (without("services/notify"), "functions", "Service notify is missing", APPLY),
        (not_ready, "functions", "notify is not ready: its container exited", LOGS),
        (crashing, "functions", f"notify: CrashLoopBackOff: {NAMED}", LOGS),
        (ended, "functions", f"notify: exit code 3: {NAMED}", LOGS),
    ],
    ids=["settings", "portals", "no function", "a function not ready", "a function that ends at once", "has ended"],
)
async def test_what_is_broken_is_named(
    shell: Shell, cluster: ClusterStandIn, broken: Callable[[ClusterStandIn], object], part: str, says: str, mend: str
) -> None:
    """That part alone, with the command that mends it or shows why."""
    broken(cluster)
    assert await bad(shell) == [(part, says, mend)]
