"""The statements of the job resource."""

from typing import LiteralString

_COLUMNS: LiteralString = """
    j.id, j.external_job_id, j.retry_of, j.provider, j.action, j.parameters, j.priority, j.max_retries,
    j.state AS status, j.attempt, j.account, j.run_after, j.deadline, j.created_at, j.claimed_at AS started_at,
    j.updated_at, j.finished_at, j.result, j.error, j.reported_at, j.report_attempts, j.report_error
"""
_EVIDENCE: LiteralString = """
    COALESCE((SELECT jsonb_agg(jsonb_build_object(
            'name', e.name, 'attempt', e.attempt, 'content_type', e.content_type, 'size', e.size,
            'sha256', encode(e.sha256, 'hex')) ORDER BY e.attempt, e.created_at)
        FROM evidence e WHERE e.job_id = j.id), '[]') AS evidence
"""

# Insert jobs with their history and events; those whose external id exists are left out of the answer.
SUBMIT: LiteralString = (
    """
WITH wanted AS (
    SELECT * FROM jsonb_to_recordset(%(jobs)s) AS w (
        n int, external_job_id text, content_digest text, provider text, action text, parameters jsonb,
        priority smallint, max_retries smallint, run_after timestamptz, deadline timestamptz)
), j AS (
    INSERT INTO jobs (external_job_id, content_digest, provider, action, parameters, priority, max_retries,
        run_after, deadline, traceparent, created_by)
    SELECT external_job_id, decode(content_digest, 'hex'), provider, action, parameters, priority, max_retries,
        COALESCE(run_after, now()), deadline, %(traceparent)s, %(created_by)s
    FROM wanted ORDER BY n
    ON CONFLICT DO NOTHING
    RETURNING *
), noted AS (
    INSERT INTO history (job_id, attempt, event, from_state, to_state, detail)
    SELECT id, 1, 'submitted', NULL, 'pending', jsonb_build_object('by', created_by) FROM j
), announced AS (
    INSERT INTO outbox (type, job_id, attempt, traceparent)
    SELECT 'rpa.job.submitted.v1', id, 1, traceparent FROM j
)
SELECT """
    + _COLUMNS
    + """, '[]'::jsonb AS evidence FROM j ORDER BY j.id
"""
)

# The jobs first submitted under these external ids, with their content's digest.
SUBMITTED_BEFORE: LiteralString = (
    "SELECT "
    + _COLUMNS
    + ", "
    + _EVIDENCE
    + """, encode(j.content_digest, 'hex') AS digest
FROM jobs j WHERE j.external_job_id = ANY(%(external_job_ids)s) AND j.retry_of IS NULL
"""
)

# Which external ids stand for a job.
IDS_TAKEN: LiteralString = (
    "SELECT external_job_id FROM jobs WHERE external_job_id = ANY(%(external_job_ids)s) AND retry_of IS NULL"
)

# One job.
GET: LiteralString = "SELECT " + _COLUMNS + ", " + _EVIDENCE + " FROM jobs j WHERE j.id = %(id)s"

# What happened to one job, in order.
HISTORY: LiteralString = """
SELECT at, attempt, event, from_state AS "from_", to_state AS "to", detail
FROM history WHERE job_id = %(id)s ORDER BY id
"""

# One page of jobs, newest first.
LIST: LiteralString = (
    "SELECT "
    + _COLUMNS
    + ", "
    + _EVIDENCE
    + """
FROM jobs j
WHERE (%(status)s::text IS NULL OR j.state = %(status)s)
  AND (%(provider)s::text IS NULL OR j.provider = %(provider)s)
  AND (%(external_job_id)s::text IS NULL OR j.external_job_id = %(external_job_id)s)
  AND (%(before)s::bigint IS NULL OR j.id < %(before)s)
ORDER BY j.id DESC LIMIT %(limit)s
"""
)

# Change a job that still waits, and ring for it: it may be due now.
CHANGE: LiteralString = (
    """
WITH j AS (
    UPDATE jobs SET
        priority = CASE WHEN 'priority' = ANY(%(fields)s) THEN %(priority)s ELSE priority END,
        run_after = CASE WHEN 'run_after' = ANY(%(fields)s) THEN COALESCE(%(run_after)s, now()) ELSE run_after END,
        deadline = CASE WHEN 'deadline' = ANY(%(fields)s) THEN %(deadline)s ELSE deadline END
    WHERE id = %(id)s AND state = 'pending'
    RETURNING *
), noted AS (
    INSERT INTO history (job_id, attempt, event, from_state, to_state, detail)
    SELECT id, attempt, 'changed', state, state, %(detail)s FROM j
), announced AS (
    INSERT INTO outbox (type, job_id, attempt, traceparent)
    SELECT 'rpa.job.submitted.v1', id, attempt, traceparent FROM j
    ON CONFLICT DO NOTHING
)
SELECT j.traceparent, """
    + _COLUMNS
    + ", "
    + _EVIDENCE
    + " FROM j"
)

# A new job with the content of one that failed or was cancelled; terminal states stay final.
RETRY: LiteralString = """
WITH j AS (
    INSERT INTO jobs (external_job_id, retry_of, content_digest, provider, action, parameters, priority, max_retries,
        deadline, traceparent, created_by)
    SELECT external_job_id, id, content_digest, provider, action, parameters, priority, max_retries,
        CASE WHEN deadline > now() THEN deadline END, %(traceparent)s, %(created_by)s
    FROM jobs WHERE id = %(id)s AND state IN ('failed', 'cancelled')
    ON CONFLICT DO NOTHING
    RETURNING *
), noted AS (
    INSERT INTO history (job_id, attempt, event, from_state, to_state, detail)
    SELECT id, 1, 'submitted', NULL, 'pending', jsonb_build_object('by', created_by, 'retry_of', retry_of) FROM j
), announced AS (
    INSERT INTO outbox (type, job_id, attempt, traceparent)
    SELECT 'rpa.job.submitted.v1', id, 1, traceparent FROM j
)
SELECT id FROM j
"""

# The job that retries another.
RETRY_OF: LiteralString = "SELECT id FROM jobs WHERE retry_of = %(id)s"

# Where a job stands.
STANDING: LiteralString = "SELECT state, attempt FROM jobs WHERE id = %(id)s"
