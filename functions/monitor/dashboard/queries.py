"""The statements of the dashboard. Each finds its rows by index: pages stay quick whatever is kept."""

from typing import LiteralString

# Attempts under way, by provider and state.
UNDER_WAY: LiteralString = """
SELECT provider, state, count(*)::int AS jobs FROM jobs
WHERE state IN ('provisioning', 'dispatching', 'running') GROUP BY provider, state
"""

# A day's ended jobs by provider, and in all: outcomes, what half and 95 % of them waited, what half of them took.
ENDED: LiteralString = """
SELECT provider, count(*) FILTER (WHERE state = 'completed')::int AS completed,
    count(*) FILTER (WHERE state = 'failed')::int AS failed,
    count(*) FILTER (WHERE state = 'cancelled')::int AS cancelled,
    percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY extract(epoch FROM claimed_at - run_after))
        FILTER (WHERE claimed_at >= run_after) AS waited,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - claimed_at))
        FILTER (WHERE state = 'completed') AS took
FROM jobs WHERE finished_at > now() - interval '24 hours' GROUP BY ROLLUP (provider)
"""

# The day's ended jobs by hour, 0 the last one.
HOURS: LiteralString = """
SELECT floor(extract(epoch FROM now() - finished_at) / 3600)::int AS hour,
    count(*) FILTER (WHERE state = 'completed')::int AS completed,
    count(*) FILTER (WHERE state <> 'completed')::int AS other
FROM jobs WHERE finished_at > now() - interval '24 hours' GROUP BY 1
"""

# The job of a provider that has been due longest.
OLDEST: LiteralString = """
SELECT id, run_after, deadline FROM jobs WHERE state = 'pending' AND provider = %(provider)s AND run_after <= now()
ORDER BY run_after, id LIMIT 1
"""

# The unfinished job whose deadline comes first.
NEXT_DEADLINE: LiteralString = """
SELECT id, state, deadline FROM jobs WHERE finished_at IS NULL AND deadline IS NOT NULL ORDER BY deadline LIMIT 1
"""

# Attempts under way with their browsers and what their workers last said, the shortest lease first.
SESSIONS: LiteralString = """
SELECT j.id, j.attempt, j.provider, j.action, j.account, j.state, j.claimed_at, j.lease_expires_at, b.name AS browser,
    (SELECT h.detail ->> 'phase' FROM history h
        WHERE h.job_id = j.id AND h.attempt = j.attempt AND h.detail ? 'phase' ORDER BY h.id DESC LIMIT 1) AS phase
FROM jobs j LEFT JOIN browsers b ON b.job_id = j.id AND b.attempt = j.attempt
WHERE j.state IN ('provisioning', 'dispatching', 'running')
ORDER BY j.lease_expires_at LIMIT %(limit)s
"""

JOBS: LiteralString = """
SELECT id, external_job_id, provider, action, state, attempt, max_retries, priority, created_at, run_after, deadline,
    claimed_at, finished_at, error ->> 'code' AS error
FROM jobs WHERE true
"""
# What a page of jobs may be narrowed to.
CONDITIONS: dict[str, LiteralString] = {
    "status": " AND state = %(status)s",
    "provider": " AND provider = %(provider)s",
    "search": " AND external_job_id = %(search)s",
    "number": " AND (external_job_id = %(search)s OR id = %(number)s)",
    "before": " AND id < %(before)s",
    "after": " AND id > %(after)s",
}

# One job.
JOB: LiteralString = """
SELECT j.*, b.name AS browser, b.address, retry.id AS retried_by
FROM jobs j
LEFT JOIN browsers b ON b.job_id = j.id AND b.attempt = j.attempt
LEFT JOIN jobs retry ON retry.retry_of = j.id
WHERE j.id = %(id)s
"""

# Whether an attempt runs.
RUNS: LiteralString = """
SELECT FROM jobs WHERE id = %(id)s AND attempt = %(attempt)s AND state = 'running'
"""

# What happened to it.
HISTORY: LiteralString = """
SELECT at, attempt, event, from_state, to_state, detail FROM history WHERE job_id = %(id)s ORDER BY id
"""

# Its files; the content of those that are short text.
EVIDENCE: LiteralString = """
SELECT attempt, name, content_type, size, encode(sha256, 'hex') AS sha256, created_at,
    CASE WHEN content_type ~ '^(text/|application/json)' AND size <= %(shown)s THEN content END AS content
FROM evidence WHERE job_id = %(id)s ORDER BY attempt, created_at, name
"""
