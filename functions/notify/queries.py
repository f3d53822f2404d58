"""The statements of reporting to ORDS."""

from typing import LiteralString

# Take the report upon us for a while; nobody else sends it meanwhile.
TAKE: LiteralString = """
UPDATE jobs SET report_attempts = report_attempts + 1, report_due = now() + make_interval(secs => %(lease)s)
WHERE id = %(job_id)s AND finished_at IS NOT NULL AND reported_at IS NULL
  AND (report_due IS NULL OR report_due <= now())
RETURNING id AS job_id, external_job_id, state AS status, result, error, finished_at AS completed_at, traceparent,
    attempt, report_attempts
"""

# ORDS has it.
ACKNOWLEDGED: LiteralString = """
WITH moved AS (
    UPDATE jobs SET reported_at = now(), report_due = NULL, report_error = NULL
    WHERE id = %(job_id)s AND reported_at IS NULL
    RETURNING id, attempt, state
)
INSERT INTO history (job_id, attempt, event, from_state, to_state, detail)
SELECT id, attempt, 'reported', state, state, %(detail)s FROM moved
"""

# ORDS has it not; try again then.
PUT_OFF: LiteralString = """
UPDATE jobs SET report_due = now() + make_interval(secs => %(wait)s), report_error = %(error)s
WHERE id = %(job_id)s AND reported_at IS NULL
"""

# Why nothing was taken: how long until the report is due, where it is outstanding.
OUTSTANDING: LiteralString = """
SELECT finished_at IS NOT NULL AND reported_at IS NULL, GREATEST(extract(epoch FROM report_due - now()), 0)::float
FROM jobs WHERE id = %(job_id)s
"""
