"""The demo against a system that runs: its addresses are all that it knows."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from demo.api import Api
from demo.board import Board
from demo.checks import Run
from demo.footprint import Footprint
from demo.scenario import Scenario


async def play(environment: Mapping[str, str], console: Console, footprint: Footprint, evidence: Path) -> Run:
    """Let the system do all jobs, and gather what came of them."""
    shutil.rmtree(evidence, ignore_errors=True)
    async with signed_in(environment) as api:
        scenario = Scenario(api, footprint)
        with Board(console) as board:
            try:
                await scenario.perform(board)
            except TimeoutError:
                console.print("[red]The jobs did not end in time.[/]")
        await scenario.keep_evidence(evidence)
    run = scenario.run
    run.logins, run.inbox = await asyncio.gather(
        _get(f"{environment['PORTAL_URL']}/audit"), _get(environment["ORDS_INBOX_URL"])
    )
    return run


@contextlib.asynccontextmanager
async def signed_in(environment: Mapping[str, str]) -> AsyncIterator[Api]:
    """The API of a running system, as its administrator. Behind an ingress SUBMIT_HOST names the function."""
    headers = {"host": environment["SUBMIT_HOST"]} if "SUBMIT_HOST" in environment else {}
    async with httpx.AsyncClient(
        base_url=environment["SUBMIT_URL"], headers=headers, trust_env=False, timeout=60
    ) as client:
        api = Api(client)
        await api.log_in(environment["ADMIN_USERNAME"], environment["ADMIN_PASSWORD"])
        yield api


async def _get(url: str) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(trust_env=False) as client:
        items: list[dict[str, Any]] = (await client.get(url)).raise_for_status().json()["items"]
    return items
