"""How a worker ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import httpx

from rpa_worker import Job, Worker
from tests.counterparts import Client, OrchestratorStandIn
from tests.serving import eventually, reachable, serving

PROGRAM = """
import asyncio
from rpa_worker import Job, Worker
worker = Worker(heartbeat_seconds=0.1)
@worker.action("octotel", "validation")
async def validate(job: Job) -> dict[str, object]:
    while job.phase != "told": # the test's orchestrator never says so: a second of work
        await asyncio.sleep(1)
        job.phase = "told"
    return {"finished": True}
worker.run(host="127.0.0.1")
"""


async def test_drain_lets_finish(worker: Worker, orchestrator: OrchestratorStandIn) -> None:
    """An attempt that ends within the bound reports as usual while the worker stops."""
    may_end = asyncio.Event()

    @worker.action("octotel", "validation")
    async def validate(_: Job) -> None:
        await may_end.wait()

    async with serving(worker.app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        await Client(http, orchestrator).execute()
        asyncio.get_running_loop().call_later(0.1, may_end.set)
    assert orchestrator.completion["status"] == "completed"
    assert worker.status()["available"] is False


async def test_drain_ends(worker: Worker, orchestrator: OrchestratorStandIn) -> None:
    """An attempt that takes longer is stopped, and the orchestrator hears at once that it may retry."""

    @worker.action("octotel", "validation")
    async def validate(_: Job) -> None:
        await asyncio.Event().wait()

    async with serving(worker.app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        await Client(http, orchestrator).execute()
    failure = orchestrator.completion["failure"]
    assert (failure["kind"], failure["code"]) == ("application", "worker_stopped")


async def test_sigterm(orchestrator: OrchestratorStandIn, tmp_path: Path) -> None:
    """SIGTERM to the process: the running attempt finishes and reports, then the process ends with 0."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {**os.environ, "PORT": str(port), "PYTHONPATH": str(Path.cwd())}
    process = await asyncio.create_subprocess_exec(sys.executable, str(program), env=environment)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
        await reachable(http)
        await Client(http, orchestrator).execute()
    await eventually(lambda: orchestrator.calls("heartbeat"))
    process.send_signal(signal.SIGTERM)
    assert await process.wait() in (0, -signal.SIGTERM)
    assert orchestrator.completion["result"] == {"finished": True}
