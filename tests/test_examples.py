"""The workers of `examples/`, as they are, on a real system."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from playwright._impl._driver import compute_driver_executable
from starlette.responses import JSONResponse

from demo.api import TERMINAL, Api
from demo.portal import Portal
from local.process import free_port
from local.system import LocalSystem
from shared.providers import Provider
from tests.counterparts import Client, OrchestratorStandIn
from tests.docs.documents import commands
from tests.docs.test_commands import bash
from tests.serving import eventually, serving

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PNG = b"\x89PNG\r\n\x1a\n"
ENTRIES = {"library_worker": "octotel", "plain_http_worker": "evotel"}
CLUSTER_ADDRESS = re.compile(r"http://[a-z-]+\.rpa\.svc\.cluster\.local")

pytestmark = pytest.mark.timeout(240)


def entry(example: str, port: int) -> dict[str, str]:
    """The portal's entry of an example, its worker on this machine."""
    name = f"{ENTRIES[example]}.yaml"
    text, count = CLUSTER_ADDRESS.subn(f"http://127.0.0.1:{port}", (EXAMPLES / example / name).read_text())
    assert count == 1
    return {name: text}


@contextlib.asynccontextmanager
async def running(example: str, port: int, settings: Mapping[str, str], folder: Path) -> AsyncIterator[None]:
    """An example while it runs."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "COVERAGE_PROCESS_CONFIG") if name in os.environ}
    environment = {**kept, "PYTHONPATH": str(ROOT), "HOST": "127.0.0.1", "PORT": str(port), **settings}
    process = await asyncio.create_subprocess_exec(*_command(example), env=environment | _modules(folder))
    try:
        await available(port)
        yield
    finally:
        process.terminate()
        assert await process.wait() in (0, -15)


def _command(example: str) -> list[str]:
    if example == "library_worker":
        return [sys.executable, str(EXAMPLES / example / "worker.py")]
    return [str(compute_driver_executable()[0]), str(EXAMPLES / example / "worker.js")]


def _modules(folder: Path) -> dict[str, str]:
    """Playwright for Node, which the one for Python brings along."""
    link = folder / "node_modules" / "playwright-core"
    if not link.exists():
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(Path(compute_driver_executable()[1]).parent)
    return {"NODE_PATH": str(link.parent)}


async def available(port: int) -> None:
    """Wait until a worker would take a job."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http, asyncio.timeout(30):
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await http.get("/status")).json()["available"]:
                    return
            await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
async def api() -> AsyncIterator[Api]:
    """A system with both examples as the workers of their portals."""
    ports = {example: free_port() for example in ENTRIES}
    entries = entry("library_worker", ports["library_worker"]) | entry("plain_http_worker", ports["plain_http_worker"])
    with tempfile.TemporaryDirectory(prefix="rpa-test-examples-") as folder:
        state = Path(folder) / "state"
        async with (
            LocalSystem(state, overrides={"rpa-providers": entries}) as system,
            contextlib.AsyncExitStack() as stack,
        ):
            logins = dict(word.split("=", 1) for word in shlex.split((state / "logins.env").read_text()))
            for example, port in ports.items():
                await stack.enter_async_context(running(example, port, logins, Path(folder)))
            http = httpx.AsyncClient(base_url=system.env["SUBMIT_URL"], trust_env=False, timeout=30)
            api = Api(await stack.enter_async_context(http))
            await api.log_in(system.env["ADMIN_USERNAME"], system.env["ADMIN_PASSWORD"])
            yield api


async def ended(api: Api, provider: str, circuit: str) -> dict[str, Any]:
    """A job, once it has ended."""
    order = {"provider": provider, "action": "validation", "parameters": {"circuit": circuit}, "max_retries": 0}
    _, job = await api.submit(order)
    async with asyncio.timeout(120):
        while job["status"] not in TERMINAL:
            await asyncio.sleep(0.1)
            job = await api.job(job["id"])
    return job


@pytest.mark.parametrize("provider", ENTRIES.values())
async def test_a_job_completes(api: Api, provider: str) -> None:
    """With a login code, its phases, and a picture."""
    job = await ended(api, provider, "C-1")
    assert (job["status"], job["error"]) == ("completed", None)
    assert job["result"]["reference"].startswith(provider[:3].upper())
    assert (await api.evidence(job["id"], "outcome.png")).startswith(PNG)
    events = {item["event"] for item in job["history"]}
    assert {"accepted", "totp_issued", "completed"} <= events


@pytest.mark.parametrize("provider", ENTRIES.values())
async def test_what_the_portal_refuses(api: Api, provider: str) -> None:
    """Fails for good, in the portal's words."""
    job = await ended(api, provider, "UNKNOWN-1")
    assert (job["status"], job["error"]["kind"], job["error"]["code"]) == ("failed", "business", "circuit_unknown")
    assert "UNKNOWN-1" in job["error"]["message"]
    assert "outcome.png" in {item["name"] for item in job["evidence"]}


@pytest.fixture
async def plain(orchestrator: OrchestratorStandIn, tmp_path: Path) -> AsyncIterator[Client]:
    """The worker by plain HTTP with a stand-in for its orchestrator, room for one attempt, and no portal."""
    port = free_port()
    settings = {"CAPACITY": "1"}
    async with (
        running("plain_http_worker", port, settings, tmp_path),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http,
    ):
        yield Client(http, orchestrator)


ORDER = {"provider": "evotel", "browser_service_url": "ws://127.0.0.1:9/nowhere"}


async def test_an_attempt_that_is_over_is_not_reported(plain: Client, orchestrator: OrchestratorStandIn) -> None:
    """409 ends it; the next attempt is taken, the one before it no more."""
    orchestrator.answer("heartbeat", JSONResponse({}, 409))
    assert (await plain.execute(attempt=2, **ORDER)).json()["status"] == "accepted"
    await eventually(lambda: orchestrator.calls("heartbeat"))
    assert (await plain.execute(attempt=1, **ORDER)).status_code == 409
    await available(plain.http.base_url.port or 0)
    assert orchestrator.calls("complete") == []


async def test_what_breaks_is_reported_once(plain: Client, orchestrator: OrchestratorStandIn) -> None:
    """However often it is ordered, and though the first report is not answered; nothing secret is told."""
    orchestrator.answer("complete", JSONResponse({}, 503))
    answers = [await plain.execute(attempt=1, **ORDER) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    await eventually(lambda: len(orchestrator.calls("complete")) == 2)
    first, second = orchestrator.calls("complete")
    assert first == second
    assert (first["status"], first["failure"]["kind"]) == ("failed", "application")
    assert "nowhere" not in str(first)


async def test_busy_and_wrong_orders(plain: Client, orchestrator: OrchestratorStandIn) -> None:
    """429 while there is no place; 422 for what it does not know."""
    orchestrator.answer("complete", *[JSONResponse({}, 503, {"retry-after": "1"})] * 3)
    await plain.execute(job_id=1, **ORDER)
    assert (await plain.execute(job_id=2, **ORDER)).status_code == 429
    assert (await plain.execute(job_id=3, provider="octotel")).status_code == 422
    assert (await plain.http.post("/execute", content=b"{")).status_code == 422


@pytest.mark.parametrize("example", ENTRIES)
def test_the_manifests_fit(example: str) -> None:
    """The entry is valid and names the Service; the pod may reach browsers; the image holds what is there."""
    folder, name = EXAMPLES / example, ENTRIES[example]
    provider = Provider.model_validate({"name": name, **yaml.safe_load((folder / f"{name}.yaml").read_text())})
    service, deployment = yaml.safe_load_all((folder / "deployment.yaml").read_text())
    assert provider.workers == (f"http://{service['metadata']['name']}.rpa.svc.cluster.local",)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels.items() >= service["spec"]["selector"].items() | {("app.kubernetes.io/component", "worker")}
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert {"name": "CAPACITY", "value": str(provider.max_sessions)} in container["env"]
    context = ROOT if example == "library_worker" else folder
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (folder / "Containerfile").read_text(), re.MULTILINE)
    assert copied
    assert [path for line in copied for path in line.split() if not (context / path).exists()] == []


async def test_the_librarys_action_is_tried(tmp_path: Path) -> None:
    """As its README shows, to its result."""
    login = {"OCTOTEL_USERNAME": "octo", "OCTOTEL_PASSWORD": "octo-password"}
    seed = {"OCTOTEL_TOTP_SECRET": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"}
    (tmp_path / "examples").symlink_to(EXAMPLES)
    async with serving(Portal({**login, **seed}).app) as url:
        known = {**login, **seed, "OCTOTEL_URL": f"{url}/octotel"}
        (tmp_path / "octotel.env").write_text("".join(f"{name}={value}\n" for name, value in known.items()))
        script = commands("examples/library_worker/README.md", "rpa-worker run")
        path = f"{ROOT / 'bin'}:{os.environ['PATH']}"
        report = json.loads(await asyncio.to_thread(bash, script, tmp_path, PATH=path))
    assert report["status"] == "completed"
    assert report["result"]["reference"].startswith("OCT-")


@pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm")
async def test_the_plain_worker_is_started(tmp_path: Path) -> None:
    """As its README shows, with what npm brings; then it waits for orders."""
    folder = tmp_path / "examples" / "plain_http_worker"
    shutil.copytree(EXAMPLES / "plain_http_worker", folder)
    script, port = commands("examples/plain_http_worker/README.md", "cd examples"), free_port()
    assert "PORT=8080 " in script
    reached = await asyncio.to_thread(
        subprocess.run, ["npm", "view", "playwright-core"], capture_output=True, cwd=folder
    )
    if reached.returncode:
        pytest.skip("npm reaches no registry")
    process = await asyncio.create_subprocess_exec(
        "bash", "-euc", script.replace("PORT=8080", f"PORT={port}"), cwd=tmp_path, start_new_session=True,
        env={**os.environ, "HOST": "127.0.0.1"},
    )  # fmt: skip
    try:
        await available(port)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        await process.wait()


def test_the_librarys_readme_fits() -> None:
    """Image and Secret are those of the manifests; tests/cluster applies them."""
    build, secret, apply = map(shlex.split, commands("examples/library_worker/README.md", "docker build").splitlines())
    assert (ROOT / build[3]).is_file()
    manifests = (ROOT / apply[-1]).read_text()
    assert f"image: {build[5]}\n" in manifests
    assert f"{{name: {secret[4]}}}" in manifests


def test_the_plain_readme_fits() -> None:
    """What is installed and started is there, and reads these settings."""
    install, start = commands("examples/plain_http_worker/README.md", "cd examples").splitlines()
    folder = ROOT / shlex.split(install)[1]
    assert (folder / "package.json").is_file()
    *settings, program, file = shlex.split(start)
    assert (program, str(folder / file)) == ("node", _command("plain_http_worker")[1])
    read = (folder / file).read_text()
    assert [name for it in settings if (name := it.partition("=")[0]) not in read] == []


def test_playwright_is_the_browsers_own() -> None:
    """The example in JavaScript asks for the version that the browsers have."""
    wanted = re.search(r"playwright==([\d.]+)", (ROOT / "pyproject.toml").read_text())
    assert wanted
    assert f'"playwright-core": "{wanted[1]}"' in (EXAMPLES / "plain_http_worker" / "package.json").read_text()
