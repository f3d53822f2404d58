"""`kn rpa` on the cluster: its doctor names what was broken on purpose, and the command that mends it does.

On the installation that test_whole_system leaves; each test leaves it whole.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from tests.cluster.knative import ARTEFACTS, BROWSERS, NAMESPACE, OVERLAY, ROOT, System
from tests.cluster.kube import ended, kubectl, until

pytestmark = pytest.mark.timeout(400)

GUIDE = ROOT / "docs" / "how-to" / "troubleshoot.md"
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


async def keep(name: str) -> None:
    """What people see of it now, for them to look at."""
    _, said = await shell(f"kn rpa doctor -n {NAMESPACE} 2>&1")
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    (ARTEFACTS / f"doctor-{name.replace(' ', '-')}.txt").write_text(said)


@dataclass(frozen=True)
class Fault:
    """A part that is broken on purpose: by which command, and how the doctor names it and its remedy."""

    breaks: str
    part: str
    says: str
    mends: str
    seen: tuple[str, ...] = ()
    """What pods and events say meanwhile, as the guide for who has no doctor tells."""


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
            "kubectl delete sinkbinding callback -n rpa",
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
            ("ImagePullBackOff", "Failed to pull image"),
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


async def test_a_whole_deployment_is_well(system: System) -> None:  # noqa: ARG001 - it must be there
    """Every part is looked at and none is broken; the exit code says so."""
    code, findings = await doctor(wait=60)
    assert [it for it in findings if it["state"] not in WELL] == []
    parts = "secrets config rbac broker triggers ticks functions image answers database schema valkey clock events"
    assert (code, list(dict.fromkeys(it["part"] for it in findings))) == (0, parts.split())
    await keep("well")


async def test_a_job_is_followed_to_its_end(system: System) -> None:  # noqa: ARG001
    """From nothing but the cluster: address, name and password are found there."""
    code, said = await shell("kn rpa job submit metrofiber validation -p circuit=KN-1 --watch -n rpa")
    assert code == 0, said
    lines = said.splitlines()
    assert lines[0].startswith("Job ")
    assert "completed after" in lines[-1]


@pytest.mark.parametrize("broken", FAULTS)
async def test_what_is_broken_is_named_and_mended(system: System, broken: str) -> None:  # noqa: ARG001
    """The doctor says what it is, each part by itself, and after the commands that it gives all is well.

    Knative may look at SinkBindings before it knows of a new broker; then the doctor says so, and how to mend that.
    """
    faults = FAULTS[broken]
    for fault in faults:
        broke, said = await shell(fault.breaks)
        assert broke == 0, said
    remedies = await until(lambda: _remedies(faults), within=NAMED_SECONDS)
    await keep(broken)
    for words in (words for fault in faults for words in fault.seen):
        assert f"`{words}" in GUIDE.read_text()
        await until(lambda words=words: _seen(words), within=NAMED_SECONDS)
    for remedy in remedies:
        mended, said = await shell(remedy)
        assert mended == 0, said
    await all_well()


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


async def _seen(words: str) -> bool:
    said = await kubectl("get", "pods", "-n", NAMESPACE)
    return words in said + await kubectl("get", "events", "-n", NAMESPACE, "--field-selector", "type=Warning")


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


async def test_a_schema_that_is_behind_is_migrated(system: System) -> None:
    """Here the database is empty, as a new one is."""
    async with await psycopg.AsyncConnection.connect(system.env["DATABASE_URL"], autocommit=True) as database:
        await database.execute("DROP SCHEMA public CASCADE")
        await database.execute("CREATE SCHEMA public")
    code, findings = await doctor()
    (schema,) = [it for it in findings if it["part"] == "schema"]
    assert (code != 0, schema["state"]) == (True, "bad")
    assert "0001.initial" in schema["says"]
    await keep("schema")
    assert (await shell(schema["mend"]))[0] == 0
    await all_well()


async def test_a_database_that_is_gone_comes_back_and_is_migrated(system: System) -> None:  # noqa: ARG001
    """Its new pod is empty: first the database is named, then its schema."""
    await shell("kubectl scale deployment/postgres --replicas=0 -n rpa")
    await shell("kubectl wait --for=delete pod -n rpa -l app.kubernetes.io/name=postgres --timeout=60s")
    for part in ("database", "schema"):
        named = await until(lambda part=part: _first_bad(part), within=NAMED_SECONDS)
        await keep(f"{part} gone")
        assert (await shell(named["mend"]))[0] == 0
    await all_well()


async def _first_bad(part: str) -> dict[str, Any] | None:
    _, findings = await doctor()
    return next((it for it in findings if it["part"] == part and it["state"] == "bad"), None)
