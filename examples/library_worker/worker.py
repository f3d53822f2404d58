"""A worker by the library: validates circuits at Octotel, with login code and evidence."""

from __future__ import annotations

import os

from playwright.async_api import Page

from rpa_worker import BusinessFailure, Job, TotpRejected, Worker

CODE_TRIES = 3

# `make up` misses a worker after 6 s of silence, a cluster after 60.
worker = Worker(capacity=int(os.environ.get("CAPACITY", "2")), heartbeat_seconds=2)


@worker.action("octotel", "validation")
async def validate(job: Job) -> dict[str, object]:
    """Log in, ask for the circuit, keep what the portal showed."""
    page = await job.page()
    await log_in(job, page)
    job.phase = "asking for the circuit"
    await page.fill("#circuit", str(job.parameters["circuit"]))
    await page.select_option("#action", "validation")
    await page.click("button")
    await page.wait_for_selector("#outcome")
    await job.evidence("outcome.png", await page.screenshot(), "image/png")
    if await page.query_selector("#error"):
        raise BusinessFailure(await page.inner_text("#error"), await page.inner_text("#reason"))
    return {"reference": await page.inner_text("#reference")}


async def log_in(job: Job, page: Page) -> None:
    """With a password and a code that the portal may refuse: its clock may be off, or a person used the account."""
    job.phase = "logging in"
    portal = job.portal
    await page.goto(portal.url)
    await page.fill("#username", portal.username)
    await page.fill("#password", portal.password)
    await page.click("button")
    for count in range(CODE_TRIES):
        job.phase = "waiting for a login code"
        await page.fill("#code", await job.totp(rejected=count > 0))
        await page.click("button")
        if await page.query_selector("#user"):
            return
    raise TotpRejected(f"the portal refused {CODE_TRIES} login codes")


if __name__ == "__main__":
    worker.run()
