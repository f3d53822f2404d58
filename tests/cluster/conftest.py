"""The cluster of KUBECONFIG, a namespace of its own, and a ServiceAccount with the rights that functions have."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Callable

import pytest

from shared.browsers import BrowserSpec
from shared.browsers.api import Api, connect
from shared.browsers.api_errors import ApiUnreachable
from shared.browsers.kubernetes import KubernetesBrowsers
from shared.config import BrowserSettings, load
from tests.cluster.cluster import Cluster, Connect
from tests.cluster.forwarder import Forwarder
from tests.cluster.knative import System, installed
from tests.serving import serving

BROWSER_IMAGE = os.environ.get("BROWSER_SERVICE_IMAGE", "dev.local/rpa-browser:1")
VERBS = ["create", "get", "list", "watch", "delete"]

Place = Callable[..., KubernetesBrowsers]


@pytest.fixture(scope="session")
async def cluster() -> AsyncIterator[Cluster]:
    """The cluster, as its administrator sees it."""
    api = Api()
    try:
        await api.call("GET", "/version")
    except ApiUnreachable as error:
        pytest.exit(f"these tests need a cluster: set KUBECONFIG ({error})", 2)
    running = Cluster(api)
    yield running
    await running.clean()
    await api.aclose()


@pytest.fixture(scope="session")
async def namespace(cluster: Cluster) -> str:
    """A namespace that admits restricted pods only."""
    return await cluster.make_namespace()


@pytest.fixture(scope="session")
async def token(cluster: Cluster, namespace: str) -> str:
    """Of a ServiceAccount that may do with pods what the functions need, and nothing else."""
    return await cluster.make_account(namespace, "functions", VERBS)


@pytest.fixture
async def place(cluster: Cluster, namespace: str, token: str) -> AsyncIterator[Place]:
    """Makes places that run browsers; settings may be changed."""
    opened: list[KubernetesBrowsers] = []
    as_function = cluster.connects_with(token)

    def open_place(connect: Connect = as_function, **changes: str) -> KubernetesBrowsers:
        settings = {"NAMESPACE": namespace, "BROWSER_SERVICE_IMAGE": BROWSER_IMAGE, "BROWSER_CPU_REQUEST": "50m"}
        opened.append(KubernetesBrowsers(load(BrowserSettings, settings | changes), connect))
        return opened[-1]

    yield open_place
    for browsers in opened:
        await browsers.aclose()


@pytest.fixture
async def way() -> AsyncIterator[Forwarder]:
    """A way to the API that faults can be put into."""
    administrator = await connect()
    forwarder = Forwarder(administrator.configuration.host, administrator.configuration.ssl_ca_cert)
    await administrator.close()
    async with serving(forwarder.app()) as forwarder.url:
        yield forwarder
    await forwarder.aclose()


@pytest.fixture
def spec() -> BrowserSpec:
    """A browser that nobody else asks for."""
    return BrowserSpec(f"rpa-browser-{secrets.token_hex(4)}-1", f"/{secrets.token_urlsafe(24)}", 300, 7, 1)


@pytest.fixture(scope="session")
async def system() -> AsyncIterator[System]:
    """The whole system, installed once."""
    if missing := [name for name in ("KN_INGRESS", "KN_DOMAIN") if name not in os.environ]:
        pytest.exit(f"these tests need a way to the cluster: set {' and '.join(missing)} (CONTRIBUTING.md)", 2)
    async with installed() as running:
        yield running
