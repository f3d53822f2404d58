"""Callers that ask again as soon as they are answered: HTTP/1.1 on connections of their own, in a process of their own.

A caller of plain bytes costs a tenth of a full HTTP client, so that what is measured is the server.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import TypeAdapter

from local.process import base_environment


@dataclass(frozen=True)
class Load:
    """What to ask, with how many callers, for how long."""

    url: str
    body: str
    tokens: Sequence[str]
    """Given in turn."""
    callers: int
    seconds: float


@dataclass(frozen=True)
class Answered:
    """How long each answer took, and all of them together."""

    milliseconds: list[float]
    seconds: float


LOAD, ANSWERED = TypeAdapter(Load), TypeAdapter(Answered)


async def put_on(load: Load) -> Answered:
    """Put the load on from another process. Raises RuntimeError where an answer is no success."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.load", env=base_environment(), stdin=-1, stdout=-1, stderr=-1
    )
    said, complaint = await process.communicate(LOAD.dump_json(load))
    if process.returncode:
        raise RuntimeError(f"{load.url}: {complaint.decode().strip().splitlines()[-1]}")
    return ANSWERED.validate_json(said)


class Caller:
    """One connection."""

    def __init__(self, load: Load, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        place, body = urlsplit(load.url), load.body.encode()
        self._head = (
            f"POST {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nAuthorization: Bearer "
        ).encode()
        self._rest = b"\r\n\r\n" + body

    async def call(self, token: str) -> None:
        """Ask once. Raises RuntimeError."""
        self._writer.write(self._head + token.encode() + self._rest)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = await self._reader.readexactly(length)
        if not head.startswith(b"http/1.1 2"):
            raise RuntimeError((head.partition(b"\r\n")[0] + b" " + body).decode())


async def _keep_calling(caller: Caller, tokens: Iterator[str], until: float, took: list[float]) -> None:
    while (begun := time.perf_counter()) < until:
        await caller.call(next(tokens))
        took.append((time.perf_counter() - begun) * 1000)


async def _call_all(load: Load) -> Answered:
    place = urlsplit(load.url)
    callers = [Caller(load, *await asyncio.open_connection(place.hostname, place.port)) for _ in range(load.callers)]
    tokens, took = itertools.cycle(load.tokens), list[float]()
    begun = time.perf_counter()
    await asyncio.gather(*(_keep_calling(caller, tokens, begun + load.seconds, took) for caller in callers))
    return Answered(took, time.perf_counter() - begun)


def main() -> None:
    """Read the load from standard input, put it on, write what came of it."""
    import uvloop

    answered = uvloop.run(_call_all(LOAD.validate_json(sys.stdin.buffer.read())))
    sys.stdout.buffer.write(ANSWERED.dump_json(answered))


if __name__ == "__main__":
    main()
