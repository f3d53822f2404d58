"""`make up`: a whole system of the real manifests, in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from local.browsers import browsers_folder
from local.process import MARK
from local.sweeping import browser_processes
from tests.serving import eventually

START_SECONDS = 60.0
STOP_SECONDS = 30.0
GONE_SECONDS = 5.0
HELD = {
    "provider": "metrofiber",
    "action": "validation",
    "parameters": {"circuit": "MF-1", "demo": {"hold_seconds": 60}},
}


@pytest.fixture
def state() -> Iterator[Path]:
    """A state folder that PostgreSQL's user gets through to."""
    with tempfile.TemporaryDirectory(prefix="rpa-test-system-") as folder:
        yield Path(folder)


class Up:
    """A system that a process of its own runs, and an operator's client of it."""

    def __init__(self, process: asyncio.subprocess.Process, env: dict[str, str], http: httpx.AsyncClient) -> None:
        self.process = process
        self.env = env
        self.http = http

    async def end(self, number: signal.Signals) -> int:
        """Its exit code after a signal."""
        self.process.send_signal(number)
        async with asyncio.timeout(STOP_SECONDS):
            return await self.process.wait()


async def local(state: Path, command: str) -> asyncio.subprocess.Process:
    """`python -m local COMMAND` for a state folder."""
    environment = os.environ | {"RPA_LOCAL": str(state)}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "local", command, env=environment, stdout=-1, stderr=-1
    )


@contextlib.asynccontextmanager
async def up(state: Path) -> AsyncIterator[Up]:
    """A running system, killed in the end if it still runs."""
    process = await local(state, "up")
    try:
        file = state / "env"
        await eventually(lambda: file.exists() or process.returncode is not None, within=START_SECONDS)
        env = dict(word.split("=", 1) for word in shlex.split(file.read_text()))
        async with httpx.AsyncClient(base_url=env["SUBMIT_URL"], trust_env=False, timeout=20) as http:
            login = {"grant_type": "password", "username": env["ADMIN_USERNAME"], "password": env["ADMIN_PASSWORD"]}
            token = (await http.post("/auth/token", data=login)).raise_for_status().json()["access_token"]
            http.headers["Authorization"] = f"Bearer {token}"
            yield Up(process, env, http)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def processes(state: Path) -> list[psutil.Process]:
    """Everything that belongs to a state folder and runs."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == str(state) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def function(state: Path, name: str) -> psutil.Process:
    """The process that runs a function."""
    (found,) = [process for process in processes(state) if process.environ().get("K_SERVICE") == name]
    return found


async def test_it_says_where_it_is_and_keeps_its_data(state: Path) -> None:
    """Every address answers; Ctrl-C and `down` leave no process; a job of before is there after, until `clean`."""
    async with up(state) as system:
        async with httpx.AsyncClient(trust_env=False) as http:
            for name in ("SUBMIT_URL", "TOTP_URL", "CALLBACK_URL", "MONITOR_URL"):
                assert (await http.get(f"{system.env[name]}/health/ready")).status_code == 200, name
            assert (await http.get(system.env["ORDS_INBOX_URL"])).json()["items"] == []
        _tells_its_owner_alone(state)
        request = HELD | {"run_after": "2099-01-01T00:00:00Z"}
        job = (await system.http.post("/jobs", json=request)).raise_for_status().json()
        assert await system.end(signal.SIGINT) == 0
    assert processes(state) == []
    assert _environments(state) == {}
    async with up(state) as system:
        kept = (await system.http.get(f"/jobs/{job['id']}")).raise_for_status().json()
        assert kept["parameters"] == HELD["parameters"]
        await _second_is_refused(state)
        await _a_killed_function_comes_back(system, state, job["id"])
        assert b"stopped" in await _down(state)
        assert await system.process.wait() == 0
    assert processes(state) == []
    assert b"nothing runs" in await _down(state)
    assert (state / "postgres").exists()
    await (await local(state, "clean")).communicate()
    assert not state.exists()  # noqa: ASYNC240 - nothing else runs


def _tells_its_owner_alone(state: Path) -> None:
    """Its addresses, and the portals' logins and seeds, which workers do not get."""
    files = _environments(state)
    assert files.keys() == {"env", "logins.env", "seeds.env"}
    assert [name for name in files if (state / name).stat().st_mode & 0o077] == []
    assert "OCTOTEL_URL=http://" in files["logins.env"]
    assert "TOTP" not in files["logins.env"]
    assert re.findall("^([A-Z_]+)=", files["seeds.env"], re.MULTILINE) == ["OCTOTEL_TOTP_SECRET", "OCTOTEL_TOTP_PERIOD"]


def _environments(state: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in state.glob("*env")}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("actions: []", "rpa-providers, mine.yaml: "),
        ("totp: [", "rpa-providers, mine.yaml: "),
        ("nothing", "rpa-providers, mine.yaml: "),
    ],
)
async def test_a_wrong_entry_of_ones_own_is_named(state: Path, text: str, problem: str) -> None:
    """Before anything is started."""
    (state / "providers").mkdir()
    (state / "providers" / "mine.yaml").write_text(text)
    process = await local(state, "up")
    _, said = await process.communicate()
    assert process.returncode == 1
    assert said.decode().startswith(f"Error: {problem}")


async def _down(state: Path) -> bytes:
    down = await local(state, "down")
    said, _ = await down.communicate()
    assert down.returncode == 0
    return said


async def _second_is_refused(state: Path) -> None:
    second = await local(state, "up")
    _, said = await second.communicate()
    assert second.returncode == 1
    assert b"runs a system in" in said
    assert b"make down" in said


async def _a_killed_function_comes_back(system: Up, state: Path, job_id: int) -> None:
    """Who calls meanwhile waits, as Knative's callers do."""
    killed = function(state, "submit-job")
    killed.kill()
    await eventually(lambda: not psutil.pid_exists(killed.pid))
    assert (await system.http.get(f"/jobs/{job_id}")).status_code == 200
    assert function(state, "submit-job").pid != killed.pid


async def test_two_systems_run_side_by_side(state: Path) -> None:
    """In two folders, each with its own stores, ports and jobs; `down` of one leaves the other alone."""
    async with up(state / "one") as one, up(state / "other") as other:
        assert not set(one.env.values()) & set(other.env.values()) - {one.env["ADMIN_USERNAME"]}
        (await one.http.post("/jobs", json=HELD | {"run_after": "2099-01-01T00:00:00Z"})).raise_for_status()
        assert (await other.http.get("/jobs")).raise_for_status().json()["items"] == []
        await _down(state / "one")
        assert processes(state / "one") == []
        assert (await other.http.get("/health/ready")).status_code == 200
        await _down(state / "other")


async def test_nothing_outlives_a_killed_system(state: Path) -> None:
    """SIGKILL at work: stores, functions, worker and browser are gone within moments."""
    async with up(state) as system:
        (await system.http.post("/jobs", json=HELD)).raise_for_status()
        await eventually(lambda: len(list(browser_processes(state))) > 3, within=START_SECONDS)
        assert await system.end(signal.SIGKILL) < 0
        await eventually(lambda: processes(state) == [], within=GONE_SECONDS)
    assert browsers_folder(state).exists()
    await _down(state)
    assert not browsers_folder(state).exists()
