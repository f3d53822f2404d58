"""The statements of watching. All figures come from the database: functions come and go."""

from typing import LiteralString

# Jobs by provider and state, counted in an index, and how long the oldest that is due has waited.
JOBS: LiteralString = """
WITH kept AS (
    SELECT provider, state, count(*)::int AS jobs FROM jobs GROUP BY provider, state
), due AS (
    SELECT provider, min(run_after) AS since FROM jobs WHERE state = 'pending' AND run_after <= now() GROUP BY provider
)
SELECT provider, state, jobs,
    CASE WHEN state = 'pending' THEN COALESCE(extract(epoch FROM now() - since), 0) ELSE 0 END::float
        AS oldest_waiting_seconds
FROM kept LEFT JOIN due USING (provider) ORDER BY provider, state
"""

# What should be empty or young.
BACKLOG: LiteralString = """
SELECT (SELECT count(*) FROM outbox)::int AS outbox,
    COALESCE((SELECT extract(epoch FROM now() - min(created_at)) FROM outbox), 0)::float AS outbox_age_seconds,
    (SELECT count(*) FROM dead_letters WHERE replayed_at IS NULL OR last_at > replayed_at)::int AS dead_letters,
    (SELECT count(*) FROM jobs WHERE finished_at IS NOT NULL AND reported_at IS NULL)::int AS reports_outstanding,
    (SELECT count(*) FROM jobs WHERE lease_expires_at < now())::int AS leases_expired,
    (SELECT count(*) FROM browsers)::int AS browsers,
    (SELECT count(*) FROM browsers WHERE job_id IS NULL AND ready_at IS NOT NULL)::int AS browsers_warm
"""

# What was counted and timed since the beginning, added up or not yet: in one statement, so that nothing is twice.
FIGURES: LiteralString = """
SELECT name, provider, label, le, sum(count)::bigint AS count, sum(sum)::float AS sum FROM (
    SELECT name, provider, label, le, count, sum FROM figures
    UNION ALL
    SELECT name, provider, label, le, 1, value FROM observations
) counted
GROUP BY name, provider, label, le ORDER BY name, provider, label, le
"""

# How long ORDS has waited for the oldest report.
OLDEST_REPORT: LiteralString = """
SELECT COALESCE(max(extract(epoch FROM now() - finished_at)), 0)::float
FROM jobs WHERE finished_at IS NOT NULL AND reported_at IS NULL
"""

# Browsers and the attempts that they belong to, a page by name.
BROWSERS: LiteralString = """
SELECT b.name, b.job_id, b.attempt, j.provider, j.state AS status, b.created_at, b.ready_at, j.lease_expires_at
FROM browsers b LEFT JOIN jobs j ON j.id = b.job_id AND j.attempt = b.attempt
WHERE b.name > %(after)s ORDER BY b.name LIMIT %(limit)s
"""

# The database's clock.
CLOCK: LiteralString = "SELECT clock_timestamp()"

# The migrations that it has.
MIGRATIONS: LiteralString = "SELECT migration_id FROM _yoyo_migration"

# Providers with their pauses, and what runs and waits there.
PROVIDERS: LiteralString = """
WITH waiting AS (
    SELECT provider, count(*)::int AS pending,
        extract(epoch FROM now() - min(run_after) FILTER (WHERE run_after <= now()))::float AS oldest
    FROM jobs WHERE state = 'pending' GROUP BY provider
), busy AS (
    SELECT provider, count(*)::int AS live FROM jobs
    WHERE state IN ('provisioning', 'dispatching', 'running') GROUP BY provider
)
SELECT p.name, to_jsonb(pauses) AS paused, COALESCE(live, 0) AS live, COALESCE(pending, 0) AS pending,
    COALESCE(oldest, 0) AS oldest_waiting_seconds
FROM unnest(%(names)s::text[]) AS p (name)
LEFT JOIN pauses ON pauses.kind = 'provider' AND pauses.name = p.name
LEFT JOIN waiting ON waiting.provider = p.name
LEFT JOIN busy ON busy.provider = p.name
ORDER BY p.name
"""

# Accounts that operators paused.
PAUSED_ACCOUNTS: LiteralString = "SELECT name, to_jsonb(pauses) FROM pauses WHERE kind = 'account'"

# Pause; the last one who does so says why.
PAUSE: LiteralString = """
INSERT INTO pauses (kind, name, reason, paused_by) VALUES (%(kind)s, %(name)s, %(reason)s, %(by)s)
ON CONFLICT (kind, name) DO UPDATE SET reason = EXCLUDED.reason, paused_by = EXCLUDED.paused_by, paused_at = now()
"""

# Lift a pause, and ring for the first due job of each provider that it may have held back.
RESUME: LiteralString = """
WITH lifted AS (
    DELETE FROM pauses WHERE kind = %(kind)s AND name = %(name)s
), due AS (
    SELECT job.* FROM unnest(%(providers)s::text[]) AS p (name)
    CROSS JOIN LATERAL (
        SELECT id, attempt, traceparent FROM jobs WHERE state = 'pending' AND provider = p.name AND run_after <= now()
        ORDER BY priority DESC, id LIMIT 1
    ) job
), announced AS (
    INSERT INTO outbox (type, job_id, attempt, traceparent)
    SELECT 'rpa.job.submitted.v1', id, attempt, traceparent FROM due
    ON CONFLICT DO NOTHING
)
SELECT 'rpa.job.submitted.v1', id, attempt, traceparent FROM due
"""

# Letters with the happening that they announce. `refusal` says why one cannot be replayed: a happening of ours has
# our source, and the id that Doorbell derives from type, job and attempt. What is no number of ours is never cast.
_LETTERS: LiteralString = """
SELECT d.id, d.event_id, d.event_source, d.event_type, d.destination, d.reason, d.times, d.first_at, d.last_at,
    d.replayed_at, d.replayed_by, d.event, said.job_id, said.attempt,
    CASE WHEN d.replayed_at IS NULL OR d.last_at > d.replayed_at THEN 'open' ELSE 'replayed' END AS status,
    CASE WHEN d.event_type <> ALL (%(types)s) THEN 'foreign'
        WHEN (d.event_source = %(source)s AND d.event_id = left(encode(sha256(
            convert_to(d.event_type, 'UTF8') || '\\x00' || convert_to(said.job_id::text, 'UTF8')
            || '\\x00' || convert_to(said.attempt::text, 'UTF8')), 'hex'), 32)) IS NOT TRUE THEN 'forged'
        WHEN (SELECT id FROM jobs WHERE jobs.id = said.job_id) IS NULL THEN 'job_gone' END AS refusal
FROM dead_letters d
CROSS JOIN LATERAL (
    SELECT d.event -> 'data' ->> 'job_id' AS job_id, d.event -> 'data' ->> 'attempt' AS attempt
) raw
CROSS JOIN LATERAL (
    SELECT CASE WHEN raw.job_id ~ '^[1-9][0-9]{0,17}$' THEN raw.job_id::bigint END AS job_id,
        CASE WHEN raw.attempt ~ '^[1-9][0-9]{0,2}$' THEN raw.attempt::int END AS attempt
) said
"""

# One page of letters, newest first.
LETTERS: LiteralString = (
    _LETTERS + "WHERE %(before)s::bigint IS NULL OR d.id < %(before)s ORDER BY d.id DESC LIMIT %(limit)s"
)

# One letter.
LETTER: LiteralString = _LETTERS + "WHERE d.id = %(id)s"

# Put what open letters announce into the outbox again, one letter or the oldest ones; who is faster does it alone.
REPLAY: LiteralString = (
    "WITH letter AS ("
    + _LETTERS
    + """
    WHERE %(id)s::bigint IS NULL OR d.id = %(id)s
), chosen AS (
    SELECT * FROM letter WHERE status = 'open' AND refusal IS NULL ORDER BY id LIMIT %(limit)s
), marked AS (
    UPDATE dead_letters SET replayed_at = now(), replayed_by = %(by)s
    WHERE id = ANY(ARRAY(SELECT id FROM chosen)) AND (replayed_at IS NULL OR last_at > replayed_at)
    RETURNING id
), rung AS (
    SELECT event_type, job_id, chosen.attempt, traceparent
    FROM marked JOIN chosen USING (id) JOIN jobs ON jobs.id = job_id
), announced AS (
    INSERT INTO outbox (type, job_id, attempt, traceparent)
    SELECT * FROM rung
    ON CONFLICT DO NOTHING
)
SELECT * FROM rung
"""
)

# Whether any letter is left that could be replayed.
REPLAYABLE: LiteralString = (
    "SELECT EXISTS (SELECT FROM (" + _LETTERS + ") letter WHERE status = 'open' AND refusal IS NULL) AS more"
)
