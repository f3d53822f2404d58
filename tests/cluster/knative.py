"""The whole system on the cluster that KUBECONFIG names, from `knative/overlays/dev`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from demo.api import TERMINAL, Api, Job
from demo.play import signed_in
from tests.cluster.kube import KubectlError, Logs, forwarded, items, kill, kubectl, pods, until

ROOT = Path(__file__).parents[2]
OVERLAY = ROOT / "knative" / "overlays" / "dev"
ARTEFACTS = ROOT / ".local" / "e2e"
NAMESPACE = "rpa"
BROWSERS = "rpa-browsers"
FUNCTION_PODS = "serving.knative.dev/service"
READY = ("ksvc", "broker", "trigger", "sinkbinding", "pingsource")
START_SECONDS = 180.0
API_STARTS_SECONDS = 30.0
PROBLEM = re.compile(r"\n(?=Error|error|resource mapping|unable)")
NO_WEBHOOK = re.compile(r"failed calling webhook|conversion webhook for")
MISSING_RIGHT = re.compile(r"may not|forbidden", re.IGNORECASE)
TOKEN_ENDED = "the Kubernetes API does not take our token"
STARTING_API = re.compile(r"browsers misconfigured|the Kubernetes API|may not|forbidden", re.IGNORECASE)


@dataclass
class System:
    """It runs; `env` is what `make up` writes to `.local/env`, as far as the outside can reach it."""

    env: dict[str, str]
    api: Api
    logs: Path
    away: float = 0.0
    """When the API server was killed."""
    killed: set[str] = field(default_factory=set)
    """Pods that were deleted while their processes went on for a moment."""

    async def submit(self, provider: str, circuit: str, **more: Any) -> int:
        """Submit a validation; the job's id."""
        parameters = {"circuit": circuit, **({"demo": more.pop("demo")} if "demo" in more else {})}
        _, job = await self.api.submit({"provider": provider, "action": "validation", "parameters": parameters, **more})
        return int(job["id"])

    async def job(self, job_id: int) -> Job:
        """The job once the function answers."""

        async def ask() -> Job | None:
            with contextlib.suppress(Exception):  # its pod may just have been killed
                return await self.api.job(job_id)
            return None

        found: Job = await until(ask, within=60)
        return found

    async def warm(self) -> list[str]:
        """Names of the warm browsers that are ready and nobody's."""
        statement = "SELECT name FROM browsers WHERE job_id IS NULL AND ready_at IS NOT NULL"
        async with await psycopg.AsyncConnection.connect(self.env["DATABASE_URL"]) as database:
            return [row[0] for row in await (await database.execute(statement)).fetchall()]

    async def running(self, job_id: int) -> Job:
        """The job once a worker has it."""
        return await self._once(job_id, lambda job: job["status"] == "running", 60)

    async def ended(self, *job_ids: int, within: float = 120) -> list[Job]:
        """The jobs once they have ended and ORDS has acknowledged it."""

        def done(job: Job) -> bool:
            return job["status"] in TERMINAL and bool(job["reported_at"])

        return list(await asyncio.gather(*(self._once(job_id, done, within) for job_id in job_ids)))

    async def _once(self, job_id: int, condition: Any, within: float) -> Job:
        job: Job = {}
        try:
            async with asyncio.timeout(within):
                while not condition(job := await self.job(job_id)):  # noqa: ASYNC110 - it is asked over HTTP
                    await asyncio.sleep(0.3)
        except TimeoutError:
            raise AssertionError(f"job {job_id} stays {job.get('status')}: {job.get('history')}") from None
        return job


def host(name: str) -> str:
    """The name under which a function is reached from outside."""
    return f"{name}.{NAMESPACE}.{os.environ['KN_DOMAIN']}"


@contextlib.asynccontextmanager
async def installed() -> AsyncIterator[System]:
    """Apply the overlay, wait until all of it is ready, and remove it in the end."""
    await until(_left, within=120)
    await until(_applied, within=60)
    try:
        await _ready()
        async with contextlib.AsyncExitStack() as stack:
            logs = await stack.enter_async_context(Logs(NAMESPACE, ARTEFACTS / "logs").kept())
            env = {"SUBMIT_URL": os.environ["KN_INGRESS"], "SUBMIT_HOST": host("submit-job")}
            env |= {"ADMIN_USERNAME": "admin", "ADMIN_PASSWORD": "trial"}
            for name, service in (("PORTAL_URL", "portal"), ("ORDS_INBOX_URL", "ords")):
                port = await stack.enter_async_context(forwarded(NAMESPACE, f"svc/{service}", 80))
                env[name] = f"http://127.0.0.1:{port}"
            port = await stack.enter_async_context(forwarded(NAMESPACE, "svc/postgres", 5432))
            env["DATABASE_URL"] = f"postgresql://rpa:trial@127.0.0.1:{port}/rpa"
            yield System(env, await stack.enter_async_context(signed_in(env)), logs)
    finally:
        await kubectl("delete", "-k", str(OVERLAY), "--ignore-not-found", "--wait=false")
        await until(_gone, within=120)


async def _left() -> bool:
    """Whether what a run before left is gone."""
    ending = {
        it["metadata"]["name"] for it in await items("namespaces", "default") if it["status"]["phase"] == "Terminating"
    }
    return not ending & {NAMESPACE, BROWSERS}


async def _applied() -> bool:
    """The webhooks of a cluster that has just started may not answer yet; whatever else is wrong, one apply shows."""
    try:
        await kubectl("apply", "-k", str(OVERLAY))
    except KubectlError as error:
        if all(NO_WEBHOOK.search(problem) for problem in PROBLEM.split(str(error))):
            return False
        raise AssertionError(str(error)) from None
    return True


async def _gone() -> bool:
    """Nobody waits for what pods still answer."""
    left = {namespace: await items("pods", namespace) for namespace in (NAMESPACE, BROWSERS)}
    for namespace, found in left.items():
        await kill(namespace, *(pod["metadata"]["name"] for pod in found))
    return not any(left.values())


async def _ready() -> None:
    wait = ("-n", NAMESPACE, f"--timeout={START_SECONDS:.0f}s")
    try:
        await kubectl("wait", "--for=condition=Complete", "job", "--all", *wait)
        await kubectl("wait", "--for=condition=Available", "deployment", "--all", *wait)
        await kubectl("wait", "--for=condition=Ready", ",".join(READY), "--all", *wait)
    except KubectlError as error:
        raise AssertionError(f"{error}\n{await _state()}") from None


async def _state() -> str:
    """What an operator would look at."""
    found = await kubectl("get", "pods,ksvc,job", "-n", NAMESPACE, "-o", "wide")
    return found + await kubectl("get", "events", "-n", NAMESPACE, "--field-selector", "type=Warning")


async def functions_at_zero(*, within: float = 150) -> None:
    """Wait until no function has a pod, but reap-idle, which a tick may just have called."""

    async def idle() -> bool:
        return not [pod for pod in await pods(NAMESPACE, FUNCTION_PODS) if not pod.startswith("reap-idle-")]

    await until(idle, within=within)


async def no_browser_left(*, within: float = 60) -> None:
    """Wait until the last browser pod is gone."""

    async def gone() -> bool:
        return not await items("pods", BROWSERS)

    await until(gone, within=within)


def errors(system: System) -> list[str]:
    """Lines that functions logged as errors, that Python printed as they broke, and that speak of a missing right."""
    return [
        f"{file.name}: {line}"
        for file in sorted(system.logs.glob("*.log"))
        for line in file.read_text(errors="replace").splitlines()
        if _wrong(line, system.away, killed=file.stem in system.killed)
    ]


def _wrong(line: str, away: float, *, killed: bool) -> bool:
    """An API server that starts knows neither tokens nor rights for a moment; a token ends with its pod."""
    try:
        entry = json.loads(line)
        since = datetime.fromisoformat(entry["time"]).timestamp() - away
    except (ValueError, TypeError, KeyError):  # not by our logger
        return "Traceback" in line or bool(MISSING_RIGHT.search(line))
    if 0 < since < API_STARTS_SECONDS and STARTING_API.search(line):
        return False
    if killed and TOKEN_ENDED in line:
        return False
    return entry["level"] == "ERROR" or bool(MISSING_RIGHT.search(line))
