"""`kn rpa` on the cluster: its doctor names what was broken on purpose, and the command that mends it does.

On the installation that test_whole_system leaves; each test leaves it whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import yaml

from tests.cluster.knative import BROWSERS, FUNCTION_PODS, NAMESPACE, OVERLAY, ROOT, System, functions_at_zero, host
from tests.cluster.kube import ended, kill, kubectl, until
from tests.cluster.kube import pods as running
from tests.docs.documents import tokens

pytestmark = pytest.mark.timeout(400)

GUIDE = "docs/how-to/troubleshoot.md"
FIRST = "first-callback"
WELL = ("good", "warning")
NAMED_SECONDS = 90
FIRST_SECONDS = 45
MENDED_SECONDS = 120


async def shell(command: str) -> tuple[int, str]:
    """What a command of the terminal answers and prints; `kn` finds the plugin."""
    environment = {
        **os.environ,
        "PATH": f"{ROOT / 'bin'}:{os.environ['PATH']}",
        "RPA_INGRESS": os.environ["KN_INGRESS"],
        "RPA_OVERLAY": str(OVERLAY),
    }
    process = await asyncio.create_subprocess_shell(command, stdout=-1, stderr=-1, env=environment)
    said, problems = await ended(process)
    return process.returncode or 0, said or problems


async def doctor(wait: int = 0) -> tuple[int, list[dict[str, Any]]]:
    """The doctor's exit code and findings."""
    code, said = await shell(f"kn rpa doctor -n {NAMESPACE} --wait {wait} -o json")
    return code, json.loads(said)["items"]


@dataclass(frozen=True)
class Fault:
    """A part that is broken on purpose: by which command, and how the doctor names it and its remedy."""

    breaks: str
    part: str
    says: str
    mends: str


FAULTS = {
    "a key of a Secret": [
        Fault(
            "kubectl patch secret rpa-tokens -n rpa --type json -p "
            """'[{"op": "remove", "path": "/data/JWT_SECRET_KEY"}]'""",
            "secrets",
            "rpa-tokens has no JWT_SECRET_KEY",
            "kubectl patch secret rpa-tokens",
        )
    ],
    "a Secret": [
        Fault(
            "kubectl delete secret rpa-tokens -n rpa",
            "secrets",
            "rpa-tokens is missing",
            "kubectl create secret generic",
        )
    ],
    "what the overlay has": [
        Fault(
            f"kubectl delete rolebinding provision-browser -n {BROWSERS}",
            "rbac",
            f"provision-browser may not create, get, watch, delete pods in {BROWSERS}",
            "kubectl apply -k",
        ),
        Fault(
            "kubectl delete trigger notify-on-finished -n rpa",
            "triggers",
            "no Trigger brings rpa.job.finished.v1 to notify",
            "kubectl apply -k",
        ),
        Fault(
            # Knative does not always take back what it gave.
            "kubectl delete sinkbinding callback -n rpa && kn service update callback -n rpa --env K_SINK-",
            "broker",
            "SinkBinding missing for callback",
            "kubectl apply -k",
        ),
        Fault(
            "kubectl delete pingsource reap-idle -n rpa", "ticks", "no PingSource calls reap-idle", "kubectl apply -k"
        ),
    ],
    "the broker": [
        Fault("kubectl delete broker default -n rpa", "broker", "Broker default is missing", "kubectl apply -k")
    ],
    "an image's name and Valkey": [
        Fault(
            "kn service update notify -n rpa --image dev.local/rpa-functoins:1 --no-wait",
            "image",
            "dev.local/rpa-functoins:1",
            "kn service update notify --image dev.local/rpa-functions:1",
        ),
        Fault(
            "kubectl scale deployment/valkey --replicas=0 -n rpa && kubectl wait --for=delete pod -n rpa "
            "-l app.kubernetes.io/name=valkey --timeout=60s",
            "valkey",
            "valkey:6379",
            "kubectl scale deployment/valkey --replicas=1",
        ),
    ],
}
"""Broken at once is what one command mends, or what has nothing to do with each other."""


async def test_it_scales_to_zero_and_a_job_is_followed_from_there(system: System) -> None:
    """Idle, no function has a pod; the next job is done all the same. Address, name and password are the cluster's."""
    await functions_at_zero()
    code, said = await shell("kn rpa job submit metrofiber validation -p circuit=KN-1 --watch -n rpa")
    assert code == 0, said
    lines = said.splitlines()
    assert lines[0].startswith("Job ")
    assert "completed after" in lines[-1]
    job = await system.job(int(lines[0].split()[1]))
    assert (job["status"], job["attempt"]) == ("completed", 1)


async def test_a_whole_deployment_is_well(system: System) -> None:  # noqa: ARG001 - it must be there
    """Every part is looked at and none is broken; the exit code says so."""
    code, findings = await doctor(wait=60)
    assert [it for it in findings if it["state"] not in WELL] == []
    parts = "secrets config rbac broker triggers ticks functions image answers database schema valkey clock events"
    assert (code, list(dict.fromkeys(it["part"] for it in findings))) == (0, parts.split())


@contextlib.asynccontextmanager
async def broken(name: str) -> AsyncIterator[None]:
    """Then the doctor says what it is, each part by itself, and after the commands that it gives all is well.

    Knative may look at SinkBindings before it knows of a new broker; then the doctor says so, and how to mend that.
    """
    faults = FAULTS[name]
    for fault in faults:
        broke, said = await shell(fault.breaks)
        assert broke == 0, said
    try:
        yield
    finally:
        remedies = await until(lambda: _remedies(faults), within=NAMED_SECONDS)
        for remedy in remedies:
            mended, said = await shell(remedy)
            assert mended == 0, said
        await all_well()


async def test_the_broker_is_missing(system: System) -> None:  # noqa: ARG001 - it must be there
    """Nothing else brings events."""
    async with broken("the broker"):
        pass


async def test_a_secret_and_a_key_of_it_are_missing(system: System) -> None:
    """A function's first pod waits for its Secret; once it is there, it goes on by itself."""
    await all_well()  # some run, and so the doctor waits for none that cannot start
    try:
        async with broken("a Secret"):
            await _deploy_first()
            await seen(pods, "CreateContainerConfigError")
            await seen(warnings, 'Error: secret "rpa-tokens" not found')
            await seen(services, "RevisionMissing : Configuration ", "is waiting for a Revision to become ready.")
        await kubectl("wait", "-n", NAMESPACE, "--for=condition=Ready", f"ksvc/{FIRST}", f"--timeout={NAMED_SECONDS}s")
    finally:
        await kubectl("delete", "ksvc", FIRST, "-n", NAMESPACE, "--ignore-not-found", "--wait=false")
    async with broken("a key of a Secret"):
        pass
    # With the trial's own, in every function at once: tokens of another key mean nothing to it.
    await kubectl("apply", "-k", str(OVERLAY))
    await kill(NAMESPACE, *await running(NAMESPACE, FUNCTION_PODS))
    await all_well()
    await system.api.log_in(system.env["ADMIN_USERNAME"], system.env["ADMIN_PASSWORD"])


async def test_what_the_overlay_has(system: System) -> None:
    """A right is missing, a Trigger, an address for events and the ticks that would send them all the same."""
    held = await system.submit("metrofiber", "OVERLAY-1", demo={"hold_seconds": 10})
    await system.running(held)
    async with broken("what the overlay has"):
        job_id = await system.submit("metrofiber", "OVERLAY-2")
        await seen(
            lambda: history(system, job_id), "given_back", "may not create pods in namespace rpa-browsers; grant it"
        )
        await seen(lambda: logs(system), "events stay in the outbox")
        await until(lambda: _outbox_grows(system), within=NAMED_SECONDS)
    jobs = await system.ended(held, job_id)
    assert {job["status"] for job in jobs} == {"completed"}, jobs


async def test_an_image_and_valkey_are_missing(system: System) -> None:
    """The revision before goes on serving; a job waits for its code."""
    async with broken("an image's name and Valkey"):
        job_id = await system.submit("octotel", "VALKEY-1")
        await seen(lambda: answer(system, "/health"), "Valkey does not answer; try again")
        await seen(lambda: logs(system), "Valkey unavailable", "rate limit not counted")
        await seen(lambda: history(system, job_id), "waiting for a login code")
        await seen(pods, "ImagePullBackOff")
        await seen(warnings, "Failed to pull image")
    (job,) = await system.ended(job_id)
    assert job["status"] == "completed"


async def test_a_setting_that_is_unusable(system: System) -> None:
    """The pod ends, its last words name the setting, and so does the doctor; the revision before goes on serving."""
    short = json.dumps({"stringData": {"JWT_SECRET_KEY": "short"}})
    says = "shared.config.ConfigError: JWT_SECRET_KEY: must have 32 bytes or more; make one with: openssl rand"
    update = f"kn service update monitor -n {NAMESPACE} --env ANY"
    try:
        await kubectl("patch", "secret", "rpa-tokens", "-n", NAMESPACE, "--type=merge", "-p", short)
        await shell(f"{update}=new --no-wait")
        await seen(pods, "Error")
        await seen(lambda: logs(system), says)
        await until(lambda: _says("functions", "monitor: ", says), within=NAMED_SECONDS)
        await seen(revisions, "Deploying")
    finally:
        await kubectl("apply", "-k", str(OVERLAY))
        assert (await shell(f"{update}-"))[0] == 0
        await all_well()


async def test_a_browsers_image_that_is_missing(system: System) -> None:
    """The job fails at once, with the node's own words."""
    update = "kn service update provision-browser -n rpa --env BROWSER_SERVICE_IMAGE"
    try:
        assert (await shell(f"{update}=dev.local/rpa-browsre:1"))[0] == 0
        job_id = await system.submit("metrofiber", "IMAGE-1", max_retries=0)
        (job,) = await system.ended(job_id)
        assert job["status"] == "failed"
        await seen(lambda: history(system, job_id), "browser_failed", "ErrImagePull: failed to pull and unpack image")
    finally:
        assert (await shell(f"{update}-"))[0] == 0


async def _deploy_first() -> None:
    """A function that is new here, and so has no revision that goes on serving."""
    everything = yaml.safe_load_all(await kubectl("kustomize", str(OVERLAY)))
    (service,) = [it for it in everything if it["kind"] == "Service" and it["metadata"]["name"] == "callback"]
    service["metadata"]["name"] = FIRST
    await kubectl("apply", "-f", "-", stdin=json.dumps(service))


async def seen(look: Callable[[], Awaitable[str]], *words: str) -> None:
    """Wait until somebody who looks there sees what the guide says."""
    shown = [token.content for token in tokens(GUIDE) if token.type == "code_inline"]
    for each in words:
        assert any(each in code for code in shown), each

    async def all_seen() -> bool:
        found = await look()
        return all(each in found for each in words)

    await until(all_seen, within=NAMED_SECONDS)


async def pods() -> str:
    """As the guide has them listed."""
    return await kubectl("get", "pods", "-n", NAMESPACE)


async def warnings() -> str:
    """As the guide has events listed."""
    return await kubectl("get", "events", "-n", NAMESPACE, "--field-selector", "type=Warning")


async def services() -> str:
    """As the guide has them listed."""
    _, said = await shell(f"kn service list -n {NAMESPACE}")
    return said


async def revisions() -> str:
    """As `kn` lists them."""
    _, said = await shell(f"kn revision list -n {NAMESPACE}")
    return said


async def logs(system: System) -> str:
    """Of every function."""
    return "".join(file.read_text(errors="replace") for file in system.logs.glob("*.log"))


async def history(system: System, job_id: int) -> str:
    """Of a job, and how it failed."""
    return json.dumps(await system.job(job_id))


async def answer(system: System, path: str) -> str:
    """What monitor answers to its administrator."""
    ingress = system.env["SUBMIT_URL"]
    login = {"username": system.env["ADMIN_USERNAME"], "password": system.env["ADMIN_PASSWORD"]}
    async with httpx.AsyncClient(base_url=ingress, trust_env=False, timeout=10) as http:
        with contextlib.suppress(httpx.HTTPError):
            if path != "/health":
                said = await http.post(
                    "/auth/token", data={"grant_type": "password"} | login, headers={"host": host("submit-job")}
                )
                http.headers["authorization"] = f"Bearer {said.raise_for_status().json()['access_token']}"
            return (await http.get(path, headers={"host": host("monitor")})).text
    return ""


async def _outbox_grows(system: System) -> bool:
    status = json.loads(await answer(system, "/status") or "{}")
    return bool(status.get("outbox")) and status["outbox_age_seconds"] > 1


async def _remedies(faults: list[Fault]) -> set[str] | None:
    """The commands that mend these, once all are named."""
    code, findings = await doctor()
    bad = [it for it in findings if it["state"] == "bad"]
    named = [[it for it in bad if it["part"] == fault.part and fault.says in it["says"]] for fault in faults]
    if not all(named):
        return None
    assert code != 0
    for fault, found in zip(faults, named, strict=True):
        assert found[0]["mend"].startswith(fault.mends)
    return {found[0]["mend"] for found in named}


async def all_well() -> None:
    """Wait until the doctor finds nothing; what it still finds after a while is mended as it says, once."""
    for patience in (FIRST_SECONDS, MENDED_SECONDS):
        code, findings = await doctor(wait=patience)
        broken = [it for it in findings if it["state"] not in WELL]
        for rebind in {it["mend"] for it in broken if "sinkbinding" in (it["mend"] or "")}:
            assert (await shell(rebind))[0] == 0
        if not broken:
            break
    assert broken == []
    assert code == 0


async def test_a_database_that_is_gone_comes_back_and_is_migrated(system: System) -> None:
    """Its new pod is empty: first the database is named, then its schema."""
    await shell("kubectl scale deployment/postgres --replicas=0 -n rpa")
    await shell("kubectl wait --for=delete pod -n rpa -l app.kubernetes.io/name=postgres --timeout=60s")
    await seen(lambda: answer(system, "/health"), "the database does not answer; try again")
    await seen(lambda: logs(system), "database unavailable", "error connecting in 'pool-1': ")
    database = await until(lambda: _first_bad("database"), within=NAMED_SECONDS)
    assert (await shell(database["mend"]))[0] == 0
    await seen(lambda: answer(system, "/status"), "the database has not this version's schema; run the migration")
    await seen(lambda: logs(system), "database not migrated")
    schema = await until(lambda: _first_bad("schema"), within=NAMED_SECONDS)
    assert "0001.initial" in schema["says"]
    assert (await shell(schema["mend"]))[0] == 0
    await all_well()


async def _says(part: str, *words: str) -> bool:
    _, findings = await doctor()
    return any(it["part"] == part and all(each in it["says"] for each in words) for it in findings)


async def _first_bad(part: str) -> dict[str, Any] | None:
    code, findings = await doctor()
    named = next((it for it in findings if it["part"] == part and it["state"] == "bad"), None)
    assert not named or code != 0
    return named
