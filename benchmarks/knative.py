"""On real Knative: how long each function takes to come up from zero, and a job from submission to its worker.

Needs what `make e2e` needs, and Service addresses that are reached from here.
"""

from __future__ import annotations

import asyncio
import json
import time
from datetime import datetime
from pathlib import Path

import httpx

from benchmarks.figures import Comparison, Sample, compare
from kn_rpa.doctor.expected import FUNCTIONS
from tests.cluster.knative import BROWSERS, FUNCTION_PODS, NAMESPACE, System, installed
from tests.cluster.kube import items, kubectl, pods, until

ROUNDS = 3
ANSWER, WORKER = "until the first answer", "until its worker has it"
HELLO = "functions-framework's hello world, same image"
BROWSER = "a browser's pod, started alone"
NEVER = "0 0 1 1 *"
EACH_MINUTE = "* * * * *"
WINDOW = "6s"
"""How long base lets reap-idle live after its tick."""
TICKS = 3
HELLO_SERVICE = f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: hello, namespace: {NAMESPACE}}}
data:
  main.py: |
    import functions_framework.aio
    from starlette.responses import Response

    @functions_framework.aio.http
    async def hello(request):
        return Response("hello")
"""


async def measure(_folder: Path) -> list[Comparison]:
    """Cold starts beside a hello world's, and jobs beside a browser's pod alone."""
    async with installed() as system:
        await _no_ticks()
        await _hello()
        gateway = await _gateway()
        async with httpx.AsyncClient(base_url=gateway, trust_env=False, timeout=60) as http:
            starts = [await _cold_starts(http) for _ in range(ROUNDS + 1)][1:]
        figures = [
            figure
            for name in FUNCTIONS
            for figure in compare(name, HELLO, {ANSWER: "s"}, ((taken[name], taken["hello"]) for taken in starts))
        ]
        return [*figures, *await _jobs(system), *await _idle(), await _ticked()]


async def _no_ticks() -> None:
    """Whoever is called each few seconds is never at zero."""
    for source in await items("pingsource", NAMESPACE):
        await _patch("pingsource", source["metadata"]["name"], {"spec": {"schedule": NEVER}})


async def _patch(kind: str, name: str, change: object) -> None:
    await kubectl("patch", kind, name, "-n", NAMESPACE, "--type=merge", "-p", json.dumps(change))


async def _hello() -> None:
    """The smallest function there is, served as ours are."""
    (monitor,) = [s for s in await items("ksvc", NAMESPACE) if s["metadata"]["name"] == "monitor"]
    spec = monitor["spec"]["template"]["spec"]
    container = spec["containers"][0]
    source = [{"name": "FUNCTION_TARGET", "value": "hello"}, {"name": "FUNCTION_SOURCE", "value": "/hello/main.py"}]
    container |= {
        "env": [*source, {"name": "FUNCTION_USE_ASGI", "value": "true"}],
        "readinessProbe": {"httpGet": {"path": "/"}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "hello", "mountPath": "/hello"}],  # noqa: S108
    }
    container.pop("envFrom")
    spec |= {"volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "hello", "configMap": {"name": "hello"}}]}
    annotations = monitor["spec"]["template"]["metadata"]["annotations"]
    service = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "hello", "namespace": NAMESPACE},
        "spec": {"template": {"metadata": {"annotations": annotations}, "spec": spec}},
    }
    await kubectl("apply", "-f", "-", stdin=HELLO_SERVICE)
    await kubectl("apply", "-f", "-", stdin=json.dumps(service))
    await kubectl("wait", "--for=condition=Ready", "ksvc/hello", "-n", NAMESPACE, "--timeout=90s")


async def _gateway() -> str:
    """Where the cluster's own callers reach functions."""
    found = json.loads(await kubectl("get", "service", "kourier-internal", "-n", "kourier-system", "-o", "json"))
    return f"http://{found['spec']['clusterIP']}"


async def _all_at_zero() -> None:
    async def none() -> bool:
        return not await pods(NAMESPACE, FUNCTION_PODS)

    await until(none, within=180)
    await asyncio.sleep(2)  # the ingress takes a moment to lead to the activator


async def _cold_starts(http: httpx.AsyncClient) -> dict[str, Sample]:
    """Seconds until each function's first answer, one after the other."""
    await _all_at_zero()
    taken: dict[str, Sample] = {}
    for name in ("hello", *FUNCTIONS):
        path = "/" if name == "hello" else "/health/live"
        begun = time.perf_counter()
        answer = await http.get(path, headers={"host": f"{name}.{NAMESPACE}.svc.cluster.local"})
        taken[name] = {ANSWER: time.perf_counter() - begun}
        answer.raise_for_status()
    return taken


async def _jobs(system: System) -> list[Comparison]:
    """From everything at zero, with warm functions, and with everything warm."""
    zero, cold, warm, alone = [], [], [], []
    for _ in range(ROUNDS):
        await _all_at_zero()
        zero.append(await _job(system))
        cold.append(await _job(system))
        alone.append(await _browser_alone(system))
    await _patch("configmap", "rpa-config", {"data": {"BROWSER_WARM_POOL": "1"}})
    await _new_revision("provision-browser")
    await _job(system)  # its claim fills the pool
    for _ in range(ROUNDS + 2):
        await until(system.warm, within=60)
        warm.append(await _job(system))
    found: list[Comparison] = []
    for case, taken in (("everything at zero", zero), ("browser cold", cold), ("everything warm", warm[-ROUNDS:])):
        found += compare(case, BROWSER, {WORKER: "s"}, zip(taken, alone, strict=True))
    return found


async def _job(system: System) -> Sample:
    """Seconds from the request to the worker's acceptance, on this machine's clock, which is the database's too."""
    begun = time.time()
    job_id = await system.submit("metrofiber", "BENCH-1")
    (job,) = await system.ended(job_id)
    accepted = next(entry["at"] for entry in job["history"] if entry["to"] == "running")
    return {WORKER: datetime.fromisoformat(accepted).timestamp() - begun}


async def _browser_alone(system: System) -> Sample:
    """Seconds from the pod's creation to its readiness, as Kubernetes notes it: whole seconds, so over several."""
    held = await system.submit("metrofiber", "BENCH-2", demo={"hold_seconds": 3})
    await system.running(held)
    (pod,) = [pod for pod in await items("pods", BROWSERS) if pod["metadata"]["name"] == f"rpa-browser-{held}-1"]
    ready = next(c for c in pod["status"]["conditions"] if c["type"] == "Ready")
    created = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    await system.ended(held)
    return {WORKER: max((datetime.fromisoformat(ready["lastTransitionTime"]) - created).total_seconds(), 1.0)}


async def _new_revision(name: str) -> None:
    """So that it reads its configuration again."""
    annotations = {"bench/at": str(time.time())}
    await _patch("ksvc", name, {"spec": {"template": {"metadata": {"annotations": annotations}}}})
    await kubectl("wait", "--for=condition=Ready", f"ksvc/{name}", "-n", NAMESPACE, "--timeout=90s")


async def _idle() -> list[Comparison]:
    """Pods of ours while nothing happens, beside the warm pool's size."""
    await _all_at_zero()
    ours = [*await pods(NAMESPACE, FUNCTION_PODS), *await pods(BROWSERS)]
    return [Comparison("idle", "pods of ours", "pods", "browsers of the pool", [(float(len(ours)), 1.0)])]


async def _ticked() -> Comparison:
    """For how much of the time a tick a minute, as base has it, keeps reap-idle up."""
    template = {"metadata": {"annotations": {"autoscaling.knative.dev/window": WINDOW}}}
    await _patch("ksvc", "reap-idle", {"spec": {"template": template}})
    await kubectl("wait", "--for=condition=Ready", "ksvc/reap-idle", "-n", NAMESPACE, "--timeout=90s")
    await _all_at_zero()
    await _patch("pingsource", "reap-idle", {"spec": {"schedule": EACH_MINUTE}})
    await until(lambda: pods(NAMESPACE, FUNCTION_PODS), within=90)
    shares = [(await _seconds_with_a_pod(60.0), 60.0) for _ in range(TICKS)]
    return Comparison("reap_idle, a tick a minute", "with a pod", "s", "a minute", shares)


async def _seconds_with_a_pod(within: float) -> float:
    """Of so many seconds from now."""
    seconds, last = 0.0, time.monotonic()
    end = last + within
    while last < end:
        up = bool(await pods(NAMESPACE, FUNCTION_PODS))
        await asyncio.sleep(0.5)
        last, before = time.monotonic(), last
        seconds += (last - before) * up
    return seconds
