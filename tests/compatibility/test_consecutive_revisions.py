"""Functions of this revision and of the one before, side by side on one database and one broker.

The revision before is checked out of this repository's history.
Schema and manifests are this revision's, as during a rollout and after a rollback.
"""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Awaitable, Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from demo.api import Api
from demo.play import signed_in
from local.kustomize import build
from local.system import MANIFESTS, ROOT, LocalSystem
from tests.compatibility import HALF, PREVIOUS

ALL = frozenset(path.parent.name for path in (ROOT / "functions").glob("*/main.py"))
PATIENCE_SECONDS = 180.0
"""An attempt may lose its claim's 30 s, the next one the 60 s in which a browser must start."""
WITNESS = """
import os, pathlib
pathlib.Path(__file__).with_name(os.environ["FUNCTION_TARGET"] + ".ran").touch()
"""
"""Tells afterwards which functions ran the old code."""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def previous() -> Iterator[Path]:
    """The code of the revision before."""
    archive = subprocess.run(
        ["git", "archive", PREVIOUS, "functions", "shared"], cwd=ROOT, check=False, capture_output=True
    )
    if archive.returncode:
        pytest.skip(f"this checkout's history has no {PREVIOUS}: git fetch --unshallow")
    with tempfile.TemporaryDirectory(prefix="rpa-test-previous-") as folder:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(folder, filter="data")
        with (Path(folder) / "shared" / "__init__.py").open("a") as package:
            package.write(WITNESS)
        yield Path(folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user gets through to."""
    with tempfile.TemporaryDirectory(prefix="rpa-test-revisions-") as name:
        yield Path(name)


def manifests(folder: Path, old: Collection[str], code: Path) -> Path:
    """The local overlay, with some functions' code taken from elsewhere."""
    documents = build(MANIFESTS)
    for document in documents:
        if document["kind"] == "Service":
            container = document["spec"]["template"]["spec"]["containers"][0]
            values = {entry["name"]: entry for entry in container["env"]}
            name = values["FUNCTION_TARGET"]["value"]
            if name in old:
                values["FUNCTION_SOURCE"]["value"] = str(code / "functions" / name / "main.py")
                # Python and uvicorn would both put the folder that they are started in before the path.
                container["env"] += [
                    {"name": "PYTHONPATH", "value": str(code)},
                    {"name": "PYTHONSAFEPATH", "value": "1"},
                ]
                container["args"].append(f"--app-dir={code}")
    folder.mkdir()
    (folder / "all.yaml").write_text(yaml.safe_dump_all(documents))
    (folder / "kustomization.yaml").write_text("resources: [all.yaml]\n")
    return folder


class Round:
    """One system on the data of those before it, and what it is given to do."""

    def __init__(self, name: str, api: Api, system: LocalSystem) -> None:
        self.name = name
        self.api = api
        self.system = system

    async def submit(self, provider: str, circuit: str, **more: Any) -> int:
        """A job's id."""
        request = {"provider": provider, "action": "validation", "parameters": {"circuit": circuit}, "max_retries": 2}
        _, job = await self.api.submit(request | {"external_job_id": f"{self.name}-{circuit}"} | more)
        return int(job["id"])

    async def ended(self, *ids: int) -> list[str]:
        """How these ended, once they are reported."""
        return [str(job["status"]) for job in await self._when(ids, lambda job: job["reported_at"])]

    async def waiting(self, *ids: int) -> None:
        """Wait until these are claimed."""
        await self._when(ids, lambda job: job["status"] != "pending")

    async def _when(self, ids: Collection[int], true: Callable[[dict[str, Any]], Any]) -> list[dict[str, Any]]:
        jobs: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    jobs = [await self.api.job(job_id) for job_id in ids]
                    if all(map(true, jobs)):
                        return jobs
                    await asyncio.sleep(0.2)  # polled as its callers do
        except TimeoutError:
            pytest.fail(f"{self.name}: not in {PATIENCE_SECONDS} s:\n{json.dumps(jobs, indent=1)}")


async def ran(
    folder: Path, name: str, old: Collection[str], code: Path, play: Callable[[Round], Awaitable[None]]
) -> None:
    """Start a system of which some functions are old, on what the last one left, and play."""
    system = LocalSystem(folder / "state", manifests=manifests(folder / name, old, code))
    async with system, signed_in(system.env) as api:
        assert {path.stem for path in (code / "shared").glob("*.ran")} == set(old)
        await play(Round(name, api, system))
        async with httpx.AsyncClient(trust_env=False) as http:
            logins = (await http.get(f"{system.env['PORTAL_URL']}/audit")).json()["items"]
        for function in ALL:
            log = system.state / "log" / f"{function.replace('_', '-')}.log"
            assert "Traceback" not in log.read_text(), function
        steps = [(login["account"], login["step"]) for login in logins if login["accepted"] and login["step"]]
        assert len(steps) == len(set(steps))


async def test_they_understand_each_others_rows_events_and_tokens(folder: Path, previous: Path) -> None:
    """Old alone, each half old, old again: jobs end as they should in each round, those of the round before too."""
    left: dict[str, int] = {}

    async def play(round_: Round) -> None:
        jobs = [
            await round_.submit("octotel", "OCT-1"),
            await round_.submit("openserve", "OPS-1"),
            await round_.submit("metrofiber", "UNKNOWN-1"),
        ]
        cancelled = await round_.submit("evotel", "EVO-1", run_after="2099-01-01T00:00:00Z")
        await round_.api.cancel(cancelled)
        assert await round_.ended(*jobs, cancelled) == ["completed", "completed", "failed", "cancelled"]
        for before, job_id in left.items():
            # It was under way when its functions were stopped, and all that it had was taken from it.
            assert await round_.ended(job_id) == ["completed"], before
        left.clear()
        left[round_.name] = await round_.submit("openserve", "OPS-2")
        await round_.waiting(left[round_.name])
        for job in (await round_.api.jobs()).values():
            for item in (await round_.api.job(job["id"]))["evidence"]:
                assert await round_.api.evidence(job["id"], item["name"])

    rounds = (("old", ALL), ("half", HALF), ("other-half", ALL - HALF), ("rolled-back", ALL))
    for name, old in rounds:
        for witness in (previous / "shared").glob("*.ran"):
            witness.unlink()
        await ran(folder, name, old, previous, play)


def test_this_revision_is_not_the_one_before(previous: Path) -> None:
    """What is compared differs: otherwise the test above says nothing."""
    assert any(
        (previous / path.relative_to(ROOT)).read_bytes() != path.read_bytes()
        for path in (ROOT / "shared").glob("*.py")
        if (previous / path.relative_to(ROOT)).exists()
    )
