"""The whole system on real Knative: the demo's jobs from zero, and whatever may be killed is killed.

One installation serves all tests of this module, in this order, and those of test_whole_system_doctor after it: a
namespace whose pods may take minutes to end takes minutes to go, and is in the way of the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Mapping
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
from rich.console import Console

from demo.checks import all_checks
from demo.footprint import Footprint
from demo.play import play
from kn_rpa.doctor.expected import FUNCTIONS
from tests.cluster.knative import (
    ARTEFACTS,
    BROWSERS,
    FUNCTION_PODS,
    NAMESPACE,
    System,
    errors,
    functions_at_zero,
    host,
    no_browser_left,
)
from tests.cluster.kube import appearing, ended, items, kill, kubectl, pods, until
from tests.compatibility import HALF

pytestmark = pytest.mark.timeout(600)

PREVIOUS_IMAGE = os.environ.get("PREVIOUS_IMAGE", "")
HOLD = {"hold_seconds": 5}
HANDLE_BROWSERS = ("provision-browser", "reap-idle")
LETTERS = "SELECT event_type, destination, reason FROM dead_letters"


@contextlib.asynccontextmanager
async def meanwhile(act: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Do something for as long as something else goes on."""
    task = asyncio.create_task(act)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def reports(system: System, *job_ids: int) -> dict[int, list[str]]:
    """What ORDS was told about jobs."""
    async with httpx.AsyncClient(trust_env=False, transport=httpx.AsyncHTTPTransport(retries=8)) as http:
        inbox = (await http.get(system.env["ORDS_INBOX_URL"])).json()["items"]
    told = {job_id: [] for job_id in job_ids}
    for report in inbox:
        told.get(report["body"]["job_id"], []).append(report["body"]["status"])
    return told


async def test_the_demo_from_zero(system: System) -> None:
    """All of the demo's jobs end as they should, each attempt in a pod of its own, from no function running."""
    await functions_at_zero()
    seen: set[str] = set()

    async def look() -> None:
        async for pod in appearing(BROWSERS):
            seen.add(pod)

    async with meanwhile(look()):
        run = await play(system.env, Console(file=sys.stderr, width=118), Footprint(), ARTEFACTS / "evidence")
    await no_browser_left()
    checks = all_checks(run, ARTEFACTS / "evidence", [], len(seen))
    assert [(check.promise, list(check.problems)) for check in checks if not check.ok] == []
    attempts = sum(job["attempt"] for job in run.jobs.values() if job["status"] != "cancelled")
    assert len(seen) == attempts


async def test_a_killed_browser_costs_one_attempt(system: System) -> None:
    """Its pod is deleted in the middle of the job; the next attempt has a new one."""
    job_id = await system.submit("metrofiber", "BROWSER-1", demo=HOLD)
    await system.running(job_id)
    await kill(BROWSERS, f"rpa-browser-{job_id}-1")
    (job,) = await system.ended(job_id)
    assert (job["status"], job["attempt"]) == ("completed", 2)
    assert (await reports(system, job_id))[job_id] == ["completed"]


async def test_any_function_may_be_killed_at_any_time(system: System) -> None:
    """A pod is killed each second, of every function at least one; every job still ends, and is reported once."""
    providers = ["octotel", "metrofiber", "openserve", "evotel", "metrofiber", "openserve"]
    job_ids = [await system.submit(provider, f"KILL-{n}", max_retries=10) for n, provider in enumerate(providers)]
    await _greeting(system, "monitor")  # no job needs it, and no tick soon
    await _kill_functions(system, random.Random(20), seconds=20)
    jobs = await system.ended(*job_ids, within=400)
    assert {job["status"] for job in jobs} == {"completed"}
    assert await reports(system, *job_ids) == {job_id: ["completed"] for job_id in job_ids}
    await no_browser_left()


async def _kill_functions(system: System, dice: random.Random, seconds: float) -> None:
    """Those first that were not killed yet; then, for so long, any. Some run only at the next tick."""
    spared = set(FUNCTIONS)
    end = time.monotonic() + seconds
    while spared or time.monotonic() < end:
        running = {pod: pod.rpartition("-deployment-")[0][:-6] for pod in sorted(await pods(NAMESPACE, FUNCTION_PODS))}
        first = [pod for pod, function in running.items() if function in spared]
        if targets := first or (list(running) if time.monotonic() < end else []):
            victim = dice.choice(targets)
            system.killed.add(victim)
            await kill(NAMESPACE, victim)
            spared.discard(running[victim])
        await asyncio.sleep(1)


async def test_the_broker_may_be_killed(system: System) -> None:
    """Events are lost with it; the jobs are only later."""
    job_ids = [await system.submit("metrofiber", f"BROKER-{n}") for n in range(3)]
    broker = [
        pod
        for pod in await pods("knative-eventing")
        if pod.startswith(("mt-broker-", "imc-dispatcher", "eventing-controller"))
    ]
    assert len(broker) >= 3
    await kill("knative-eventing", *broker)
    jobs = await system.ended(*job_ids, within=300)
    assert {job["status"] for job in jobs} == {"completed"}
    assert await reports(system, *job_ids) == {job_id: ["completed"] for job_id in job_ids}


async def test_the_api_server_may_be_restarted(system: System) -> None:
    """In the middle of browsers' starts and jobs."""
    server = _api_server()
    if server is None:
        pytest.skip("the API server is no process of this machine")
    held = await system.submit("metrofiber", "API-1", demo=HOLD, max_retries=5)
    await system.running(held)
    job_ids = [held, *[await system.submit("openserve", f"API-{n}", max_retries=5) for n in (2, 3)]]
    system.away = time.time()
    _restart(server)
    await until(lambda: kubectl("get", "--raw", "/readyz"), within=60)
    jobs = await system.ended(*job_ids, within=300)
    assert {job["status"] for job in jobs} == {"completed"}
    assert await reports(system, *job_ids) == {job_id: ["completed"] for job_id in job_ids}
    await no_browser_left(within=120)


def _api_server() -> psutil.Process | None:
    return next((p for p in psutil.process_iter() if p.name() == "kube-apiserver"), None)


def _restart(server: psutil.Process) -> None:
    """Kill it, and start it as it was where nobody else does."""
    argv, folder, environment = server.cmdline(), Path(server.cwd()), server.environ()
    log = server.open_files()
    server.kill()
    psutil.wait_procs([server], 10)
    if _api_server() is None:
        script = f'nohup "$@" >>{shlex.quote(log[0].path if log else "/dev/null")} 2>&1 </dev/null & echo $!'
        started = subprocess.check_output(["setsid", "sh", "-c", script, "sh", *argv], cwd=folder, env=environment)
        for note in folder.glob("*.pid"):  # whoever started it stops it by this
            if note.read_text() == str(server.pid):
                note.write_text(started.decode().strip())


async def test_a_warm_browser_is_there_before_its_job(system: System) -> None:
    """The tick starts it, a job has it at once and for itself, another takes its place; at night there is none."""
    await _both_with("BROWSER_WARM_POOL=1")
    (warm,) = await until(system.warm, within=90)
    (job,) = await system.ended(await system.submit("metrofiber", "WARM-1"))
    claimed = next(entry for entry in job["history"] if entry["event"] == "claimed")
    assert (job["status"], claimed["detail"]) == ("completed", {"warm_browser": warm})
    (fresh,) = await until(system.warm, within=90)
    assert fresh != warm
    await _both_with("BROWSER_WARM_POOL-")
    await no_browser_left()


async def _both_with(setting: str) -> None:
    updates = (["kn", "service", "update", name, "-n", NAMESPACE, "--env", setting] for name in HANDLE_BROWSERS)
    await asyncio.gather(*(_run(*update) for update in updates))


async def test_a_revision_is_rolled_out_and_back(system: System) -> None:
    """`kn` sends a new revision a tenth of the calls, then none; jobs go on all the while."""
    newest = ("get", "ksvc", "submit-job", "-n", NAMESPACE, "-o", "jsonpath={.status.latestReadyRevisionName}")
    old = await kubectl(*newest)
    update = ["kn", "service", "update", "submit-job", "-n", NAMESPACE]
    # Without --revision-name: `kubectl apply` could change nothing of a revision that has a name.
    await _run(*update, "--env", "TOKEN_LIFETIME=1800")
    new = await kubectl(*newest)
    await _run(*update, "--traffic", f"{old}=90", "--traffic", f"{new}=10")
    job_id = await system.submit("metrofiber", "CANARY-1")
    served = Counter([await _revision(system) for _ in range(200)])
    assert set(served) == {old, new}
    assert served[old] > 5 * served[new] / 2
    await _run(*update, "--traffic", f"{old}=100")

    async def rolled_back() -> bool:
        return {await _revision(system) for _ in range(20)} == {old}

    await until(rolled_back, within=30)
    (job,) = await system.ended(job_id)
    assert job["status"] == "completed"
    await _run(*update, "--env", "TOKEN_LIFETIME-", "--traffic", "@latest=100")


@pytest.mark.skipif(not PREVIOUS_IMAGE, reason="PREVIOUS_IMAGE names no image of the release before (CONTRIBUTING.md)")
async def test_two_releases_understand_each_other(system: System) -> None:
    """Either half of the functions runs the release before, while jobs run that the other halves began."""
    half = {function.replace("_", "-") for function in HALF}
    current = (await _images())["monitor"]
    held: list[int] = []
    for old in (half, set(FUNCTIONS) - half):
        images = {function: PREVIOUS_IMAGE if function in old else current for function in FUNCTIONS}
        await _roll_out(images)
        job_ids = [await system.submit(provider, f"RELEASE-{len(held)}") for provider in ("octotel", "openserve")]
        jobs = await system.ended(*held, *job_ids)
        assert {(job["status"], job["attempt"]) for job in jobs} == {("completed", 1)}
        assert await _images() == images
        held = [await system.submit("metrofiber", f"RELEASE-{len(held)}", demo=HOLD)]
        await system.running(*held)
    await _roll_out(dict.fromkeys(FUNCTIONS, current))
    (job,) = await system.ended(*held)
    assert (job["status"], job["attempt"]) == ("completed", 1)


async def _roll_out(images: Mapping[str, str]) -> None:
    """All at once, those that run something else."""
    changed = images.items() - (await _images()).items()
    await asyncio.gather(
        *(_run("kn", "service", "update", name, "-n", NAMESPACE, "--image", image) for name, image in changed)
    )


async def _images() -> dict[str, str]:
    """Of the revisions that functions' calls go to."""
    images = {
        revision["metadata"]["name"]: revision["spec"]["containers"][0]["image"]
        for revision in await items("revisions", NAMESPACE)
    }
    services = await items("ksvc", NAMESPACE)
    return {it["metadata"]["name"]: images[it["status"]["traffic"][0]["revisionName"]] for it in services}


async def _revision(system: System) -> str:
    return str((await _greeting(system, "submit-job"))["revision"])


async def _greeting(system: System, function: str) -> dict[str, str]:
    """What a function says of itself; it has a pod then."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        answer = await http.get(system.env["SUBMIT_URL"], headers={"host": host(function)})
    greeting: dict[str, str] = answer.raise_for_status().json()
    return greeting


async def _run(*argv: str) -> None:
    process = await asyncio.create_subprocess_exec(*argv, stdout=-1, stderr=-1)
    said, problems = await ended(process)
    assert process.returncode == 0, said + problems


async def test_nothing_is_left_and_nothing_was_refused(system: System) -> None:
    """No browser, no row of one, no dead letter, no error and no missing right in any function's log."""
    await no_browser_left()
    async with await psycopg.AsyncConnection.connect(system.env["DATABASE_URL"]) as database:
        assert await (await database.execute(LETTERS)).fetchall() == []
        assert await (await database.execute("SELECT * FROM browsers")).fetchall() == []
    assert len(list(system.logs.glob("*.log"))) >= 8
    assert errors(system) == []
