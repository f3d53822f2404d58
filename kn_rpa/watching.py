"""Jobs as they go: a line for each thing that happens, and on a terminal what each is doing now."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from kn_rpa.api import Api, Item
from kn_rpa.errors import NotGood, NotReached
from kn_rpa.output import STYLES, console
from kn_rpa.timeline import told

TERMINAL = ("completed", "failed", "cancelled")
PAUSE_SECONDS = 0.5
PATIENCE_SECONDS = 60
MARKS = {"completed": "✓", "failed": "✕", "cancelled": "–"}
PHASES = {"pending": "waits", "provisioning": "gets a browser", "dispatching": "seeks a worker", "running": "runs"}


class Watch:
    """Shows what is new about jobs."""

    def __init__(self, target: Console, job_ids: Sequence[int]) -> None:
        self._console = target
        self._many = len(job_ids) > 1
        self._told = dict.fromkeys(job_ids, 0)
        self._spinner = Spinner("dots")
        self.jobs: dict[int, Item] = {}

    def tell(self, job: Item) -> None:
        """Print what has happened since it was last told."""
        new = self._told[job["id"]]
        for happening in list(told(job["history"], job["created_at"]))[new:]:
            prefix = f"job {job['id']:<5} " if self._many else ""
            self._console.print(Text.assemble(prefix, happening.text()))
        if job["status"] in TERMINAL and self.jobs.get(job["id"], {}).get("status") not in TERMINAL:
            self._console.print(_ending(job))
        self._told[job["id"]] = len(job["history"])
        self.jobs[job["id"]] = job

    def __rich__(self) -> RenderableType:
        """What the jobs that go on are doing now."""
        going = [job for job in self.jobs.values() if job["status"] not in TERMINAL]
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for job in going:
            table.add_row(self._spinner, f"job {job['id']}", f"{job['provider']} {job['action']}", _now(job))
        return Group(table) if going else Text("")


def _now(job: Item) -> Text:
    since = datetime.fromisoformat(job["history"][-1]["at"])
    seconds = max((datetime.now(UTC) - since).total_seconds(), 0.0)
    return Text.assemble(
        f"attempt {job['attempt']} of {job['max_retries'] + 1} ",
        (PHASES[job["status"]], STYLES.get(job["status"], "")),
        (f"  {seconds:.0f} s", "dim"),
    )


def _ending(job: Item) -> Text:
    happenings = list(told(job["history"], job["created_at"]))
    seconds = next((h.seconds for h in reversed(happenings) if h.state in TERMINAL and h.event != "reported"), 0.0)
    status = job["status"]
    words: list[Text | str | tuple[str, str]] = [
        (f"{MARKS[status]} job {job['id']} {status}", f"bold {STYLES[status]}"),
        f" after {seconds:.1f} s",
    ]
    if error := job["error"]:
        words.append(f": {error['message']}")
    elif job["result"]:
        words.append(": " + ", ".join(f"{name} {value}" for name, value in job["result"].items()))
    if job["evidence"]:
        words.append((f"  evidence {', '.join(file['name'] for file in job['evidence'])}", "dim"))
    return Text.assemble(*words)


def watch_jobs(api: Api, job_ids: Sequence[int]) -> None:
    """Follow jobs to their end. Raises NotGood where one does not complete, Refused, NotReached."""
    target = console()
    watch = Watch(target, job_ids)
    if target.is_terminal:
        with Live(watch, console=target, refresh_per_second=10, transient=True):
            _follow(api, watch, job_ids)
    else:
        _follow(api, watch, job_ids)
    bad = {job_id: job["status"] for job_id, job in watch.jobs.items() if job["status"] != "completed"}
    if bad:
        raise NotGood(_sentence(bad))


def _follow(api: Api, watch: Watch, job_ids: Sequence[int]) -> None:
    going, last_answer = list(job_ids), time.monotonic()
    while going:
        try:
            for job_id in going:
                watch.tell(api.get(f"/jobs/{job_id}"))
            last_answer = time.monotonic()
        except NotReached:
            if time.monotonic() - last_answer > PATIENCE_SECONDS:
                raise
        going = [job_id for job_id in going if watch.jobs.get(job_id, {}).get("status") not in TERMINAL]
        time.sleep(PAUSE_SECONDS if going else 0)


def _sentence(bad: Mapping[int, str]) -> str:
    return ", ".join(f"job {job_id} {status}" for job_id, status in bad.items())
