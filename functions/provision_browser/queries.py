"""The statements of admission and of bringing up a browser."""

from typing import LiteralString

from shared.browsers.rows import OVER

# Claim the next jobs: due, within every limit, highest priority first, then oldest. Each provider is asked for
# as many as it has room for, so one at its limit never hides another's jobs. None of a provider that is paused, or
# whose accounts all are.
CLAIM_JOBS: LiteralString = """
WITH account AS (
    SELECT a.*, EXISTS (SELECT FROM pauses WHERE kind = 'account' AND pauses.name = a.name) AS paused
    FROM jsonb_to_recordset(%(accounts)s) AS a (provider text, name text, max_sessions int)
), provider AS (
    SELECT * FROM jsonb_to_recordset(%(providers)s)
        AS p (name text, max_sessions int, binds_accounts boolean, browser boolean)
    WHERE NOT EXISTS (SELECT FROM pauses WHERE kind = 'provider' AND pauses.name = p.name)
      AND COALESCE((SELECT NOT bool_and(paused) FROM account WHERE account.provider = p.name), true)
), busy AS (
    SELECT provider, account, count(*)::int AS sessions FROM jobs
    WHERE state IN ('provisioning', 'dispatching', 'running')
    GROUP BY provider, account
), room AS (
    SELECT least(%(max_workers)s - COALESCE(sum(sessions), 0), %(batch)s)::int AS places FROM busy
), free AS (
    SELECT p.name, p.binds_accounts, least(room.places,
        p.max_sessions - COALESCE((SELECT sum(sessions) FROM busy WHERE busy.provider = p.name), 0))::int AS places
    FROM provider p, room
), account_place AS (
    SELECT a.provider, a.name AS account,
        row_number() OVER (PARTITION BY a.provider ORDER BY taken.sessions + n, a.name) AS rank
    FROM account a
    JOIN free ON free.name = a.provider AND free.binds_accounts AND NOT a.paused
    CROSS JOIN LATERAL (SELECT COALESCE(sum(sessions), 0)::int AS sessions FROM busy
        WHERE busy.provider = a.provider AND busy.account = a.name) taken
    CROSS JOIN LATERAL generate_series(1, least(a.max_sessions - taken.sessions, free.places)) n
), place AS (
    SELECT name AS provider, NULL AS account, n::bigint AS rank
    FROM free, generate_series(1, places) n WHERE NOT binds_accounts
    UNION ALL
    SELECT provider, account, rank FROM account_place JOIN free ON free.name = provider AND rank <= places
), candidate AS (
    SELECT c.*, row_number() OVER (PARTITION BY c.provider ORDER BY c.priority DESC, c.id) AS rank
    FROM (SELECT provider, max(rank) AS places FROM place GROUP BY provider) wanted
    CROSS JOIN LATERAL (
        SELECT id, provider, priority FROM jobs
        WHERE state = 'pending' AND jobs.provider = wanted.provider
          AND run_after <= now() AND (deadline IS NULL OR deadline > now())
        ORDER BY priority DESC, id LIMIT wanted.places
        FOR UPDATE SKIP LOCKED
    ) c
), chosen AS (
    SELECT candidate.id, place.account FROM candidate JOIN place USING (provider, rank)
    ORDER BY candidate.priority DESC, candidate.id
    LIMIT (SELECT greatest(places, 0) FROM room)
), moved AS (
    UPDATE jobs SET state = 'provisioning', account = chosen.account, worker = NULL, claimed_at = now(),
        lease_expires_at = now() + make_interval(secs => %(lease)s)
    FROM chosen WHERE jobs.id = chosen.id
    RETURNING jobs.id, jobs.attempt, jobs.provider, jobs.account, jobs.traceparent, jobs.priority
), needy AS (
    SELECT moved.id, moved.attempt, row_number() OVER (ORDER BY moved.priority DESC, moved.id) AS n
    FROM moved JOIN provider ON provider.name = moved.provider AND provider.browser
    WHERE NOT EXISTS (SELECT FROM browsers WHERE (job_id, browsers.attempt) = (moved.id, moved.attempt))
), warm AS (
    SELECT name, row_number() OVER (ORDER BY ready_at) AS n FROM (
        SELECT name, ready_at FROM browsers
        WHERE job_id IS NULL AND ready_at IS NOT NULL AND created_at > now() - make_interval(secs => %(warm)s)
        ORDER BY ready_at LIMIT (SELECT count(*) FROM needy)
        FOR UPDATE SKIP LOCKED
    ) oldest
), taken AS (
    UPDATE browsers SET job_id = needy.id, attempt = needy.attempt
    FROM needy JOIN warm USING (n) WHERE browsers.name = warm.name
    RETURNING browsers.job_id, browsers.name
), noted AS (
    INSERT INTO history (job_id, attempt, event, from_state, to_state, detail)
    SELECT id, attempt, 'claimed', 'pending', 'provisioning',
        jsonb_strip_nulls(jsonb_build_object('account', account, 'warm_browser', taken.name))
    FROM moved LEFT JOIN taken ON taken.job_id = moved.id
), named AS (
    INSERT INTO browsers (name, job_id, attempt, key_id)
    SELECT 'rpa-browser-' || moved.id || '-' || moved.attempt, moved.id, moved.attempt, %(key_id)s
    FROM moved JOIN provider ON provider.name = moved.provider AND provider.browser
    WHERE moved.id NOT IN (SELECT job_id FROM taken)
    ON CONFLICT ON CONSTRAINT browsers_one_per_attempt
    DO UPDATE SET key_id = EXCLUDED.key_id, address = NULL, ready_at = NULL
)
SELECT id, attempt, provider, traceparent FROM moved ORDER BY id
"""

# An attempt whose browser somebody began to bring up, perhaps somebody who was killed.
BEGUN: LiteralString = """
SELECT id, attempt, provider, traceparent FROM jobs
WHERE id = %(job_id)s AND attempt = %(attempt)s AND state = 'provisioning'
"""

# Where the job of an event stands, and how long until it is due.
STANDING: LiteralString = """
SELECT state, attempt, GREATEST(extract(epoch FROM run_after - now()), 0)::float FROM jobs WHERE id = %(job_id)s
"""

# A browser that takes its time keeps its attempt alive.
KEEP_LEASE: LiteralString = """
UPDATE jobs SET lease_expires_at = now() + make_interval(secs => %(lease)s)
WHERE id = %(job_id)s AND attempt = %(attempt)s AND state = 'provisioning'
"""

# The browser that the claim chose for an attempt; one that was warm is ready.
BROWSER_OF: LiteralString = """
SELECT name, key_id, ready_at IS NOT NULL AS warm FROM browsers WHERE job_id = %(job_id)s AND attempt = %(attempt)s
"""

# The warm browser is dead: the attempt gets one of its own, and the old one, without a row, is an orphan.
REPLACE: LiteralString = """
UPDATE browsers SET name = 'rpa-browser-' || job_id || '-' || attempt, address = NULL, ready_at = NULL,
    key_id = %(key_id)s, created_at = now()
WHERE job_id = %(job_id)s AND attempt = %(attempt)s
RETURNING name, key_id, false AS warm
"""

# The browser is ready: hand the attempt to dispatch.
READY: LiteralString = """
WITH moved AS (
    UPDATE jobs SET state = 'dispatching', lease_expires_at = now() + make_interval(secs => %(lease)s)
    WHERE id = %(job_id)s AND attempt = %(attempt)s AND state = 'provisioning'
    RETURNING id, attempt, traceparent
), addressed AS (
    UPDATE browsers SET address = %(address)s, ready_at = now() FROM moved
    WHERE browsers.job_id = moved.id AND browsers.attempt = moved.attempt AND %(address)s::text IS NOT NULL
), noted AS (
    INSERT INTO history (job_id, attempt, event, from_state, to_state)
    SELECT id, attempt, 'browser_ready', 'provisioning', 'dispatching' FROM moved
), announced AS (
    INSERT INTO outbox (type, job_id, attempt, traceparent)
    SELECT 'rpa.browser.ready.v1', id, attempt, traceparent FROM moved
    ON CONFLICT DO NOTHING
)
SELECT traceparent FROM moved
"""

# There is no room for the browser: give the place back without costing the job an attempt.
GIVE_BACK: LiteralString = """
WITH moved AS (
    UPDATE jobs SET state = 'pending', account = NULL, lease_expires_at = NULL,
        run_after = now() + make_interval(secs => %(wait)s)
    WHERE id = %(job_id)s AND attempt = %(attempt)s AND state = 'provisioning'
    RETURNING id, attempt, traceparent
), noted AS (
    INSERT INTO history (job_id, attempt, event, from_state, to_state, detail)
    SELECT id, attempt, 'given_back', 'provisioning', 'pending', %(detail)s FROM moved
), announced AS (
    INSERT INTO outbox (type, job_id, attempt, traceparent)
    SELECT 'rpa.job.submitted.v1', id, attempt, traceparent FROM moved
    ON CONFLICT DO NOTHING
)
SELECT traceparent FROM moved
"""

# Browsers of a job whose attempt is over.
LEFT_OVER: LiteralString = "SELECT name FROM browsers b WHERE job_id = %(job_id)s AND " + OVER
