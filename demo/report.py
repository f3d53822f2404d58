"""What became of it all: tables for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from demo.api import Job
from demo.board import STYLES
from demo.checks import Check, Run, mismatch
from demo.timeline import chart, stretches


def show(console: Console, run: Run, checks: Sequence[Check], featured: int | None, evidence: Path) -> None:
    """The whole report, for people."""
    console.print()
    console.rule("What became of each job")
    console.print(_table(run))
    if featured is not None:
        console.rule(f"Job {featured}: {run.cases[featured].title}")
        console.print(chart(run.jobs[featured]))
    console.rule("Promises")
    for check in checks:
        mark = "[green]✓[/]" if check.ok else "[red]✕[/]"
        console.print(f" {mark} {check.promise}" + (f" [dim]({check.detail})[/]" if check.detail else ""))
        for problem in check.problems:
            console.print(f"     [red]{problem}[/]")
    console.print(f"\nEvidence: {evidence}/JOB/NAME, for example {_example(run, evidence)}")


def _table(run: Run) -> Table:
    table = Table(box=None, padding=(0, 1))
    for name in ("", "job", "what", "provider", "action", "became", "expected", "tries", "seconds", "result"):
        table.add_column(name, justify="right" if name in {"job", "tries", "seconds"} else "left")
    for job_id, case in run.cases.items():
        job = run.jobs[job_id]
        right = mismatch(case, job) is None
        table.add_row(
            "[green]✓[/]" if right else "[red]✕[/]", str(job_id), case.title, case.provider, case.action,
            f"[{STYLES[job['status']]}]{job['status']}[/]", case.expected, str(job["attempt"]),
            f"{seconds(job):.1f}", _result(job),
        )  # fmt: skip
    return table


def seconds(job: Job) -> float:
    """From submission to the end."""
    if job["finished_at"] is None:
        return 0.0
    begun, ended = (datetime.fromisoformat(job[name]) for name in ("created_at", "finished_at"))
    return (ended - begun).total_seconds()


def _result(job: Job) -> str:
    return str((job["result"] or {}).get("reference") or (job["error"] or {}).get("code") or "")


def _example(run: Run, evidence: Path) -> Path:
    names = [(job_id, item["name"]) for job_id, job in run.jobs.items() for item in job["evidence"]]
    job_id, name = names[0] if names else ("JOB", "NAME")
    return evidence / str(job_id) / name


def write(file: Path, run: Run, checks: Sequence[Check], featured: int | None, evidence: Path) -> None:
    """The same for programs."""
    report: dict[str, Any] = {
        "ok": all(check.ok for check in checks),
        "seconds": round(run.seconds, 1),
        "checks": [{**dataclasses.asdict(check), "ok": check.ok} for check in checks],
        "jobs": [_entry(run, job_id) for job_id in run.cases],
        "timeline": [dataclasses.asdict(part) for part in stretches(run.jobs[featured])] if featured else [],
        "evidence": str(evidence),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=2) + "\n")


def _entry(run: Run, job_id: int) -> dict[str, Any]:
    case, job = run.cases[job_id], run.jobs[job_id]
    kept = ("status", "attempt", "priority", "provider", "action", "result", "error", "external_job_id")
    return {
        "job_id": job_id,
        "title": case.title,
        "ok": mismatch(case, job) is None,
        "expected": {"status": case.expected, "error": case.error, "attempt": case.attempts},
        **{name: job[name] for name in kept},
        "seconds": round(seconds(job), 2),
        "evidence": [item["name"] for item in job["evidence"]],
        "history": job["history"],
    }
