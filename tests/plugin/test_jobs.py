"""`kn rpa job`"""

from __future__ import annotations

import json
import re
import signal

import pytest

from tests.functions.stage import Stage
from tests.plugin.conftest import Door
from tests.plugin.terminal import Shell, matches_snapshot
from tests.serving import eventually

SUBMIT = ("job", "submit", "metrofiber", "validation")
FAILURE = {"kind": "business", "code": "unknown_circuit", "message": "the portal does not know C-9"}


async def test_a_job_is_submitted(shell: Shell, stage: Stage) -> None:
    """With parameters one by one and as JSON, and all that a job may have."""
    said = await shell.says(
        *SUBMIT, "-p", "circuit=C-1", "--parameters", '{"floor": 3}', "--priority", "7", "--max-retries", "1",
        "--external-id", "A-1", "--deadline", "2099-01-01T00:00:00Z",
    )  # fmt: skip
    (job,) = (await stage.call("submit_job", "GET", "/jobs")).json()["items"]
    assert said == f"Job {job['id']} submitted.\n"
    assert job["parameters"] == {"circuit": "C-1", "floor": 3}
    assert (job["priority"], job["max_retries"], job["external_job_id"]) == (7, 1, "A-1")
    assert job["deadline"] == "2099-01-01T00:00:00Z"


async def test_parameters_come_from_a_file_or_standard_input(shell: Shell, stage: Stage) -> None:
    """As curl reads them."""
    (shell.folder / "job.json").write_text('{"circuit": "C-2"}')
    await shell.says(*SUBMIT, "--parameters", "@job.json")
    assert (await shell.run(*SUBMIT, "--parameters", "-", stdin='{"circuit": "C-3"}')).code == 0
    jobs = (await stage.call("submit_job", "GET", "/jobs")).json()["items"]
    assert [job["parameters"]["circuit"] for job in jobs] == ["C-3", "C-2"]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--parameters", "[1]"), "must be an object"),
        (("--parameters", "{"), "no JSON"),
        (("--parameters", "@nowhere.json"), "no JSON: [Errno 2]"),
        (("-p", "circuit"), "must be NAME=VALUE"),
        (("--priority", "11"), "0<=x<=10"),
        (("--deadline", "soon"), "deadline: "),
    ],
)
async def test_a_wrong_wish_is_refused(shell: Shell, stage: Stage, words: tuple[str, ...], error: str) -> None:
    """Exit code 1, the reason on standard error, and no job."""
    said = await shell.run(*SUBMIT, *words)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("Error: ")
    assert error in said.err
    assert (await stage.call("submit_job", "GET", "/jobs")).json()["items"] == []


async def test_a_refusal_of_the_function_is_told_in_its_words(shell: Shell) -> None:
    """Which names the field and the remedy."""
    said = await shell.run("job", "submit", "octotell", "validation")
    assert (said.code, said.out) == (1, "")
    assert said.err == "Error: provider: unknown; one of evotel, metrofiber, octotel, openserve\n"


async def test_jobs_are_listed(shell: Shell, stage: Stage) -> None:
    """Newest first, as a table that kn might print."""
    await _three(stage)
    matches_snapshot("job_list", await shell.says("job", "list"))
    bare = await shell.says("job", "list", "--no-headers")
    assert [line.split()[0] for line in bare.splitlines()] == ["103", "102", "101"]


async def _three(stage: Stage) -> None:
    """A job that failed, one that was completed, one that waits."""
    await stage.execute("ALTER TABLE jobs ALTER COLUMN id RESTART WITH 101")
    order = await stage.until_running(external_job_id="A-1", parameters={"circuit": "C-9"})
    await stage.complete(order, status="failed", failure=FAILURE)
    order = await stage.until_running(parameters={"circuit": "C-1"})
    await stage.complete(order, result={"reference": "MET-1"})
    await stage.deliver_all()
    await stage.submit(provider="evotel", priority=9, max_retries=0)


async def test_jobs_are_listed_for_programs(shell: Shell, stage: Stage) -> None:
    """JSON is the API's own, YAML the same; names are what other commands take."""
    await _three(stage)
    items = (await stage.call("submit_job", "GET", "/jobs")).json()["items"]
    assert json.loads(await shell.says("job", "list", "-o", "json")) == {"items": items}
    names = (await shell.says("job", "list", "--status", "failed", "-o", "name")).split()
    assert names == ["job/101"]
    assert await shell.says("job", "retry", *names) == "Job 104 retries job 101.\n"
    assert "external_job_id: A-1" in await shell.says("job", "describe", "job/101", "-o", "yaml")


async def test_filters_and_limits(shell: Shell, stage: Stage) -> None:
    """More than a page holds is fetched page by page."""
    one = {"provider": "metrofiber", "action": "validation"}
    for _ in range(3):
        answer = await stage.call("submit_job", "POST", "/jobs:batch", json={"jobs": [one] * 75})
        assert answer.status_code == 201
    await stage.submit(provider="evotel", external_job_id="B-1")
    assert len((await shell.says("job", "list", "-o", "name", "--limit", "210")).split()) == 210
    assert len((await shell.says("job", "list", "-o", "name", "--limit", "9999")).split()) == 226
    for words in (("--provider", "evotel"), ("--external-id", "B-1"), ("--limit", "1")):
        assert len((await shell.says("job", "list", "-o", "name", *words)).split()) == 1
    assert await shell.says("job", "list", "--status", "running") == "No jobs found.\n"


async def test_a_job_is_described(shell: Shell, stage: Stage) -> None:
    """What it is, why it failed, and all that happened to it."""
    await _three(stage)
    matches_snapshot("job_describe", _stable(await shell.says("job", "describe", "101"), stage))
    assert 'Result:      {"reference": "MET-1"}' in await shell.says("job", "describe", "102")


def _stable(text: str, stage: Stage) -> str:
    return text.replace(stage.worker.url, "http://worker")


async def test_jobs_are_cancelled(shell: Shell, stage: Stage) -> None:
    """Several at once; one that has ended is refused."""
    first, second = [(await stage.submit())["id"] for _ in range(2)]
    said = await shell.says("job", "cancel", str(first), f"job/{second}")
    assert said == f"Job {first} cancelled.\nJob {second} cancelled.\n"
    assert {(await stage.job(job_id))["status"] for job_id in (first, second)} == {"cancelled"}
    order = await stage.until_running()
    await stage.complete(order)
    said = await shell.run("job", "cancel", str(order["job_id"]))
    assert (said.code, said.err) == (1, f"Error: job {order['job_id']} is completed already\n")


@pytest.mark.parametrize("job_id", ["one", "-1", "1.5", "job/"])
async def test_what_is_no_id_is_refused(shell: Shell, job_id: str) -> None:
    """Before anybody is asked."""
    said = await shell.run("job", "describe", "--", job_id)
    assert said.code == 1
    assert f"{job_id} is no job's id" in said.err


async def test_a_job_is_watched_while_it_runs(shell: Shell, stage: Stage) -> None:
    """Each thing is told when it happens, and the end with its result."""
    await stage.execute("ALTER TABLE jobs ALTER COLUMN id RESTART WITH 101")
    job = await stage.submit(parameters={"circuit": "C-1"})
    async with shell.running("job", "watch", str(job["id"])) as process:
        assert process.stdout
        lines = [(await process.stdout.readline()).decode()]
        await stage.deliver_all()
        lines += [(await process.stdout.readline()).decode() for _ in range(3)]
        assert process.returncode is None
        await stage.complete(stage.worker.orders[-1], result={"reference": "MET-1"})
        rest, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    matches_snapshot("job_watch", _stable("".join(lines) + rest.decode(), stage))


async def test_a_job_that_fails_ends_the_watch_with_2(shell: Shell, stage: Stage) -> None:
    """Scripts can tell it from a watch that could not be done."""
    order = await stage.until_running()
    await stage.complete(order, status="failed", failure=FAILURE)
    good = await stage.until_running()
    await stage.complete(good)
    said = await shell.run("job", "watch", str(order["job_id"]), str(good["job_id"]))
    assert (said.code, said.err) == (2, f"Error: job {order['job_id']} failed\n")
    assert f"job {good['job_id']} completed after" in said.out
    assert re.search(rf"job {order['job_id']} failed after \d+\.\d s: {FAILURE['message']}", said.out)
    assert (await shell.run("job", "watch", "99999")).code == 1


async def test_a_watch_outlives_a_function_that_is_away(shell: Shell, stage: Stage, door: Door) -> None:
    """It asks again, and tells what it has missed."""
    order = await stage.until_running()
    async with shell.running("job", "watch", str(order["job_id"])) as process:
        assert process.stdout
        await process.stdout.readline()
        door.shut = True
        await eventually(lambda: door.turned_away > 1)
        await stage.complete(order)
        door.shut = False
        said, _ = await process.communicate()
    assert process.returncode == 0
    assert f"job {order['job_id']} completed" in said.decode()


async def test_a_terminal_shows_what_a_job_is_doing(shell: Shell, stage: Stage) -> None:
    """Which phase it is in, of which attempt, for how long; Ctrl-C ends only the watch."""
    order = await stage.until_running()
    async with shell.on_a_terminal("job", "watch", str(order["job_id"])) as screen:
        await screen.until("runs")
        await screen.until("attempt 1 of 4")
        screen.process.send_signal(signal.SIGINT)
        assert await screen.ended() == 130
    assert (await stage.job(order["job_id"]))["status"] == "running"


async def test_a_terminal_shows_a_job_to_its_end(shell: Shell, stage: Stage) -> None:
    """What it waits for, what it does, and its result."""
    job = await stage.submit(parameters={"circuit": "C-1"})
    async with shell.on_a_terminal("job", "watch", str(job["id"])) as screen:
        await screen.until("waits")
        await stage.deliver_all()
        await screen.until("runs")
        await stage.complete(stage.worker.orders[-1], result={"reference": "MET-1"})
        code = await screen.to_the_end(kept_as="job-watch")
    assert code == 0
    accepted, ended = screen.seen.index("accepted"), screen.seen.index(f"✓ job {job['id']} completed")
    assert accepted < ended
    assert re.search(r" after \d+\.\d s: reference MET-1\r\n", screen.seen[ended:])


async def test_a_new_job_is_watched_at_once(shell: Shell, stage: Stage) -> None:
    """One command from submission to the end; the same for a retry."""
    async with shell.running(*SUBMIT, "--watch") as process:
        assert process.stdout
        job_id = int((await process.stdout.readline()).split()[1])
        await stage.call("submit_job", "DELETE", f"/jobs/{job_id}")
        await process.communicate()
    assert process.returncode == 2
    async with shell.running("job", "retry", str(job_id), "--watch") as process:
        assert process.stdout
        assert f"retries job {job_id}" in (await process.stdout.readline()).decode()
        await stage.deliver_all()
        await stage.complete(stage.worker.orders[-1])
        await process.communicate()
    assert process.returncode == 0
