"""Whether everything became what it should."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.api import Job
from demo.cases import Case

PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Check:
    """A promise, and what breaks it."""

    promise: str
    problems: Sequence[str] = ()
    detail: str = ""

    @property
    def ok(self) -> bool:
        return not self.problems


@dataclass(slots=True)
class Run:
    """What a run left behind."""

    cases: dict[int, Case] = field(default_factory=dict)
    jobs: dict[int, Job] = field(default_factory=dict)
    """Each with its history."""
    repeats: list[tuple[int, int, int]] = field(default_factory=list)
    """Job, then status and job of its repeated submission."""
    inbox: list[dict[str, Any]] = field(default_factory=list)
    """What ORDS received."""
    logins: list[dict[str, Any]] = field(default_factory=list)
    """What the portal noted."""
    seconds: float = 0.0


def mismatch(case: Case, job: Job) -> str | None:
    """How a job ended otherwise than it should."""
    error = (job["error"] or {}).get("code")
    became = (job["status"], error, job["attempt"])
    expected = (case.expected, case.error, case.attempts)
    return None if became == expected else f"job {job['id']}: {became} instead of {expected}"


def ended_as_expected(run: Run) -> Check:
    found = [mismatch(case, run.jobs[job_id]) for job_id, case in run.cases.items()]
    return Check(f"all {len(run.cases)} jobs ended as they should", [text for text in found if text])


def reported_once(run: Run) -> Check:
    """ORDS has one report about each job, and it says what the job became."""
    told = Counter(report["body"]["job_id"] for report in run.inbox)
    problems = [f"job {job_id}: {told[job_id]} reports" for job_id in run.cases if told[job_id] != 1]
    for report in run.inbox:
        body = report["body"]
        job = run.jobs.get(body["job_id"])
        if job and body["status"] != job["status"]:
            problems.append(f"job {job['id']}: reported as {body['status']}")
    return Check("ORDS has exactly one report about each job", problems)


def submitted_once(run: Run) -> Check:
    """The same external_job_id again is the same job."""
    problems = [
        f"job {job_id}: {status} and job {again}"
        for job_id, status, again in run.repeats
        if (status, again) != (200, job_id)
    ]
    return Check("submitted twice, done once", problems if run.repeats else ["nothing was submitted twice"])


def codes_used_once(run: Run) -> Check:
    """As the portal itself saw it."""
    accepted = Counter((login["account"], login["step"]) for login in run.logins if login["step"] is not None)
    problems = [f"{account}: step {step} accepted twice" for (account, step), n in accepted.items() if n > 1]
    problems += [f"{login['account']}: {login['reason']}" for login in run.logins if not login["accepted"]]
    wanted = sum(case.totp for case in run.cases.values())
    if len(accepted) < wanted:
        problems.append(f"{len(accepted)} logins with a code, expected {wanted}")
    return Check("no login code was used twice, none was refused", problems, f"{len(accepted)} codes")


def pictures_kept(run: Run, folder: Path) -> Check:
    """Each job that reached the portal has its screenshots on disk."""
    problems, count = [], 0
    for job_id, case in run.cases.items():
        names = {"logged-in.png", "outcome.png"} if case.expected != "cancelled" else set()
        for name in sorted(names | {item["name"] for item in run.jobs[job_id]["evidence"]}):
            file = folder / str(job_id) / name
            if not file.exists() or (file.suffix == ".png" and not file.read_bytes().startswith(PNG)):
                problems.append(f"job {job_id}: no {name}")
            count += 1
    return Check("the evidence is on disk", problems, f"{count} files")


def nothing_left(left: Sequence[int], seen: int) -> Check:
    """Browsers are gone with the system."""
    problems = [f"process {pid} still runs" for pid in left] or ([] if seen else ["no browser was ever seen"])
    return Check("no browser process is left", problems, f"{seen} came and went")


def all_checks(run: Run, folder: Path, left: Sequence[int], seen: int) -> list[Check]:
    return [
        ended_as_expected(run),
        submitted_once(run),
        codes_used_once(run),
        reported_once(run),
        pictures_kept(run, folder),
        nothing_left(left, seen),
    ]
