"""The statements of watching. All figures come from the database: functions come and go."""

from typing import LiteralString

# Jobs by provider and state, and how long the oldest that is due has waited.
JOBS: LiteralString = """
SELECT provider, state, count(*)::int AS jobs,
    COALESCE(extract(epoch FROM
        now() - min(run_after) FILTER (WHERE state = 'pending' AND run_after <= now())
    ), 0)::float AS oldest_waiting_seconds
FROM jobs GROUP BY provider, state ORDER BY provider, state
"""

# What should be empty or young.
BACKLOG: LiteralString = """
SELECT (SELECT count(*) FROM outbox)::int AS outbox,
    COALESCE((SELECT extract(epoch FROM now() - min(created_at)) FROM outbox), 0)::float AS outbox_age_seconds,
    (SELECT count(*) FROM dead_letters)::int AS dead_letters,
    (SELECT count(*) FROM jobs WHERE finished_at IS NOT NULL AND reported_at IS NULL)::int AS reports_outstanding,
    (SELECT count(*) FROM jobs WHERE lease_expires_at < now())::int AS leases_expired,
    (SELECT count(*) FROM browsers)::int AS browsers,
    (SELECT count(*) FROM browsers WHERE job_id IS NULL AND ready_at IS NOT NULL)::int AS browsers_warm
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
