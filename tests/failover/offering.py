"""Callers that ask at a rate of their own, whatever becomes of their answers; and a function in a process of its own.

In the functions' process or loop callers would slow down with what they measure.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil

from local.process import die_with_parent, free_port
from tests.serving import reachable

ROOT = Path(__file__).parents[2]
WARM_UP_SECONDS = 0.5


@dataclass(frozen=True)
class Request:
    """What is asked."""

    path: str
    token: str
    body: bytes
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    request: Request
    status: int
    headers: Mapping[str, str]
    body: bytes
    sent: float
    """When its request was, as of `time.monotonic()`."""
    seconds: float


@dataclass(frozen=True)
class Running:
    """A function that serves as it does in its container."""

    url: str
    process: psutil.Process

    @property
    def memory(self) -> int:
        """Bytes that it holds."""
        return int(self.process.memory_info().rss)

    @property
    def most_memory(self) -> int:
        """Bytes that it ever held."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])


@contextlib.asynccontextmanager
async def running(function: str, settings: Mapping[str, str], log: Path) -> AsyncIterator[Running]:
    """A function under uvicorn with the options of the image."""
    port = free_port()
    argv = ["uvicorn", "functions_framework.aio:app", "--host=127.0.0.1", f"--port={port}", "--lifespan=on"]
    argv += ["--no-access-log", "--log-level=warning", "--loop=uvloop", "--http=httptools"]
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        **settings,
        "PYTHONPATH": str(ROOT),
        "FUNCTION_USE_ASGI": "true",
        "FUNCTION_TARGET": function,
        "FUNCTION_SOURCE": str(ROOT / "functions" / function / "main.py"),
    }
    with log.open("wb") as written:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *argv,
            cwd=ROOT,
            env=environment,
            stdout=written,
            stderr=written,
            preexec_fn=die_with_parent(),
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            await reachable(http)
        yield Running(f"http://127.0.0.1:{port}", psutil.Process(process.pid))
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def one_after_another(url: str, requests: Iterator[Request], *, callers: int, seconds: float) -> list[Answer]:
    """Callers that ask again as soon as they are answered: what the function can take."""
    answers: list[Answer] = []
    until = time.monotonic() + seconds

    async def call() -> None:
        async with _connection(url) as connection:
            while time.monotonic() < until:
                answers.append(await connection.ask(next(requests)))

    await asyncio.gather(*(call() for _ in range(callers)))
    return answers


async def all_but_the_end(url: str, requests: Sequence[Request], *, seconds: float) -> list[Answer]:
    """Requests of which all but the last byte is sent, as far as that is taken within `seconds`; then the rest."""
    everywhere = asyncio.Event()
    there = 0

    async def hold() -> None:
        nonlocal there
        there += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0 if there == len(requests) else seconds):
                await everywhere.wait()
        everywhere.set()

    async def call(request: Request) -> Answer:
        async with _connection(url) as connection:
            return await connection.ask(request, hold)

    return await asyncio.gather(*map(call, requests))


async def at_a_rate(
    url: str, requests: Iterator[Request], *, rate: float, seconds: float, callers: int
) -> list[Answer]:
    """`rate` requests a second, and the answers to all of them; no more than `callers` wait at one time."""
    answers: list[Answer] = []
    due: asyncio.Queue[Request | None] = asyncio.Queue()

    async def call() -> None:
        async with _connection(url) as connection:
            while request := await due.get():
                answers.append(await connection.ask(request))

    calls = [asyncio.create_task(call()) for _ in range(callers)]
    await asyncio.sleep(WARM_UP_SECONDS)
    began, made = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        while made < rate * passed:
            due.put_nowait(next(requests))
            made += 1
        await asyncio.sleep(0.001)
    for _ in calls:
        due.put_nowait(None)
    await asyncio.gather(*calls)
    return answers


class _Connection:
    """One connection; plain bytes cost a tenth of what an HTTP client does."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, request: Request, before_the_end: Callable[[], Awaitable[None]] | None = None) -> Answer:
        """One request and its answer; its last byte is sent after `before_the_end`."""
        began = time.monotonic()
        head = (
            f"{request.method} {request.path} HTTP/1.1\r\nHost: function\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {request.token}\r\nContent-Length: {len(request.body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + request.body[:-1])
        if before_the_end:
            await self._writer.drain()
            await before_the_end()
        self._writer.write(request.body[-1:])
        status, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(request, int(status.split()[1]), headers, body, began, time.monotonic() - began)


@contextlib.asynccontextmanager
async def _connection(url: str) -> AsyncIterator[_Connection]:
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        yield _Connection(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
