"""The statements of what workers report."""

from typing import LiteralString

# The worker lives. Its first heartbeat also proves that it took the job, should its answer have been lost.
HEARTBEAT: LiteralString = """
WITH job AS (
    SELECT id, state FROM jobs
    WHERE id = %(job_id)s AND attempt = %(attempt)s AND provider = %(provider)s
      AND state IN ('dispatching', 'running') AND worker IS NOT NULL
    FOR UPDATE
), moved AS (
    UPDATE jobs SET state = 'running',
        lease_expires_at = least(now() + make_interval(secs => %(lease)s),
            claimed_at + make_interval(secs => %(longest)s))
    FROM job WHERE jobs.id = job.id
    RETURNING jobs.id, jobs.attempt, jobs.lease_expires_at, job.state AS from_state
), noted AS (
    INSERT INTO history (job_id, attempt, event, from_state, to_state, detail)
    SELECT id, attempt, CASE WHEN from_state = 'dispatching' THEN 'accepted' ELSE 'phase' END, from_state, 'running',
        %(detail)s
    FROM moved WHERE from_state = 'dispatching' OR (%(phase)s::text IS NOT NULL AND %(phase)s IS DISTINCT FROM (
        SELECT detail ->> 'phase' FROM history
        WHERE job_id = %(job_id)s AND attempt = %(attempt)s AND detail ? 'phase' ORDER BY id DESC LIMIT 1))
)
SELECT lease_expires_at, extract(epoch FROM lease_expires_at - now())::float8 FROM moved
"""

# Where the attempt stands, for the answer to a worker that is too late.
STANDING: LiteralString = """
SELECT state, attempt, EXISTS (
    SELECT FROM history WHERE job_id = jobs.id AND attempt = %(attempt)s AND detail ->> 'by' = 'worker'
      AND from_state <> to_state) AS told
FROM jobs WHERE id = %(job_id)s AND provider = %(provider)s
"""

# Whether the attempt runs.
RUNS: LiteralString = """
SELECT FROM jobs
WHERE id = %(job_id)s AND attempt = %(attempt)s AND provider = %(provider)s AND state IN ('dispatching', 'running')
"""

# Keep a file; the same name again replaces it while the attempt lives.
KEEP_EVIDENCE: LiteralString = """
WITH job AS (
    SELECT id, attempt FROM jobs
    WHERE id = %(job_id)s AND attempt = %(attempt)s AND provider = %(provider)s AND state IN ('dispatching', 'running')
    FOR SHARE
)
INSERT INTO evidence (job_id, attempt, name, content_type, size, sha256, content)
SELECT id, attempt, %(name)s, %(content_type)s, %(size)s, %(sha256)s, %(content)s FROM job
ON CONFLICT (job_id, attempt, name) DO UPDATE SET content_type = EXCLUDED.content_type, size = EXCLUDED.size,
    sha256 = EXCLUDED.sha256, content = EXCLUDED.content, created_at = now()
RETURNING encode(sha256, 'hex')
"""

# How many files and bytes an attempt has.
EVIDENCE_SO_FAR: LiteralString = """
SELECT count(*), COALESCE(sum(size), 0) FROM evidence
WHERE job_id = %(job_id)s AND attempt = %(attempt)s AND name <> %(name)s
"""

# Which of these files the attempt has.
EVIDENCE_NAMES: LiteralString = """
SELECT name FROM evidence WHERE job_id = %(job_id)s AND attempt = %(attempt)s AND name = ANY(%(names)s)
"""
