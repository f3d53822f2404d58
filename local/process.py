"""Child processes that never outlive their parent, and that come back when they crash."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PR_SET_PDEATHSIG = 1
STOP_SECONDS = 8.0
STABLE_SECONDS = 10.0
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> Callable[[], None]:
    """What a child does before exec: from then on the kernel kills it when this process dies, be it by SIGKILL."""
    parent = os.getpid()

    def prepare() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return prepare


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass(frozen=True)
class Program:
    """What to run."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    restart: bool = True
    pass_fds: Sequence[int] = ()
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stdin: bytes = field(default=b"", repr=False)


class Child:
    """A running program; started again when it ends by itself."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.starts = 0
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process now."""
        return self._process.pid if self._process else None

    @property
    def ended(self) -> bool:
        """Whether it is over and nobody starts it again."""
        return self._keeper is not None and self._keeper.done()

    async def start(self) -> None:
        """Start it and look after it."""
        self._process = await self._spawn()
        self._keeper = asyncio.create_task(self._keep())

    async def _spawn(self) -> asyncio.subprocess.Process:
        program = self.program
        self.starts += 1
        with program.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *program.argv,
                env=dict(program.environment),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=program.pass_fds,
                start_new_session=True,
                preexec_fn=die_with_parent(),
                user=program.user,
                group=program.user,
                extra_groups=[] if program.user else None,
            )
        if process.stdin:
            process.stdin.write(program.stdin)
            process.stdin.close()
        return process

    async def _keep(self) -> None:
        pause = 0.1
        while self._process:
            started = asyncio.get_running_loop().time()
            await self._process.wait()
            if not self.program.restart:
                return
            stable = asyncio.get_running_loop().time() - started > STABLE_SECONDS
            pause = 0.1 if stable else min(pause * 2, 5.0)
            await asyncio.sleep(pause)
            self._process = await self._spawn()

    async def stop(self) -> None:
        """Ask it to end, then make it."""
        if self._keeper:
            self._keeper.cancel()
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(self.program.stop_signal)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


MARK = "RPA_SYSTEM"
"""Every process of a system has its state folder in its environment under this name.

Not RPA_LOCAL, with which people choose a folder: their shells and editors would be taken for ours and killed.
"""


def marked(state: Path) -> dict[str, str]:
    """The environment that every child of a system starts from."""
    return {**base_environment(), MARK: str(state.resolve())}


class Children:
    """Children, stopped in the reverse order of their start."""

    def __init__(self) -> None:
        self._children: dict[str, Child] = {}

    async def start(self, program: Program) -> Child:
        """Start a program."""
        program.log.parent.mkdir(parents=True, exist_ok=True)
        child = self._children[program.name] = Child(program)
        await child.start()
        return child

    def __contains__(self, name: str) -> bool:
        return name in self._children

    def __getitem__(self, name: str) -> Child:
        return self._children[name]

    async def stop(self, *names: str) -> None:
        """Stop these, all at once."""
        await asyncio.gather(*(self._children.pop(name).stop() for name in names if name in self._children))

    async def stop_all(self) -> None:
        """Stop everything, the last started first."""
        while self._children:
            await self._children.popitem()[1].stop()


def base_environment() -> dict[str, str]:
    """What a child gets of this process' environment: what finds programs, and nothing that configures ours."""
    kept = (
        "PATH",
        "HOME",
        "LANG",
        "LC_ALL",
        "TMPDIR",
        "BROWSER",
        "COVERAGE_PROCESS_CONFIG",
        "PLAYWRIGHT_BROWSERS_PATH",
    )
    return {name: os.environ[name] for name in kept if name in os.environ}
