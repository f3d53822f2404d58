"""The statements of handing a job to a worker."""

from typing import LiteralString

JOBS: LiteralString = """
SELECT j.id, j.attempt, j.provider, j.action, j.parameters, j.account, j.state, j.traceparent, j.worker AS handed_over,
    j.lease_expires_at, b.name AS browser, b.address, b.key_id
FROM jobs j LEFT JOIN browsers b ON b.job_id = j.id AND b.attempt = j.attempt
"""

# A job's attempt, with its browser. `handed_over` is set once a worker may have it.
JOB: LiteralString = JOBS + "WHERE j.id = %(job_id)s"

# Any attempt that waits for a worker: events that come at once find different ones.
ANY_WAITING: LiteralString = (
    JOBS + "WHERE j.state = 'dispatching' AND j.worker IS NULL AND j.lease_expires_at > now() ORDER BY random() LIMIT 1"
)

# From here on this worker may have the job: nobody else is asked in this attempt, whatever its answer.
HAND_OVER: LiteralString = """
UPDATE jobs SET worker = %(worker)s, lease_expires_at = now() + make_interval(secs => %(lease)s)
WHERE id = %(job_id)s AND attempt = %(attempt)s AND state = 'dispatching' AND worker IS NULL
RETURNING id
"""

# The worker certainly does not have it: another may be asked while the browser's lease lasts as it was.
REFUSED: LiteralString = """
UPDATE jobs SET worker = NULL, lease_expires_at = %(until)s
WHERE id = %(job_id)s AND attempt = %(attempt)s AND state = 'dispatching' AND worker = %(worker)s
"""

# There is no code for it now: it waits on, and may be given to any worker.
TAKE_BACK: LiteralString = """
UPDATE jobs SET worker = NULL, lease_expires_at = now() + make_interval(secs => %(lease)s)
WHERE id = %(job_id)s AND attempt = %(attempt)s AND state = 'dispatching' AND worker = %(worker)s
RETURNING id
"""

# The worker said yes.
ACCEPTED: LiteralString = """
WITH moved AS (
    UPDATE jobs SET state = 'running', lease_expires_at = now() + make_interval(secs => %(lease)s)
    WHERE id = %(job_id)s AND attempt = %(attempt)s AND state = 'dispatching' AND worker = %(worker)s
    RETURNING id, attempt
), noted AS (
    INSERT INTO history (job_id, attempt, event, from_state, to_state, detail)
    SELECT id, attempt, 'accepted', 'dispatching', 'running', %(detail)s FROM moved
)
SELECT id FROM moved
"""
