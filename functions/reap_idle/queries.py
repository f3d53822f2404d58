"""The statements of reaping: what is late, lost, left over or out of date."""

from typing import LiteralString

from shared.browsers.rows import OVER

# Attempts that went silent, with what that means.
EXPIRED: LiteralString = """
SELECT id, attempt, state, worker FROM jobs WHERE lease_expires_at < now() ORDER BY lease_expires_at LIMIT %(limit)s
"""

# Jobs past their deadline.
TOO_LATE: LiteralString = """
SELECT id, attempt FROM jobs WHERE finished_at IS NULL AND deadline <= now() ORDER BY deadline LIMIT %(limit)s
"""

# Events that their publisher could not send.
UNSENT: LiteralString = """
SELECT type, job_id, attempt, traceparent FROM outbox
WHERE created_at < now() - make_interval(secs => %(older)s) ORDER BY created_at LIMIT %(limit)s
"""

# For each provider that is not paused, a job that is due and waits: one ring makes provision_browser claim all that
# fit.
DUE: LiteralString = """
SELECT 'rpa.job.submitted.v1', due.id, due.attempt, due.traceparent
FROM unnest(%(providers)s::text[]) AS p (name)
CROSS JOIN LATERAL (
    SELECT id, attempt, traceparent FROM jobs WHERE state = 'pending' AND provider = p.name AND run_after <= now()
    ORDER BY priority DESC, id LIMIT 1
) due
WHERE NOT EXISTS (SELECT FROM pauses WHERE kind = 'provider' AND pauses.name = p.name)
"""

# Ready browsers that no worker has taken, longer than an event takes to arrive.
UNDISPATCHED: LiteralString = """
SELECT 'rpa.browser.ready.v1', j.id, j.attempt, j.traceparent, extract(epoch FROM now() - j.updated_at)::float
FROM jobs j
WHERE j.state = 'dispatching' AND j.worker IS NULL AND j.updated_at < now() - make_interval(secs => %(older)s)
ORDER BY j.lease_expires_at LIMIT %(limit)s
"""

# Finished jobs whose report is due.
UNREPORTED: LiteralString = """
SELECT 'rpa.job.finished.v1', id, attempt, traceparent, extract(epoch FROM now() - finished_at)::float
FROM jobs
WHERE finished_at < now() - make_interval(secs => %(older)s) AND reported_at IS NULL
  AND (report_due IS NULL OR report_due <= now())
ORDER BY report_due NULLS FIRST LIMIT %(limit)s
"""

# Browsers whose attempt is over.
LEFT_OVER: LiteralString = "SELECT name FROM browsers b WHERE " + OVER + " ORDER BY created_at LIMIT %(limit)s"

# Which of these browsers should exist.
EXPECTED: LiteralString = "SELECT name FROM browsers WHERE name = ANY(%(names)s)"

# Live attempts that were given a browser, to compare with what exists.
SHOULD_EXIST: LiteralString = """
SELECT b.name, b.job_id, b.attempt FROM browsers b JOIN jobs j ON j.id = b.job_id AND j.attempt = b.attempt
WHERE j.state IN ('dispatching', 'running') AND b.ready_at < now() - make_interval(secs => %(older)s)
"""

# Warm browsers, the youngest first: whether they are ready, and their age in seconds.
WARM: LiteralString = """
SELECT name, ready_at IS NOT NULL AS ready, extract(epoch FROM now() - created_at)::float AS age
FROM browsers WHERE job_id IS NULL ORDER BY created_at DESC, name
"""

# That a round was made, and what it found; a zero says that there is such a figure.
FOUND: LiteralString = """
INSERT INTO observations (name, label, value)
VALUES ('reaps', '', 1), ('browsers_leaked', 'orphan', %(orphans)s), ('browsers_leaked', 'left_over', %(left_over)s)
"""

# Add up what was observed. What another round has in hand is left to it; in order, so that none waits for another.
ADD_UP: LiteralString = """
WITH taken AS (
    DELETE FROM observations
    WHERE ctid = ANY(ARRAY(SELECT ctid FROM observations LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
    RETURNING name, provider, label, le, value
)
INSERT INTO figures AS f (name, provider, label, le, count, sum)
SELECT name, provider, label, le, count(*), sum(value) FROM taken
GROUP BY name, provider, label, le ORDER BY name, provider, label, le
ON CONFLICT (name, provider, label, le) DO UPDATE SET count = f.count + EXCLUDED.count, sum = f.sum + EXCLUDED.sum
"""

# Retention: jobs that ended long ago and need no report any more; history and evidence go with them.
FORGET_JOBS: LiteralString = """
DELETE FROM jobs WHERE id IN (
    SELECT id FROM jobs
    WHERE finished_at < now() - make_interval(days => %(days)s) AND (reported_at IS NOT NULL OR NOT %(reports)s)
    ORDER BY finished_at LIMIT %(limit)s)
"""

# Retention: dead letters.
FORGET_DEAD_LETTERS: LiteralString = "DELETE FROM dead_letters WHERE last_at < now() - make_interval(days => %(days)s)"

# Retention: login codes' time steps; no clock is a day off.
FORGET_STEPS: LiteralString = "DELETE FROM totp_steps WHERE issued_at < now() - interval '1 day'"
