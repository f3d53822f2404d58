"""The API's restarts, overload and forgetfulness lose no browser and list none twice."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.responses import Response

from shared.browsers import Browser, BrowserSpec, BrowsersUnavailable, Phase
from shared.browsers.kubernetes import KubernetesBrowsers
from tests.cluster.cluster import Cluster
from tests.cluster.conftest import Place
from tests.cluster.forwarder import Forwarder, refusal
from tests.serving import eventually as soon


@pytest.fixture
def browsers(place: Place, way: Forwarder, cluster: Cluster, token: str) -> KubernetesBrowsers:
    """Browsers at the end of that way."""
    return place(cluster.connects_with(token, way.url))


@pytest.fixture
async def waiting(
    browsers: KubernetesBrowsers, way: Forwarder, spec: BrowserSpec
) -> AsyncIterator[asyncio.Task[Browser]]:
    """Somebody who watches a browser start."""
    await browsers.create(spec)
    task = asyncio.create_task(browsers.wait_ready(spec.name, timeout=60))
    await soon(lambda: way.watches)
    yield task
    task.cancel()
    await browsers.delete(spec.name)


async def test_a_watch_that_breaks_off_is_taken_up_again(way: Forwarder, waiting: asyncio.Task[Browser]) -> None:
    """As when a load balancer or an API server goes."""
    assert way.cut() == 1
    assert (await waiting).phase is Phase.READY
    assert way.watches >= 2


async def test_an_api_that_restarts_loses_no_browser(way: Forwarder, waiting: asyncio.Task[Browser]) -> None:
    """It is away for longer than one call tries; the browser gets ready meanwhile."""
    way.faults.append(lambda _request: refusal(503, "ServiceUnavailable"))
    way.cut()
    refused = len(way.requests)
    await soon(lambda: len(way.requests) > refused + 4)
    way.faults.clear()
    assert (await waiting).phase is Phase.READY


async def test_an_api_that_stays_away_costs_no_attempt(
    way: Forwarder, browsers: KubernetesBrowsers, spec: BrowserSpec
) -> None:
    """Nobody knows how the browser does, so it has not failed."""
    way.faults.append(lambda _request: refusal(503, "ServiceUnavailable"))
    with pytest.raises(BrowsersUnavailable, match="503"):
        await browsers.wait_ready(spec.name, timeout=2)


@pytest.mark.parametrize("status", [200, 410])
async def test_a_version_that_is_forgotten_is_read_anew(
    status: int, way: Forwarder, browsers: KubernetesBrowsers, spec: BrowserSpec
) -> None:
    """The API says so with 410, or in the watch itself."""

    def forgotten(request: Request) -> Response | None:
        if "watch" not in request.query_params:
            return None
        way.faults.clear()
        gone = refusal(410, "Expired")
        return gone if status == 410 else Response(b'{"type": "ERROR", "object": %b}\n' % bytes(gone.body))

    await browsers.create(spec)
    way.faults.append(forgotten)
    assert (await browsers.wait_ready(spec.name, timeout=60)).phase is Phase.READY
    assert way.watches >= 1
    await browsers.delete(spec.name)


async def test_a_busy_api_is_asked_again_when_it_says(
    way: Forwarder, browsers: KubernetesBrowsers, spec: BrowserSpec
) -> None:
    """After its Retry-After; a few times, then the job waits instead."""
    busy = refusal(429, "TooManyRequests", {"Retry-After": "1"})
    way.faults.append(lambda _request: busy)
    started = asyncio.get_running_loop().time()
    with pytest.raises(BrowsersUnavailable, match="429"):
        await browsers.create(spec)
    assert len(way.requests) == 3
    assert asyncio.get_running_loop().time() - started > 2
    way.faults[:] = [lambda _request: way.faults.clear() or busy]  # type: ignore[func-returns-value]
    assert (await browsers.create(spec)).name == spec.name
    await browsers.delete(spec.name)


async def test_a_quota_that_two_write_at_once_is_tried_again(
    way: Forwarder, browsers: KubernetesBrowsers, spec: BrowserSpec
) -> None:
    """A conflict over the quota is not a browser that exists."""
    conflict = refusal(409, "Conflict")
    way.faults[:] = [lambda _request: way.faults.clear() or conflict]  # type: ignore[func-returns-value]
    assert (await browsers.create(spec)).name == spec.name
    await browsers.delete(spec.name)


async def test_an_api_that_is_nowhere(place: Place, cluster: Cluster, spec: BrowserSpec) -> None:
    """Every method says so soon."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        nowhere = f"http://127.0.0.1:{unused.getsockname()[1]}"
    browsers = place(cluster.connects_with("any", nowhere))
    async with asyncio.timeout(10):
        with pytest.raises(BrowsersUnavailable, match="does not answer"):
            await browsers.create(spec)
        with pytest.raises(BrowsersUnavailable, match="does not answer"):
            await browsers.delete(spec.name)
        with pytest.raises(BrowsersUnavailable, match="does not answer"):
            _ = [browser async for browser in browsers.list()]
