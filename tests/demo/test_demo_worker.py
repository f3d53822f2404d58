"""The demo worker at the demo portals, in a real browser."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import AsyncIterator

import httpx
import pyotp
import pytest

from demo.portal import Portal
from demo.worker import worker
from tests.counterparts import Client, OrchestratorStandIn, running_browser
from tests.serving import reachable, serving

SEED = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
async def browser_url() -> AsyncIterator[str]:
    async with running_browser() as url:
        yield url


@pytest.fixture(scope="module")
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """The demo worker, served, with portals that know the accounts in its environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCTOTEL_TOTP_SECRET", SEED)
        for prefix in ("OCTOTEL", "METROFIBER"):
            patch.setenv(f"{prefix}_USERNAME", "demo")
            patch.setenv(f"{prefix}_PASSWORD", "demo-password")
        async with serving(Portal(os.environ).app) as portals, serving(worker.app) as url:
            patch.setenv("OCTOTEL_URL", f"{portals}/octotel")
            patch.setenv("METROFIBER_URL", f"{portals}/metrofiber")
            async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
                yield client


async def test_order(http: httpx.AsyncClient, orchestrator: OrchestratorStandIn, browser_url: str) -> None:
    """The worker logs in, with a second code where the portal refuses the first, and keeps two pictures."""
    totp = pyotp.TOTP(SEED)
    orchestrator.codes = iter([totp.at(0), totp.at(int(time.time()))])
    await Client(http, orchestrator).execute(browser_service_url=browser_url)
    report = await orchestrator.completed()
    assert report["failure"] is None
    assert report["result"]["circuit"] == "C-1"
    assert report["result"]["reference"].startswith("OCT-")
    assert orchestrator.calls("totp") == [("octotel", {}), ("octotel", {"rejected": True})]
    pictures = {name: content for name, _, content in orchestrator.calls("evidence")}
    assert list(pictures) == ["logged-in.png", "outcome.png"]
    assert all(content.startswith(PNG) for content in pictures.values())


async def test_refused_order(http: httpx.AsyncClient, orchestrator: OrchestratorStandIn, browser_url: str) -> None:
    """What the portal does not know is a business failure, with a picture of its refusal."""
    order = {"provider": "metrofiber", "action": "cancellation", "parameters": {"circuit": "UNKNOWN-1"}}
    await Client(http, orchestrator).execute(2, browser_service_url=browser_url, **order)
    report = await orchestrator.completed()
    assert report["failure"]["kind"] == "business"
    assert report["failure"]["code"] == "circuit_unknown"
    assert report["totp_used"] is False
    assert "outcome.png" in report["evidence"]


async def test_dies_once(orchestrator: OrchestratorStandIn) -> None:
    """A job may ask for a worker that dies at its first attempt; a worker started anew performs the second."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {**os.environ, "PORT": str(port)}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "demo.worker", env=environment)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        await reachable(client)
        await Client(client, orchestrator).execute(parameters={"circuit": "C-1", "demo": "die_once"})
        assert await process.wait() == 1
    assert not orchestrator.calls("complete")
