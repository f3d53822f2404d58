"""What tests ask of a cluster, by kubectl: KUBECONFIG names it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from local.process import free_port

PAUSE_SECONDS = 0.5


class KubectlError(Exception):
    """kubectl failed; the message is what it said."""


async def kubectl(*words: str, stdin: str | None = None) -> str:
    """What a kubectl command says. Raises KubectlError."""
    process = await asyncio.create_subprocess_exec(
        "kubectl", *words, stdin=asyncio.subprocess.PIPE if stdin else None, stdout=-1, stderr=-1
    )
    said, problems = await ended(process, stdin)
    if process.returncode:
        raise KubectlError(problems)
    return said


async def ended(process: asyncio.subprocess.Process, stdin: str | None = None) -> tuple[str, str]:
    """What a process printed until its end, which is now if whoever waits for it is cancelled."""
    try:
        said, problems = await process.communicate(stdin.encode() if stdin else None)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    return (said or b"").decode(), problems.decode()


async def items(kind: str, namespace: str, *options: str) -> list[dict[str, Any]]:
    """Objects of a kind."""
    found: list[dict[str, Any]] = json.loads(await kubectl("get", kind, "-n", namespace, "-o", "json", *options))[
        "items"
    ]
    return found


async def pods(namespace: str, selector: str = "") -> list[str]:
    """Names of the pods that are not on their way out."""
    found = await items("pods", namespace, *(["-l", selector] if selector else []))
    return [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]


async def kill(namespace: str, *names: str) -> None:
    """Delete pods without a goodbye; those that are gone already are fine."""
    if names:
        await kubectl(
            "delete",
            "pod",
            "-n",
            namespace,
            *names,
            "--force",
            "--grace-period=0",
            "--ignore-not-found",
            "--wait=false",
        )


async def until(condition: Callable[[], Awaitable[Any]], *, within: float) -> Any:
    """What a condition gives once that is true; an API server that is away is asked again. Raises TimeoutError."""
    async with asyncio.timeout(within):
        while True:
            with contextlib.suppress(KubectlError):
                if found := await condition():
                    return found
            await asyncio.sleep(PAUSE_SECONDS)


async def appearing(namespace: str, selector: str = "") -> AsyncIterator[str]:
    """Names of the pods that are there and of each that comes, again whenever one changes, without end."""
    while True:
        process = await asyncio.create_subprocess_exec(
            "kubectl", "get", "pods", "-n", namespace, "-l", selector, "--watch", "-o", "name",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdout
        try:
            async for line in process.stdout:
                yield line.decode().strip().removeprefix("pod/")
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        await asyncio.sleep(PAUSE_SECONDS)  # the API server was away


@contextlib.asynccontextmanager
async def forwarded(namespace: str, target: str, port: int) -> AsyncIterator[int]:
    """A port of this machine that leads to a Service's, whatever becomes of the API server on the way."""
    local = free_port()
    keeping = asyncio.create_task(_forward(namespace, target, f"{local}:{port}"))
    try:
        await until(lambda: _listens(local), within=20)
        yield local
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def _forward(namespace: str, target: str, ports: str) -> None:
    while True:
        process = await asyncio.create_subprocess_exec(
            "kubectl", "port-forward", "-n", namespace, target, ports,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            await process.wait()
            await asyncio.sleep(PAUSE_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()


async def _listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return False


class Logs:
    """The logs of every function's pod while it lives, kept as files."""

    def __init__(self, namespace: str, folder: Path) -> None:
        self._namespace = namespace
        self._folder = folder
        self._following: dict[str, asyncio.Task[None]] = {}

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[Path]:
        """The folder that they go to."""
        shutil.rmtree(self._folder, ignore_errors=True)  # those of a run before say nothing of this one
        self._folder.mkdir(parents=True)
        watching = asyncio.create_task(self._watch())
        try:
            yield self._folder
        finally:
            watching.cancel()
            for task in self._following.values():
                task.cancel()
            await asyncio.gather(watching, *self._following.values(), return_exceptions=True)

    async def _watch(self) -> None:
        async for pod in appearing(self._namespace, "serving.knative.dev/service"):
            if pod not in self._following:
                self._following[pod] = asyncio.create_task(self._follow(pod))

    async def _follow(self, pod: str) -> None:
        """Until the pod is gone; from its beginning once more if the API server was away."""
        with (self._folder / f"{pod}.log").open("ab") as file:
            while True:
                process = await asyncio.create_subprocess_exec(
                    "kubectl", "logs", "-f", "-n", self._namespace, pod, "-c", "user-container",
                    stdout=file, stderr=asyncio.subprocess.PIPE,
                )  # fmt: skip
                _, problems = await ended(process)
                if process.returncode == 0 or "NotFound" in problems:
                    return
                await asyncio.sleep(1)  # its container does not run yet
