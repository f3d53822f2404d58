"""`rpa-worker run`: one action, here, against a portal, without an orchestrator."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyotp
import pytest

from demo.portal import Portal
from rpa_worker.runner.codes import LoginCodes, NoCode
from tests.engines import needs_chromium
from tests.plugin.terminal import Screen, terminal
from tests.serving import eventually, serving

PNG = b"\x89PNG\r\n\x1a\n"
SEED = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
PASSWORD = "octo-password"
PERIOD = 2
BEGINNING = "from rpa_worker import BusinessFailure, Job, Worker\n\nworker = Worker()\n"
WORKER = """
from rpa_worker import BusinessFailure, Job, Worker

worker = Worker()


@worker.action("octotel", "validation")
async def validate(job: Job) -> dict[str, object]:
    page = await job.page()
    await page.goto(job.portal.url)
    await page.fill("#username", job.portal.username)
    await page.fill("#password", job.portal.password)
    await page.click("button")
    job.phase = "giving the login code"
    await page.fill("#code", await job.totp())
    await page.click("button")
    await page.fill("#circuit", job.parameters["circuit"])
    await page.click("button")
    await job.evidence("outcome.png", await page.screenshot(), "image/png")
    if await page.query_selector("#error"):
        raise BusinessFailure(await page.inner_text("#error"), f"{job.portal.password} is no circuit")
    return {"reference": await page.inner_text("#reference")}


worker.run()
"""


@dataclass
class Author:
    """Somebody with a folder, a worker in it, and an account at a portal."""

    folder: Path
    portal: str = ""
    settings: dict[str, str] = field(default_factory=dict)

    def write(self, text: str) -> None:
        (self.folder / "my_worker.py").write_text(text)

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "COVERAGE_PROCESS_CONFIG") if name in os.environ}
        return {**kept, "HOME": str(self.folder), "PYTHONPATH": str(Path(__file__).parents[2]), **self.settings}

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "rpa_worker", "run", "my_worker.py", *words]

    async def start(self, *words: str, stdin: int = subprocess.DEVNULL) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self.command(*words), cwd=self.folder, env=self.environment, stdin=stdin, stdout=-1, stderr=-1,
        )  # fmt: skip

    async def run(self, *words: str) -> Said:
        process = await self.start(*words)
        out, err = await process.communicate()
        return Said(process.returncode or 0, out.decode(), err.decode())


@dataclass(frozen=True)
class Said:
    """What a run left behind."""

    code: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.out)
        return report


@pytest.fixture
def author(tmp_path: Path) -> Author:
    author = Author(tmp_path)
    author.write(WORKER)
    return author


@pytest.fixture
async def visitor(author: Author) -> AsyncIterator[Author]:
    """An author whose portal runs, with login codes of two seconds."""
    login = {"OCTOTEL_USERNAME": "octo@example.org", "OCTOTEL_PASSWORD": PASSWORD}
    codes = {"OCTOTEL_TOTP_SECRET": SEED, "OCTOTEL_TOTP_PERIOD": str(PERIOD)}
    async with serving(Portal({**login, **codes}).app) as author.portal:
        lines = {**login, "OCTOTEL_URL": f"{author.portal}/octotel"}
        (author.folder / "logins.env").write_text("".join(f"{name}='{value}'\n" for name, value in lines.items()))
        text = f"# never in a worker's image\nexport OCTOTEL_TOTP_SECRET={SEED} OCTOTEL_TOTP_PERIOD={PERIOD}\n"
        (author.folder / "seeds.env").write_text(text)
        yield author


FILES = ("--env-file", "logins.env", "--env-file", "seeds.env")
SEEN = ("octotel", "validation", *FILES)
RUN = (*SEEN, "--headless")


async def test_an_action_is_performed(visitor: Author) -> None:
    """In a browser, to its result, its phases told, its evidence in a folder; the next run has another login code."""
    for run in range(2):
        said = await visitor.run(*RUN, "-p", "circuit=OCT-1", "--evidence", f"run-{run}")
        assert said.code == 0, said.err
        assert said.report["status"] == "completed"
        assert said.report["result"]["reference"].startswith("OCT-")
        assert (said.report["evidence"], said.report["totp_used"]) == (["outcome.png"], True)
        assert (visitor.folder / f"run-{run}" / "outcome.png").read_bytes().startswith(PNG)
        assert "phase: giving the login code\n" in said.err
    async with httpx.AsyncClient(trust_env=False) as http:
        logins = (await http.get(f"{visitor.portal}/audit")).json()["items"]
    assert [login["accepted"] for login in logins] == [True, True]


async def test_what_the_portal_refuses(visitor: Author) -> None:
    """Is told as the orchestrator would hear it, with a picture and without the password; the exit code is 1."""
    said = await visitor.run(*RUN, "--parameters", '{"circuit": "UNKNOWN-1"}')
    assert said.code == 1
    assert said.report["failure"] == {
        "kind": "business", "code": "circuit_unknown", "message": "[hidden] is no circuit",
    }  # fmt: skip
    assert "would not try again" in said.err
    assert (visitor.folder / "evidence" / "failure.png").read_bytes().startswith(PNG)
    assert PASSWORD not in said.out + said.err
    assert SEED not in said.out + said.err


async def test_a_browser_that_is_seen(visitor: Author) -> None:
    """Where there is a display, the browser shows its window, slowly if so wished."""
    visitor.write(
        f"{BEGINNING}import psutil\n"
        "@worker.action('octotel', 'validation')\n"
        "async def look(job: Job) -> dict[str, object]:\n"
        "    page = await job.page()\n"
        "    await page.goto(job.portal.url)\n"
        "    children = psutil.Process().children(recursive=True)\n"
        "    return {'commands': [' '.join(child.cmdline()) for child in children]}\n"
    )
    async with _display() as visitor.settings["DISPLAY"]:
        said = await visitor.run(*SEEN, "--slow-mo=50")
    assert said.code == 0, said.err
    browsers = [line for line in said.report["result"]["commands"] if "firefox" in line and "-profile" in line]
    assert browsers
    assert [line for line in browsers if "headless" in line] == []


@needs_chromium
async def test_a_pause_before_each_step(visitor: Author) -> None:
    """The inspector shows, the portal is not yet asked for its page; Ctrl-C leaves neither browser nor inspector."""
    visitor.write(
        f"{BEGINNING}@worker.action('octotel', 'validation')\n"
        "async def look(job: Job) -> None:\n"
        "    page = await job.page()\n"
        "    job.phase = 'opening the portal'\n"
        "    await page.goto(job.portal.url)\n"
        "    job.phase = 'looking around'\n"
    )
    async with _display() as visitor.settings["DISPLAY"]:
        process = await visitor.start(*SEEN, "--pause", "--browser", "chromium")
        err = await _interrupted(process, "opening the portal", "--app=data:text/html,")
    assert "phase: looking around" not in err


async def _interrupted(process: asyncio.subprocess.Process, phase: str, child: str) -> str:
    """What a run says after Ctrl-C in a phase in which it has such a child; no child is left."""
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            while f"phase: {phase}".encode() not in await process.stderr.readline():
                pass
        await eventually(lambda: any(child in line for line in _commands(process.pid)))
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        assert (process.returncode, out) == (130, b"")
        assert err.decode().splitlines()[-1] == "stopped"
        await eventually(lambda: not any(child.is_running() for child in children))
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    return err.decode()


def _commands(parent: int) -> list[str]:
    found = []
    for child in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found.append(" ".join(child.cmdline()))
    return found


@contextlib.asynccontextmanager
async def _display() -> AsyncIterator[str]:
    if not shutil.which("Xvfb"):
        pytest.skip("Xvfb is not installed: no display to show a browser on")
    ours, theirs = os.pipe()
    server = await asyncio.create_subprocess_exec(
        "Xvfb", "-displayfd", str(theirs), "-screen", "0", "1280x900x24", pass_fds=[theirs], stderr=subprocess.DEVNULL
    )
    os.close(theirs)
    try:
        async with asyncio.timeout(20):
            number = await asyncio.to_thread(os.read, ours, 20)
        yield f":{number.decode().strip()}"
    finally:
        os.close(ours)
        server.terminate()
        await server.wait()


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "headless"])
async def test_a_breakpoint(visitor: Author, seen: bool) -> None:
    """Stops the action at the terminal, its browser in sight, as long as its author looks around; then it goes on."""
    visitor.write(WORKER.replace("    job.phase", "    here = page.url\n    breakpoint()\n    job.phase"))
    async with contextlib.AsyncExitStack() as stack:
        if seen:
            visitor.settings["DISPLAY"] = await stack.enter_async_context(_display())
        words = (*(SEEN if seen else RUN), "-p", "circuit=OCT-1")
        screen = await stack.enter_async_context(_terminal(visitor, *words))
        await screen.until("(Pdb) ", within=60)
        browsers = [line for line in _commands(screen.process.pid) if "firefox" in line and "-profile" in line]
        assert browsers
        assert seen == all("headless" not in line for line in browsers)
        screen.type("p here, job.parameters['circuit']\n")
        await screen.until(f"('{visitor.portal}/octotel/code', 'OCT-1')")
        screen.type("c\n")
        await screen.until('"status": "completed"', within=60)
        assert await screen.ended() == 0


async def test_a_login_code_is_typed(visitor: Author) -> None:
    """Where the environment has no seed."""
    (visitor.folder / "seeds.env").write_text("")
    async with _terminal(visitor, *RUN, "-p", "circuit=OCT-1") as screen:
        await screen.until("login code of OCTOTEL: ", within=60)
        screen.type(f"{pyotp.TOTP(SEED, interval=PERIOD).now()}\n")
        await screen.until('"status": "completed"', within=60)
        assert await screen.ended() == 0


async def test_ctrl_c(visitor: Author) -> None:
    """Ends the action and its browser at once."""
    visitor.write(
        f"{BEGINNING}import asyncio\n"
        "@worker.action('octotel', 'validation')\n"
        "async def wait(job: Job) -> None:\n"
        "    await job.page()\n"
        "    job.phase = 'waiting'\n"
        "    await asyncio.sleep(600)\n"
    )
    await _interrupted(await visitor.start(*RUN), "waiting", "firefox")


def _terminal(author: Author, *words: str) -> contextlib.AbstractAsyncContextManager[Screen]:
    return terminal(author.command(*words), author.folder, {**author.environment, "TERM": "dumb"})


@pytest.mark.parametrize(
    ("words", "file", "problem"),
    [
        (["octotel", "cancellation"], WORKER, "action: for octotel this worker knows validation"),
        (["evotel", "validation"], WORKER, "provider: this worker knows octotel"),
        (["octotel", "validation"], "x = 1", "my_worker.py: makes no Worker; it must have one: worker = Worker()"),
        (["octotel", "validation"], None, "my_worker.py: no such Python file"),
        (["octotel", "validation"], "1 / 0", "my_worker.py: cannot be loaded; the reason is above"),
        (["octotel", "validation", "--env-file", "nowhere.env"], WORKER, "nowhere.env: cannot be read: "),
        (["octotel", "validation", "--env-file", "bad.env"], WORKER, "bad.env:2: must be NAME=VALUE"),
        (["octotel", "validation", "--pause"], WORKER, "--pause needs a browser that is seen"),
        (["octotel", "validation", "-p", "circuit"], WORKER, "circuit: must be NAME=VALUE"),
        (["octotel", "validation", "--parameters", "[]"], WORKER, "must be an object, such as"),
    ],
)
async def test_what_cannot_start(author: Author, words: list[str], file: str | None, problem: str) -> None:
    """Is named with its remedy, and the exit code is 2."""
    (author.folder / "bad.env").write_text("A=1\nOCTOTEL PASSWORD secret\n")
    author.write(file) if file else (author.folder / "my_worker.py").unlink()
    said = await author.run(*words)
    assert (said.code, said.out) == (2, "")
    assert problem in said.err
    assert "secret" not in said.err


@pytest.mark.parametrize(
    ("settings", "words", "code", "remedy"),
    [
        ({}, [], 1, "set OCTOTEL_URL in the worker's environment"),
        ({"PATH": "/nowhere"}, [], 2, "Error: no firefox is installed: run `playwright install firefox`"),
        (
            {"DISPLAY": ":0"},
            ["--pause"],
            2,
            "run `playwright install chromium`, add --browser chromium, or use breakpoint()",
        ),
    ],
)
async def test_what_is_missing(
    author: Author, settings: dict[str, str], words: list[str], code: int, remedy: str
) -> None:
    """Credentials, a browser, or what shows the inspector: it says what to do."""
    author.settings = settings
    said = await author.run("octotel", "validation", *words)
    assert said.code == code
    assert remedy in said.out + said.err.splitlines()[-1]


async def test_no_login_code_is_made_twice(tmp_path: Path) -> None:
    """Nor in the next run; a file that is damaged or ahead of the clock holds nobody up."""
    environment = {"OCTOTEL_TOTP_SECRET": SEED, "OCTOTEL_TOTP_PERIOD": "1", "OCTOTEL_TOTP_DIGITS": "8"}
    used = tmp_path / "used.json"

    def run() -> LoginCodes:
        return LoginCodes(environment, used)

    codes, began = run(), int(time.time())
    given = [await codes.next("OCTOTEL") for _ in range(2)] + [await run().next("OCTOTEL")]
    possible = [pyotp.TOTP(SEED, interval=1, digits=8).generate_otp(began + step) for step in range(6)]
    assert [code for code in possible if code in given] == given
    for damage in ("{", "[]", '{"OCTOTEL 1": "x"}', '{"OCTOTEL 1": 99999999999}'):
        used.write_text(damage)
        async with asyncio.timeout(5):
            assert len(await run().next("OCTOTEL")) == 8


async def test_short_seeds(tmp_path: Path) -> None:
    """A portal may hand out 80 bits, in groups of letters."""
    environment = {"A_TOTP_SECRET": "jbsw y3dp ehpk 3pxp", "A_TOTP_PERIOD": "0.5"}
    assert len(await LoginCodes(environment, tmp_path / "used.json").next("A")) == 6


@pytest.mark.parametrize(("name", "value"), [("SECRET", "1"), ("PERIOD", "x"), ("PERIOD", "-1"), ("DIGITS", "inf")])
async def test_settings_of_codes_that_are_wrong(name: str, value: str, tmp_path: Path) -> None:
    """Are named."""
    environment = {"A_TOTP_SECRET": SEED, f"A_TOTP_{name}": value}
    with pytest.raises(NoCode, match=f"A_TOTP_{name} must be a"):
        await LoginCodes(environment, tmp_path / "used.json").next("A")
