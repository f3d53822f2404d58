"""What a function's process costs before its first request: seconds and memory beside a hello world's."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Mapping
from functools import partial
from operator import itemgetter
from pathlib import Path

from benchmarks.figures import Comparison, Sample, compare, in_turns
from local.accounts import accounts, prefixes
from local.datastores import Datastores
from local.environment import environment
from local.manifests import Manifests
from local.overlay import overlay
from local.process import base_environment
from local.secrets import local_secrets
from local.system import MANIFESTS, ROOT

ROUNDS = 5
SHOWN = 4
"""Packages of each function, the most expensive first."""
START, MEMORY = "until it is loaded", "memory then"
HELLO = "functions-framework's hello world"
HELLO_SOURCE = """
import functions_framework.aio
from starlette.responses import Response


@functions_framework.aio.http
async def hello(request):
    return Response("hello")
"""
# Loads a function as uvicorn does in its container, then says how long that took and what the process holds.
LOAD = """
import os, re, time
begun = time.perf_counter()
import uvicorn, uvloop, httptools
from functions_framework.aio import create_asgi_app
create_asgi_app(target=os.environ["FUNCTION_TARGET"], source=os.environ["FUNCTION_SOURCE"])
seconds = time.perf_counter() - begun
print(seconds, int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024)
"""
OURS = {"main", "shared", "functions"}
_LINE = re.compile(r"import time: +(\d+) \| +\d+ \| +(\S+)")


async def measure(folder: Path) -> list[Comparison]:
    """Every function's start, and which packages it goes to."""
    environments = _environments(folder)
    hello = folder / "hello.py"
    hello.write_text(HELLO_SOURCE)
    known = {"FUNCTION_TARGET": "hello", "FUNCTION_SOURCE": str(hello)}
    loads = [partial(_load, own) for own in (known, *environments.values())]
    rounds = await in_turns(ROUNDS, *loads)
    found: list[Comparison] = []
    for n, (name, own) in enumerate(environments.items(), 1):
        units = {START: "s", MEMORY: "MB"}
        found += compare(name, HELLO, units, ((taken[n], taken[0]) for taken in rounds))
        spent = await _packages(own)
        whole = sum(spent.values())
        found += [
            Comparison(name, f"of which {package}", "s", "all its imports", [(seconds, whole)])
            for package, seconds in sorted(spent.items(), key=itemgetter(1), reverse=True)[:SHOWN]
        ]
    return found


def _environments(folder: Path) -> dict[str, dict[str, str]]:
    """What each function finds in its container, by the manifests."""
    manifests = Manifests(MANIFESTS)
    entries = manifests.config_maps["rpa-providers"]
    secrets = local_secrets(folder, [prefix.lower() for prefix in prefixes(entries)])
    stores = Datastores("postgresql://rpa@127.0.0.1:1/rpa", "127.0.0.1", 1, "")
    manifests.lay_over(overlay(stores, secrets, accounts(entries, secrets)))
    return {service.name: environment(manifests, service, folder / "mounts", {}) for service in manifests.services()}


async def _load(own: Mapping[str, str]) -> Sample:
    said, _ = await _python(own)
    seconds, megabytes = map(float, said.split())
    return {START: seconds, MEMORY: megabytes}


async def _packages(own: Mapping[str, str]) -> dict[str, float]:
    """Seconds that each package's own modules took, the interpreter's among them."""
    _, log = await _python(own, "-X", "importtime")
    spent: dict[str, float] = {}
    for match in _LINE.finditer(log):
        top = match[2].partition(".")[0].removesuffix("_core").removesuffix("_binary").removesuffix("_pool")
        package = "Python's own" if top in sys.stdlib_module_names else "ours" if top in OURS else top
        spent[package] = spent.get(package, 0) + int(match[1]) / 1e6
    return spent


async def _python(own: Mapping[str, str], *options: str) -> tuple[str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *options, "-c", LOAD, env={**base_environment(), "PYTHONPATH": str(ROOT), **own},
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, problems = await process.communicate()
    if process.returncode:
        raise RuntimeError(problems.decode())
    return said.decode(), problems.decode()
