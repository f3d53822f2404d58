"""A thousand browsers."""

from __future__ import annotations

import asyncio
import secrets

import pytest
from starlette.requests import Request
from starlette.responses import Response

from shared.browsers import BrowserFailed, BrowserSpec
from shared.browsers.kubernetes import KubernetesBrowsers
from shared.browsers.manifest import manifest
from shared.config import BrowserSettings, load
from tests.cluster.cluster import Cluster
from tests.cluster.conftest import VERBS, Place
from tests.cluster.forwarder import Forwarder, refusal

MANY = 1000
WAITING = 150


@pytest.fixture(scope="module")
async def crowded(cluster: Cluster) -> str:
    """A namespace with very many browsers' pods and one without their labels, which cost nothing: none is scheduled."""
    namespace = await cluster.make_namespace()
    settings = load(BrowserSettings, {"BROWSER_SERVICE_IMAGE": "rpa-browser:1"})

    async def create(name: str, number: int, **changes: dict[str, str]) -> None:
        pod = manifest(BrowserSpec(name, "/secret", 300, number, 2), settings)
        pod["spec"]["schedulerName"] = "nobody"
        pod["metadata"] |= changes
        await cluster.api.call("POST", f"/api/v1/namespaces/{namespace}/pods", body=pod)

    async def create_browsers(numbers: range) -> None:
        for number in numbers:
            await create(f"rpa-browser-{number}-2", number)

    await create("another", MANY, labels={})
    await asyncio.gather(*(create_browsers(range(first, MANY, 20)) for first in range(20)))
    return namespace


@pytest.fixture
async def browsers(cluster: Cluster, crowded: str, way: Forwarder, place: Place) -> KubernetesBrowsers:
    """Those, seen by an account that may do what the functions may."""
    token = await cluster.make_account(crowded, f"functions-{secrets.token_hex(3)}", VERBS)
    return place(cluster.connects_with(token, way.url), NAMESPACE=crowded)


async def test_all_are_listed_page_by_page(browsers: KubernetesBrowsers, way: Forwarder) -> None:
    """Each once, with its attempt; others' pods are not browsers."""
    listed = [browser async for browser in browsers.list()]
    assert sorted(b.job_id or 0 for b in listed) == list(range(MANY))
    assert {b.attempt for b in listed} == {2}
    assert len(way.requests) == 5


async def test_a_page_that_is_forgotten_begins_the_list_again(browsers: KubernetesBrowsers, way: Forwarder) -> None:
    """The API compacted what the list began with: each is listed once all the same."""

    def forgotten(request: Request) -> Response | None:
        if not request.query_params.get("continue"):
            return None
        way.faults.clear()
        return refusal(410, "Expired")

    way.faults.append(forgotten)
    listed = [browser.job_id async for browser in browsers.list()]
    assert len(listed) == len(set(listed)) == MANY
    assert len(way.requests) == 7


async def test_many_who_wait_keep_nobody_from_the_api(browsers: KubernetesBrowsers, way: Forwarder) -> None:
    """Each watch holds a connection; creating and deleting go on beside them."""
    async with asyncio.TaskGroup() as tasks:
        for number in range(WAITING):
            name = f"rpa-browser-{number}-2"
            tasks.create_task(_until_deleted(browsers, name))
        async with asyncio.timeout(60):
            while way.watches < WAITING:  # noqa: ASYNC110 - it has no event for that
                await asyncio.sleep(0.05)
            for number in range(WAITING):
                await browsers.delete(f"rpa-browser-{number}-2")


async def _until_deleted(browsers: KubernetesBrowsers, name: str) -> None:
    with pytest.raises(BrowserFailed, match=r"deleted|gone"):
        await browsers.wait_ready(name, timeout=60)
