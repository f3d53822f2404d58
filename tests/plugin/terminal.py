"""`kn-rpa` as a user runs it: a process of its own, against functions that are served."""

from __future__ import annotations

import asyncio
import codecs
import os
import pty
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.serving import eventually

ROOT = Path(__file__).parents[2]
SNAPSHOTS = Path(__file__).with_name("snapshots")
CAPTURES = ROOT / ".local" / "captures"
AGE = re.compile(r"\b\d+s\b *")
SINCE = re.compile(r"^( *)\d+\.\d s", re.MULTILINE)
AFTER = re.compile(r"after \d+\.\d s")
MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str


@dataclass
class Shell:
    """Runs commands in a folder of their own, in an environment of their own."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def _everything(self, more: dict[str, str]) -> dict[str, str]:
        own = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "PYTHONPATH": str(ROOT), "TZ": "UTC"}
        kept = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE")}
        return own | kept | self.environment | more

    async def run(self, *words: str, stdin: str | None = None, **more: str) -> Said:
        """One command to its end."""
        process = await self._start(words, more, stdin)
        out, err = await process.communicate(stdin.encode() if stdin is not None else None)
        return Said(process.returncode or 0, out.decode(), err.decode())

    async def says(self, *words: str, **more: str) -> str:
        """What a command that succeeds prints."""
        said = await self.run(*words, **more)
        assert said.code == 0, said.err
        return said.out

    async def _start(
        self, words: tuple[str, ...], more: dict[str, str], stdin: str | None
    ) -> asyncio.subprocess.Process:
        given = asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "kn_rpa", *words,
            stdin=given, stdout=-1, stderr=-1, cwd=self.folder, env=self._everything(more),
        )  # fmt: skip

    @asynccontextmanager
    async def running(self, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A command while it runs; it is ended with the block."""
        process = await self._start(words, {}, None)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    @asynccontextmanager
    async def on_a_terminal(self, *words: str) -> AsyncIterator[Screen]:
        """A command while it runs on a terminal of 120 columns."""
        environment = self._everything({"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"})
        async with terminal([sys.executable, "-m", "kn_rpa", *words], self.folder, environment) as screen:
            yield screen


@asynccontextmanager
async def terminal(argv: Sequence[str], folder: Path, environment: Mapping[str, str]) -> AsyncIterator[Screen]:
    """A command while it runs on a terminal; it is ended with the block."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=environment, start_new_session=True
    )
    os.close(theirs)  # else the end would never be read
    try:
        yield Screen(ours, process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        os.close(ours)


@dataclass
class Screen:
    """What a terminal has been sent."""

    _handle: int
    process: asyncio.subprocess.Process
    seen: str = ""
    _decoder: codecs.IncrementalDecoder = field(default_factory=codecs.getincrementaldecoder("utf-8"))

    async def until(self, text: str, within: float = 30) -> None:
        """Wait until a text was shown."""
        async with asyncio.timeout(within):
            while text not in self.seen:
                assert self._read(), f"the end, and no {text}: {self.seen}"
                await asyncio.sleep(0.01)

    async def ended(self, within: float = 60) -> int:
        """The exit code; all is read that comes until then: who writes to a full terminal waits."""
        await eventually(lambda: not self._read(), within=within)
        return await self.process.wait()

    async def to_the_end(self, kept_as: str, within: float = 60) -> int:
        """The exit code. All that was shown is kept in `.local/captures`, as the terminal got it."""
        code = await self.ended(within)
        CAPTURES.mkdir(parents=True, exist_ok=True)
        (CAPTURES / f"{kept_as}.txt").write_bytes(self.seen.encode())
        return code

    def _read(self) -> bool:
        """Whether more may come."""
        try:
            self.seen += self._decoder.decode(os.read(self._handle, 65536))
        except BlockingIOError:
            return True
        except OSError:  # nobody holds the other end any more
            return False
        return True

    def type(self, text: str) -> None:
        """As if somebody typed it."""
        os.write(self._handle, text.encode())


def matches_snapshot(name: str, text: str) -> None:
    """The text is what was kept, but for times. RPA_SNAPSHOTS=write keeps it anew."""
    for pattern, stable in ((SINCE, r"    N.N s"), (AFTER, "after N.N s"), (MOMENT, "TIME")):
        text = pattern.sub(stable, text)
    text = AGE.sub(lambda match: f"{'Ns':{len(match[0])}}", text)  # what follows it stays where it is
    text = "".join(f"{line.rstrip()}\n" for line in text.splitlines())
    file = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("RPA_SNAPSHOTS") == "write":
        file.write_text(text)
    assert text == file.read_text()
