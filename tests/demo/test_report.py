"""How the demo judges and draws what became of its jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from demo import checks
from demo.board import Board
from demo.cases import Case
from demo.checks import Run
from demo.report import show, write
from demo.timeline import stretches

CASE = Case("everyday", "metrofiber", "validation", "MET-1", twice=True)


def job(**changes: Any) -> dict[str, Any]:
    """A job as the API shows it."""
    entries = [("submitted", "pending", 0), ("claimed", "provisioning", 1), ("completed", "completed", 4)]
    history = [
        {"attempt": 1, "event": event, "to": state, "detail": {}, "at": f"2026-01-01T00:00:0{second}Z"}
        for event, state, second in entries
    ]
    return {
        "id": 7,
        "status": "completed",
        "attempt": 1,
        "priority": 5,
        "provider": "metrofiber",
        "action": "validation",
        "external_job_id": "demo-1",
        "created_at": "2026-01-01T00:00:00Z",
        "finished_at": "2026-01-01T00:00:04Z",
        "reported_at": "2026-01-01T00:00:05Z",
        "result": {"reference": "MET-1001"},
        "error": None,
        "evidence": [{"name": "logged-in.png"}, {"name": "outcome.png"}],
        "history": history,
        **changes,
    }


@pytest.fixture
def run() -> Run:
    """A run in which all went well."""
    return Run(
        cases={7: CASE},
        jobs={7: job()},
        repeats=[(7, 200, 7)],
        inbox=[{"body": {"job_id": 7, "status": "completed"}}],
        logins=[{"account": "OCTOTEL", "step": 1, "accepted": True, "reason": None}],
    )


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    """A folder in which both pictures of the job are."""
    (tmp_path / "7").mkdir()
    for name in ("logged-in.png", "outcome.png"):
        (tmp_path / "7" / name).write_bytes(checks.PNG)
    return tmp_path


def test_all_well(run: Run, evidence: Path) -> None:
    """A run in which all went well breaks no promise."""
    assert all(check.ok for check in checks.all_checks(run, evidence, left=[], seen=3))


def test_all_broken(run: Run, tmp_path: Path) -> None:
    """A run in which all went wrong breaks every promise."""
    run.jobs[7] = job(status="failed", error={"code": "worker_lost"})
    run.repeats = [(7, 201, 8)]
    run.inbox *= 2
    run.logins *= 2
    assert not any(check.ok for check in checks.all_checks(run, tmp_path, left=[1], seen=3))


def test_refused_code(run: Run) -> None:
    """A login code that the portal refused breaks the promise, with the portal's reason."""
    run.logins.append({"account": "OCTOTEL", "step": None, "accepted": False, "reason": "used before"})
    assert checks.codes_used_once(run).problems == ["OCTOTEL: used before"]


def test_stretches() -> None:
    """Each entry of the history lasts until the next one."""
    found = [(part.state, part.start, part.seconds) for part in stretches(job())]
    assert found == [("pending", 0.0, 1.0), ("provisioning", 1.0, 3.0), ("completed", 4.0, 0.0)]


def test_report(run: Run, evidence: Path) -> None:
    """The report names the job, its end, its timeline and the place of its evidence, on paper and as JSON."""
    console = Console(record=True, width=120)
    found = checks.all_checks(run, evidence, left=[], seen=3)
    show(console, run, found, 7, evidence)
    text = console.export_text()
    for part in ("MET-1001", "completed", "provisioning", "3.00 s", "logged-in.png"):
        assert part in text
    write(evidence / "report.json", run, found, 7, evidence)
    assert '"ok": true' in (evidence / "report.json").read_text()


@pytest.mark.parametrize("terminal", [True, False])
def test_board(run: Run, terminal: bool) -> None:
    """A terminal shows a table; elsewhere each change is one line, and what has not changed is not repeated."""
    console = Console(record=True, width=120, force_terminal=terminal)
    with Board(console) as board:
        board.show(run.cases, run.jobs)
        board.show(run.cases, run.jobs)
    text = console.export_text()
    assert "completed" in text
    if not terminal:
        assert len(text.splitlines()) == 1
