"""The images of functions and demo, as restricted pods whose user OpenShift would choose."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Any

import pytest

from shared.browsers.pod import browser_of
from tests.cluster.cluster import Cluster, eventually
from tests.cluster.conftest import BROWSER_IMAGE

FUNCTIONS_IMAGE = os.environ.get("FUNCTIONS_IMAGE", "dev.local/rpa-functions:1")
DEMO_IMAGE = os.environ.get("DEMO_IMAGE", "dev.local/rpa-demo:1")
FUNCTIONS = sorted(path.parent.name for path in (Path(__file__).parents[2] / "functions").glob("*/main.py"))

LIST = """
import asyncio
from shared.browsers.place import open_browsers
from shared.config import BrowserSettings, load

async def main():
    browsers = open_browsers(load(BrowserSettings))
    async for _ in browsers.list():
        pass
    await browsers.aclose()
    print("listed")

asyncio.run(main())
"""
UNCOMPILED = """
import contextlib, importlib, importlib.util, pathlib, sys

for name in sys.argv[1:]:
    with contextlib.suppress(Exception):  # a function misses its configuration, after all that it imports
        importlib.import_module(name)
header = importlib.util.MAGIC_NUMBER + bytes([1, 0, 0, 0])
specs = [spec for module in list(sys.modules.values()) if (spec := getattr(module, "__spec__", None))]
sources = [spec.origin for spec in specs if spec.has_location and spec.origin.endswith(".py")]
kept = [pathlib.Path(importlib.util.cache_from_source(source)) for source in sources]
print(len(kept), *[file for file in kept if not file.exists() or file.read_bytes()[:8] != header][:9])
"""
"""How many modules were loaded from files, and bytecode that is not there or holds for one time of its source only."""


async def last_words(cluster: Cluster, namespace: str, image: str, script: str, account: str | None = None) -> str:
    """What a shell script says in a container that ends badly."""
    name = f"script-{secrets.token_hex(4)}"
    container = {
        "name": "script",
        "image": image,
        "command": ["sh", "-c", f"({script}) 2>&1; exit 1"],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    security = {"runAsNonRoot": True, "runAsUser": 1000730001, "runAsGroup": 0}
    pods = f"/api/v1/namespaces/{namespace}/pods"
    spec = {
        "restartPolicy": "Never",
        "serviceAccountName": account or "default",
        "automountServiceAccountToken": account is not None,
        "securityContext": security | {"seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    await cluster.api.call("POST", pods, body={"metadata": {"name": name}, "spec": spec})
    pod: dict[str, Any] = {}

    async def ended() -> bool:
        pod.update(await cluster.api.call("GET", f"{pods}/{name}"))
        return pod["status"].get("phase") == "Failed"

    await eventually(ended, within=60)
    said = pod["status"]["containerStatuses"][0]["state"]["terminated"].get("message", "")
    assert said, browser_of(pod).reason
    return str(said)


async def test_every_function_is_in_the_image(cluster: Cluster, namespace: str) -> None:
    """With all that it imports: it gets as far as to miss its configuration."""
    script = "; ".join(f"python -c 'import functions.{name}.main' | tail -n 1" for name in FUNCTIONS)
    script = script.replace("' |", "' 2>&1 |")
    said = await last_words(cluster, namespace, FUNCTIONS_IMAGE, script)
    assert len(said.splitlines()) == len(FUNCTIONS)
    assert all(": not set; " in line for line in said.splitlines()), said


async def test_what_browsers_are_sent_is_in_the_image(cluster: Cluster, namespace: str) -> None:
    """htmx and the trace viewer, and not the packages that they come in."""
    code = "from functions.monitor.dashboard import render, viewer; print(len(viewer.files()), *render.STATIC)"
    script = f'python -c "{code}"; for it in django django_htmx.http playwright; do python -c "import $it"; done'
    found, *missing = (await last_words(cluster, namespace, FUNCTIONS_IMAGE, script)).splitlines()
    assert re.fullmatch(r"[1-9]\d+ .*htmx\.js", found)
    assert sum("ModuleNotFoundError" in line for line in missing) == 3


async def test_migrations_run_in_the_image(cluster: Cluster, namespace: str) -> None:
    """As a job before the functions."""
    said = await last_words(cluster, namespace, FUNCTIONS_IMAGE, "python -m shared.migrate; ls shared/migrations")
    assert "DATABASE_URL: not set" in said
    assert "0001.initial.sql" in said


@pytest.mark.usefixtures("token")
async def test_a_function_reaches_the_api_with_its_own_account(cluster: Cluster, namespace: str) -> None:
    """From inside the cluster, with the token that the kubelet mounts."""
    settings = f"NAMESPACE={namespace} BROWSER_SERVICE_IMAGE=rpa-browser:1"
    said = await last_words(cluster, namespace, FUNCTIONS_IMAGE, f"{settings} python -c '{LIST}'", account="functions")
    assert said == "listed\n"


@pytest.mark.parametrize("image", [FUNCTIONS_IMAGE, DEMO_IMAGE])
async def test_nothing_can_be_installed_or_changed(image: str, cluster: Cluster, namespace: str) -> None:
    """No installer, no compiler, no file that may be written."""
    script = "id -u; touch /app/x; python -m pip; for tool in pip gcc cc make; do command -v $tool; done"
    said = await last_words(cluster, namespace, image, script)
    number, touched, installer = said.splitlines()
    assert number == "1000730001"
    assert "Read-only" in touched
    assert "No module named pip" in installer


@pytest.mark.parametrize(
    ("image", "modules"),
    [
        (FUNCTIONS_IMAGE, [*(f"functions.{name}.main" for name in FUNCTIONS), "kubernetes.aio"]),
        (BROWSER_IMAGE, ["browser.serve"]),
        (DEMO_IMAGE, ["demo.portal", "demo.worker", "demo.ords"]),
    ],
)
async def test_a_cold_start_compiles_nothing(image: str, modules: list[str], cluster: Cluster, namespace: str) -> None:
    """Our own modules, packages and Python's library have bytecode that holds whatever became of the files' times."""
    said = await last_words(cluster, namespace, image, f"python -c '{UNCOMPILED}' {' '.join(modules)}")
    count, *missing = said.split()
    assert int(count) > 50
    assert missing == []


@pytest.mark.parametrize("piece", ["portal", "worker", "ords"])
async def test_the_demos_pieces_are_in_the_image(piece: str, cluster: Cluster, namespace: str) -> None:
    """With all that they import."""
    said = await last_words(cluster, namespace, DEMO_IMAGE, f"python -c 'import demo.{piece}' && echo here")
    assert said == "here\n"
