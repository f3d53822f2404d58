"""Who reaches whom: the base's NetworkPolicies, on a cluster whose network enforces them."""

from __future__ import annotations

import asyncio
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.kube import KubectlError, items, kubectl, until
from tests.cluster.test_images import FUNCTIONS_IMAGE

POLICIES = Path(__file__).parents[2] / "knative" / "base" / "12-networkpolicies.yaml"
PORTS = (3000, 5432, 8080, 8081)
LISTEN = "; ".join(
    [
        "import socket, threading",
        f"sockets = [socket.create_server(('0.0.0.0', port)) for port in {PORTS}]",
        "threading.Event().wait()",
    ]
)
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2)"
DENY_ALL = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny-all}
spec: {podSelector: {}, policyTypes: [Ingress]}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: %(name)s, labels: {%(labels)s}}
spec:
  terminationGracePeriodSeconds: 0
  securityContext: {runAsNonRoot: true, runAsUser: 1001, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: listener
      image: %(image)s
      command: [python, -c, "%(listen)s"]
      readinessProbe: {tcpSocket: {port: 3000}}
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
"""


@dataclass
class Place:
    """A pod, by its namespace and name."""

    namespace: str
    name: str

    async def address(self) -> str:
        """Its IP address."""
        pod = (await items("pod", self.namespace, f"--field-selector=metadata.name={self.name}"))[0]
        return str(pod["status"]["podIP"])

    async def reaches(self, host: str, port: int) -> bool:
        """Whether a connection from it comes about."""
        try:
            await kubectl("exec", "-n", self.namespace, self.name, "--", "python", "-c", CONNECT, host, str(port))
        except KubectlError as error:
            if "OSError" in str(error) or "TimeoutError" in str(error) or "refused" in str(error).lower():
                return False
            raise
        return True


async def _pod(namespace: str, name: str, labels: str = "") -> Place:
    document = POD % {"name": name, "labels": labels, "image": FUNCTIONS_IMAGE, "listen": LISTEN}
    await kubectl("apply", "-n", namespace, "-f", "-", stdin=document)
    await kubectl("wait", "-n", namespace, f"pod/{name}", "--for=condition=Ready", "--timeout=60s")
    return Place(namespace, name)


@dataclass
class Town:
    """A namespace of functions with its worker and database, one of browsers, and one of somebody else."""

    browser: Place
    worker: Place
    dispatch: Place
    function: Place
    database: Place
    stranger: Place


@pytest.fixture(scope="module")
async def town(cluster: Cluster) -> Town:
    """The policies in namespaces of this run's own."""
    functions, browsers, elsewhere = [await cluster.make_namespace() for _ in range(3)]
    policies = POLICIES.read_text().replace("namespace: rpa-browsers", f"namespace: {browsers}")
    policies = policies.replace("namespace: rpa\n", f"namespace: {functions}\n")
    policies = policies.replace("metadata.name: rpa}", f"metadata.name: {functions}}}")
    # Probes of the kubelet show that a policy does not cut the node off.
    await kubectl("apply", "-f", "-", stdin=policies)
    places = await asyncio.gather(
        _pod(browsers, "browser"),
        _pod(functions, "worker", "app.kubernetes.io/component: worker"),
        _pod(functions, "dispatch", "serving.knative.dev/service: dispatch-job"),
        _pod(functions, "function", "serving.knative.dev/service: submit-job"),
        _pod(functions, "database"),
        _pod(elsewhere, "stranger"),
    )
    running = Town(*places)
    await _enforced(elsewhere, running)
    return running


async def _enforced(namespace: str, town: Town) -> None:
    """Skip where a policy that forbids everything changes nothing, unless NETWORK_POLICIES says that it must."""
    target = await _pod(namespace, f"target-{secrets.token_hex(2)}")
    address = await target.address()
    assert await town.worker.reaches(address, 3000)
    await kubectl("apply", "-n", namespace, "-f", "-", stdin=DENY_ALL)

    async def refused() -> bool:
        return not await town.worker.reaches(address, 3000)

    try:
        await until(refused, within=15)
    except TimeoutError:
        if os.environ.get("NETWORK_POLICIES") == "enforced":
            raise
        pytest.skip("the network of this cluster enforces no NetworkPolicy")


async def test_workers_alone_reach_browsers_and_their_socket_alone(town: Town) -> None:
    """A worker reaches the WebSocket's port and no other; nobody else reaches any."""
    address = await town.browser.address()
    assert await town.worker.reaches(address, 3000)
    assert not await town.worker.reaches(address, 8081)
    for other in (town.dispatch, town.function, town.database, town.stranger):
        assert not await other.reaches(address, 3000), other


async def test_dispatch_job_alone_reaches_workers(town: Town) -> None:
    """At whatever port they chose; no page and no other function can give one an order."""
    address = await town.worker.address()
    assert await town.dispatch.reaches(address, 8080)
    for other in (town.browser, town.function, town.database, town.stranger):
        assert not await other.reaches(address, 8080), other


async def test_browsers_reach_nothing_of_the_cluster(town: Town) -> None:
    """Neither databases nor functions nor the API server; names they can still look up."""
    assert not await town.browser.reaches(await town.database.address(), 5432)
    assert not await town.browser.reaches(await town.function.address(), 8080)
    assert not await town.browser.reaches(await town.stranger.address(), 8080)
    api = (await items("service", "default", "--field-selector=metadata.name=kubernetes"))[0]["spec"]["clusterIP"]
    assert not await town.browser.reaches(api, 443)
    lookup = "import socket; socket.getaddrinfo('kubernetes.default.svc.cluster.local', 443)"
    await kubectl("exec", "-n", town.browser.namespace, town.browser.name, "--", "python", "-c", lookup)


async def test_functions_are_reached_through_knative_alone(town: Town) -> None:
    """Past the activator and the gateway nobody reaches a function's pod; what is no function is reached as ever."""
    address = await town.function.address()
    for other in (town.worker, town.database, town.stranger):
        assert not await other.reaches(address, 8080), other
    assert await town.function.reaches(await town.database.address(), 5432)
