"""The jobs as they go: a live table on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from demo.api import Job
from demo.cases import Case

STYLES = {
    "pending": "dim",
    "provisioning": "yellow",
    "dispatching": "yellow",
    "running": "cyan",
    "completed": "green",
    "failed": "red",
    "cancelled": "magenta",
}
MARKS = {"completed": "✓", "failed": "✕", "cancelled": "–", "pending": "·"}


class Board:
    """Shows where each job stands."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._shown: dict[int, tuple[object, ...]] = {}
        self._started = time.monotonic()

    def __enter__(self) -> Board:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, cases: Mapping[int, Case], jobs: Mapping[int, Job]) -> None:
        """Draw the table anew, or say what has changed."""
        if self._live:
            self._live.update(self._table(cases, jobs), refresh=True)
        else:
            self._say(cases, jobs)

    def _table(self, cases: Mapping[int, Case], jobs: Mapping[int, Job]) -> Table:
        table = Table(title=f"{time.monotonic() - self._started:.0f} s", title_justify="right", box=None)
        for name in ("job", "priority"):
            table.add_column(name, justify="right")
        for name in ("what", "provider", "action", "attempt", "status", "reported"):
            table.add_column(name)
        for job_id, case in cases.items():
            job = jobs[job_id]
            table.add_row(
                str(job_id), str(case.priority), case.title, case.provider, case.action, str(job["attempt"]),
                _status(job), "✓" if job["reported_at"] else "",
            )  # fmt: skip
        return table

    def _say(self, cases: Mapping[int, Case], jobs: Mapping[int, Job]) -> None:
        seconds = time.monotonic() - self._started
        for job_id, case in cases.items():
            job = jobs[job_id]
            now = (job["status"], job["attempt"], bool(job["reported_at"]))
            if self._shown.get(job_id) != now:
                self._shown[job_id] = now
                reported = ", reported" if job["reported_at"] else ""
                where = f"{case.provider} {case.action}"
                status = f"attempt {job['attempt']} {job['status']}{reported}"
                self._console.print(f"{seconds:6.1f} s  job {job_id:<4} {where:<23} {status}", highlight=False)


def _status(job: Job) -> str:
    status = job["status"]
    return f"[{STYLES[status]}]{MARKS.get(status, '▸')} {status}[/]"
