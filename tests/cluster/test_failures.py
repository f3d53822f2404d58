"""A browser that will not be ready is reported within seconds, in the words of Kubernetes."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from shared.browsers import BrowserError, BrowserFailed, BrowserSpec, BrowsersUnavailable, Phase
from shared.browsers.api import connect
from shared.browsers.readiness import ROOM_SECONDS
from tests.cluster.cluster import Cluster, eventually
from tests.cluster.conftest import VERBS, Place

OTHER_IMAGE = os.environ.get("FUNCTIONS_IMAGE", "dev.local/rpa-functions:1")
SOON = 15.0
"""Seconds; a browser may take 60."""


@asynccontextmanager
async def failing(kind: type[BrowserError], match: str, within: float = SOON) -> AsyncIterator[None]:
    """The error with this reason, soon."""
    started = time.monotonic()
    with pytest.raises(kind, match=match):
        yield
    assert time.monotonic() - started < within


async def test_an_image_that_is_nowhere(place: Place, spec: BrowserSpec) -> None:
    """The image's name is in the reason; it is listed as failed too."""
    browsers = place(BROWSER_SERVICE_IMAGE="dev.local/no-such-image:1")
    await browsers.create(spec)
    async with failing(BrowserFailed, r"^(ErrImagePull|ImagePullBackOff): .*no-such-image"):
        await browsers.wait_ready(spec.name, timeout=60)
    (listed,) = [browser async for browser in browsers.list() if browser.name == spec.name]
    assert listed.phase is Phase.FAILED
    await browsers.delete(spec.name)


async def test_an_image_that_cannot_be(place: Place, spec: BrowserSpec) -> None:
    """A slip in BROWSER_SERVICE_IMAGE."""
    browsers = place(BROWSER_SERVICE_IMAGE="dev.local/Not-A-Name")
    await browsers.create(spec)
    async with failing(BrowserFailed, r"^InvalidImageName: .*Not-A-Name"):
        await browsers.wait_ready(spec.name, timeout=60)
    await browsers.delete(spec.name)


async def test_a_container_that_crashes(place: Place, spec: BrowserSpec) -> None:
    """The exit code and the last words of its log; here, of an image that is not a browser."""
    browsers = place(BROWSER_SERVICE_IMAGE=OTHER_IMAGE)
    await browsers.create(spec)
    async with failing(BrowserFailed, r"^Error \(exit code \d+\): .*FUNCTION_TARGET"):
        await browsers.wait_ready(spec.name, timeout=60)
    await browsers.delete(spec.name)


async def test_a_node_that_is_drained(place: Place, cluster: Cluster, namespace: str, spec: BrowserSpec) -> None:
    """A browser in use is lost with it, and that is said while it goes."""
    browsers = place()
    await browsers.create(spec)
    await browsers.wait_ready(spec.name, timeout=60)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": spec.name, "namespace": namespace}}
    await cluster.api.call("POST", f"/api/v1/namespaces/{namespace}/pods/{spec.name}/eviction", body=eviction)
    async with failing(BrowserFailed, "^EvictionByEvictionAPI: "):
        await browsers.wait_ready(spec.name, timeout=60)


async def test_no_node_has_room(place: Place, spec: BrowserSpec) -> None:
    """The job waits for room and costs no attempt; the pod stays, so that a node may be added for it."""
    browsers = place(BROWSER_MEMORY_REQUEST="4000Gi", BROWSER_MEMORY_LIMIT="4000Gi")
    await browsers.create(spec)
    async with failing(BrowsersUnavailable, r"^Unschedulable: .*Insufficient memory", within=ROOM_SECONDS + 5):
        await browsers.wait_ready(spec.name, timeout=60)
    (listed,) = [browser async for browser in browsers.list() if browser.name == spec.name]
    assert (listed.phase, (await browsers.create(spec)).name) == (Phase.STARTING, spec.name)
    assert listed.reason
    assert "Insufficient memory" in listed.reason
    await browsers.delete(spec.name)


async def test_the_quota_is_used_up(place: Place, cluster: Cluster, spec: BrowserSpec) -> None:
    """The job waits for room."""
    namespace = await cluster.make_namespace()
    quotas = f"/api/v1/namespaces/{namespace}/resourcequotas"
    await cluster.api.call("POST", quotas, body={"metadata": {"name": "few"}, "spec": {"hard": {"pods": "0"}}})

    async def known() -> bool:
        return "used" in (await cluster.api.call("GET", f"{quotas}/few"))["status"]

    await eventually(known)
    async with failing(BrowsersUnavailable, r"no room in namespace .* exceeded quota: few"):
        await place(connect, NAMESPACE=namespace).create(spec)


async def test_a_pod_that_is_not_valid(place: Place, spec: BrowserSpec, caplog: pytest.LogCaptureFixture) -> None:
    """Waiting cannot help, so the attempt fails; what is wrong is named, for the operator too."""
    browsers = place(BROWSER_MEMORY_REQUEST="2Gi", BROWSER_MEMORY_LIMIT="1Gi")
    async with failing(BrowserFailed, r"Kubernetes refuses the pod: .*must be less than or equal to memory limit"):
        await browsers.create(spec)
    assert "browsers misconfigured" in [r.message for r in caplog.records if r.levelno == logging.ERROR]


async def test_the_namespace_does_not_admit_it(place: Place, cluster: Cluster, spec: BrowserSpec) -> None:
    """A LimitRange, a security level or a webhook says no: the jobs wait until an operator has mended it."""
    namespace = await cluster.make_namespace()
    limits = [{"type": "Container", "max": {"memory": "64Mi"}}]
    ranges = f"/api/v1/namespaces/{namespace}/limitranges"
    await cluster.api.call("POST", ranges, body={"metadata": {"name": "small"}, "spec": {"limits": limits}})
    async with failing(BrowsersUnavailable, r"does not admit the pod: .*maximum memory usage"):
        await place(connect, NAMESPACE=namespace).create(spec)


@pytest.mark.parametrize("missing", VERBS)
async def test_a_missing_right_is_named(
    missing: str,
    place: Place,
    cluster: Cluster,
    namespace: str,
    spec: BrowserSpec,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Who lacks which right where; the jobs wait meanwhile, and the log says it as an error."""
    verbs = [verb for verb in VERBS if verb != missing]
    token = await cluster.make_account(namespace, f"without-{missing}", verbs)
    browsers = place(cluster.connects_with(token))
    right = f"the ServiceAccount {namespace}:without-{missing} may not {missing} pods in namespace {namespace}; grant"
    async with failing(BrowsersUnavailable, right):
        await browsers.create(spec)
        await browsers.wait_ready(spec.name, timeout=60)
        _ = [browser async for browser in browsers.list()]
        await browsers.delete(spec.name)
    assert "browsers misconfigured" in [r.message for r in caplog.records if r.levelno == logging.ERROR]
    await place().delete(spec.name)


async def test_a_namespace_that_is_not_there(place: Place, spec: BrowserSpec) -> None:
    """It is named."""
    browsers = place(connect, NAMESPACE="rpa-not-there")
    async with failing(BrowsersUnavailable, r'namespaces "rpa-not-there" not found'):
        await browsers.create(spec)


async def test_a_token_that_is_refused(place: Place, cluster: Cluster, spec: BrowserSpec) -> None:
    """It may be a new cluster, or a ServiceAccount that was deleted."""
    browsers = place(cluster.connects_with("made-up"))
    async with failing(BrowsersUnavailable, "does not take our token"):
        await browsers.create(spec)
    async with failing(BrowsersUnavailable, "does not take our token"):
        await browsers.wait_ready(spec.name, timeout=10)
