"""Waiting until everything answers, or saying early what does not start."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import httpx

from local.process import Child, Children

READY_SECONDS = 60.0
PAUSE_SECONDS = 0.05
STARTS = 3
"""What ended this often before it was ready will never be."""
LOG_LINES = 12


class NotReady(RuntimeError):
    """A part of the system does not start; the message has the end of its log."""

    def __init__(self, name: str, log: Path) -> None:
        lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        super().__init__("\n".join([f"{name} does not start; from {log}:", *lines]))


async def ready(probes: Mapping[str, str], children: Children) -> None:
    """Wait until each probed address answers 2xx. Raises NotReady."""
    async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
        await asyncio.gather(*(_ready(http, address, children[name]) for name, address in probes.items()))


async def _ready(http: httpx.AsyncClient, address: str, child: Child) -> None:
    try:
        async with asyncio.timeout(READY_SECONDS):
            while not await _answers(http, address):
                if child.starts >= STARTS:
                    raise NotReady(child.program.name, child.program.log)
                await asyncio.sleep(PAUSE_SECONDS)
    except TimeoutError:
        raise NotReady(child.program.name, child.program.log) from None


async def _answers(http: httpx.AsyncClient, address: str) -> bool:
    try:
        return (await http.get(address)).is_success
    except httpx.HTTPError:
        return False
