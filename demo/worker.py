"""The demo's worker: validates and cancels circuits at four portals that happen to look alike."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from playwright.async_api import Page

from rpa_worker import BusinessFailure, Job, TotpRejected, Worker

PROVIDERS = ("metrofiber", "octotel", "openserve", "evotel")
ACTIONS = ("validation", "cancellation")
CODE_TRIES = 3

worker = Worker(capacity=int(os.environ.get("CAPACITY", "4")), heartbeat_seconds=2, drain_seconds=10)


async def order(job: Job) -> dict[str, Any]:
    """Log in, send the order, keep what the portal showed."""
    await _demonstrate(job)
    page = await job.page()
    await _log_in(job, page)
    await job.evidence("logged-in.png", await page.screenshot(), "image/png")
    await _send_order(job, page)
    await job.evidence("outcome.png", await page.screenshot(), "image/png")
    if await page.get_attribute("#outcome", "data-outcome") == "refused":
        raise BusinessFailure(await page.inner_text("#error"), await page.inner_text("#reason"))
    return {"circuit": job.parameters["circuit"], "reference": await page.inner_text("#reference")}


async def _log_in(job: Job, page: Page) -> None:
    job.phase = "logging in"
    portal = job.portal
    await page.goto(portal.url)
    await page.fill("#username", portal.username)
    await page.fill("#password", portal.password)
    await _linger(job)
    await page.click("button")
    if page.url.endswith("/code"):
        await _give_code(job, page)
    await page.wait_for_selector("#user")


async def _give_code(job: Job, page: Page) -> None:
    """A code may be refused where a clock is off or people use the account too."""
    for count in range(CODE_TRIES):
        job.phase = "waiting for a login code"
        await page.fill("#code", await job.totp(rejected=count > 0))
        job.phase = "giving the login code"
        await _linger(job)
        await page.click("button")
        if await page.query_selector("#code") is None:
            return
    raise TotpRejected(f"the portal refused {CODE_TRIES} login codes")


async def _send_order(job: Job, page: Page) -> None:
    job.phase = f"sending the {job.action}"
    await page.fill("#circuit", str(job.parameters["circuit"]))
    await page.select_option("#action", job.action)
    await _linger(job)
    await page.click("button")
    await page.wait_for_selector("#outcome")


async def _demonstrate(job: Job) -> None:
    """What a job may ask for to show how failures end: a worker that dies, or one that is slow to begin."""
    demonstration = job.parameters.get("demo")
    if demonstration == "die_once" and job.attempt == 1:
        await asyncio.sleep(0.5)  # the orchestrator knows by now who has the job
        os._exit(1)
    if isinstance(demonstration, dict):
        await asyncio.sleep(demonstration.get("hold_seconds", 0))


async def _linger(job: Job) -> None:
    """So that people can watch."""
    demonstration = job.parameters.get("demo")
    if isinstance(demonstration, dict):
        await asyncio.sleep(demonstration.get("step_seconds", 0))


for provider in PROVIDERS:
    for action in ACTIONS:
        worker.action(provider, action)(order)

if __name__ == "__main__":
    worker.run(host=os.environ.get("HOST", "127.0.0.1"))
