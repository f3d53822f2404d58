"""A browser's life as a pod: created once, ready, used, deleted."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from playwright.async_api import async_playwright

from shared.browsers import BrowserFailed, BrowserSpec, BrowsersUnavailable, Phase
from shared.browsers.kubernetes import KubernetesBrowsers
from shared.browsers.manifest import manifest
from shared.config import BrowserSettings, load
from tests.cluster.cluster import Cluster, eventually
from tests.cluster.conftest import BROWSER_IMAGE, Place
from tests.cluster.kube import kubectl


async def title(address: str, path: str) -> str:
    """What a worker sees that opens a page with this browser."""
    async with async_playwright() as playwright:
        browser = await playwright.firefox.connect(f"ws://{address}{path}")
        page = await browser.new_page()
        await page.set_content("<title>Works</title>")
        try:
            return await page.title()
        finally:
            await browser.close()


async def refused(address: str, path: str) -> bool:
    """Whether a stranger's connection is refused."""
    async with async_playwright() as playwright:
        with pytest.raises(Exception, match=r"40\d|closed|socket"):
            await playwright.firefox.connect(f"ws://{address}{path}", timeout=5000)
        return True


async def names(browsers: KubernetesBrowsers) -> list[str]:
    """Of all browsers that exist."""
    return [browser.name async for browser in browsers.list()]


async def test_a_browser_is_created_used_and_deleted(place: Place, spec: BrowserSpec) -> None:
    """Playwright connects to the pod's address, with the secret path only; deleting twice is fine."""
    browsers = place()
    created = await browsers.create(spec)
    assert (created.phase, created.job_id, created.attempt) == (Phase.STARTING, 7, 1)
    ready = await browsers.wait_ready(spec.name, timeout=60)
    assert ready.phase is Phase.READY
    assert ready.address
    assert await title(ready.address, spec.secret_path) == "Works"
    assert await refused(ready.address, "/guessed")
    (listed,) = [browser async for browser in browsers.list() if browser.name == spec.name]
    assert listed == ready
    await browsers.delete(spec.name)
    await browsers.delete(spec.name)

    async def ended() -> bool:
        return spec.name not in await names(browsers)

    await eventually(ended)
    with pytest.raises(BrowserFailed, match="gone"):
        await browsers.wait_ready(spec.name, timeout=5)
    await browsers.delete(spec.name)


async def test_a_browser_compiles_nothing_of_itself(place: Place, namespace: str, spec: BrowserSpec) -> None:
    """It takes what was compiled when its image was built; what does not fit, it would make anew."""
    browsers = place()
    await browsers.create(spec)
    await browsers.wait_ready(spec.name, timeout=60)
    used = "$(echo /tmp/playwright_*/startupCache)"
    script = f"cd /app/profile/startupCache; for it in *; do cmp $it {used}/$it; find {used}/$it -newer $it; done"
    assert await kubectl("exec", "-n", namespace, spec.name, "--", "sh", "-c", script) == ""
    await browsers.delete(spec.name)


async def test_creating_at_once_makes_one(place: Place, cluster: Cluster, namespace: str, spec: BrowserSpec) -> None:
    """Whoever is second adopts it, and both see it get ready."""
    browsers = place()
    both = await asyncio.gather(browsers.create(spec), place().create(spec))
    assert [browser.name for browser in both] == [spec.name] * 2
    assert [p["metadata"]["name"] for p in await cluster.pods(namespace)].count(spec.name) == 1
    ready = await asyncio.gather(*(browsers.wait_ready(spec.name, timeout=60) for _ in both))
    assert ready[0] == ready[1] == await browsers.create(spec)
    await browsers.delete(spec.name)


async def test_one_that_is_ending_is_not_adopted(place: Place, spec: BrowserSpec) -> None:
    """Its name is free again soon: whoever wants it tries again."""
    browsers = place()
    await browsers.create(spec)
    await browsers.wait_ready(spec.name, timeout=60)
    await browsers.delete(spec.name)
    with pytest.raises(BrowsersUnavailable, match="still ending"):
        await browsers.create(spec)

    async def created() -> bool:
        try:
            return bool(await browsers.create(spec))
        except BrowsersUnavailable:
            return False

    await eventually(created)
    await browsers.delete(spec.name)


async def test_one_that_nobody_can_reach_is_replaced(place: Place, spec: BrowserSpec) -> None:
    """Made with another signing key, its secret path is not the one that its worker would be given."""
    browsers = place()
    await browsers.create(spec)
    after_rotation = replace(spec, secret_path="/made-with-a-newer-signing-key")
    with pytest.raises(BrowsersUnavailable, match="another secret path"):
        await browsers.create(after_rotation)

    async def created() -> bool:
        try:
            return bool(await browsers.create(after_rotation))
        except BrowsersUnavailable:
            return False

    await eventually(created)
    await browsers.delete(spec.name)


async def test_a_warm_one_has_no_attempt(place: Place, spec: BrowserSpec) -> None:
    """It is listed like any other."""
    browsers = place()
    await browsers.create(replace(spec, job_id=None, attempt=None))
    (listed,) = [browser async for browser in browsers.list() if browser.name == spec.name]
    assert (listed.job_id, listed.attempt) == (None, None)
    await browsers.delete(spec.name)


async def test_a_browser_ends_when_its_lifetime_is_over(place: Place, spec: BrowserSpec) -> None:
    """Kubernetes itself ends it, whoever else is dead; it is listed as failed and says why."""
    browsers = place()
    await browsers.create(replace(spec, lifetime_seconds=1))
    with pytest.raises(BrowserFailed, match="DeadlineExceeded"):
        await browsers.wait_ready(spec.name, timeout=60)
    (listed,) = [browser async for browser in browsers.list() if browser.name == spec.name]
    assert listed.phase is Phase.FAILED
    assert listed.reason
    assert listed.reason.startswith("DeadlineExceeded")
    with pytest.raises(BrowserFailed, match="DeadlineExceeded"):
        await browsers.create(spec)
    await browsers.delete(spec.name)


async def test_any_user_of_group_0_runs_it(place: Place, cluster: Cluster, namespace: str, spec: BrowserSpec) -> None:
    """As OpenShift chooses one for each namespace; the root is read-only anyway."""
    browsers = place()
    settings = load(BrowserSettings, {"NAMESPACE": namespace, "BROWSER_SERVICE_IMAGE": BROWSER_IMAGE})
    pod = manifest(spec, settings)
    pod["spec"]["securityContext"] |= {"runAsUser": 1000730001, "runAsGroup": 0, "fsGroup": 1000730001}
    await cluster.api.call("POST", f"/api/v1/namespaces/{namespace}/pods", body=pod)
    ready = await browsers.wait_ready((await browsers.create(spec)).name, timeout=60)
    assert ready.address
    assert await title(ready.address, spec.secret_path) == "Works"
    await browsers.delete(spec.name)
