"""Rows of browsers: which are left over, and when one may go."""

from typing import LiteralString

OVER: LiteralString = """
b.job_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM jobs j WHERE j.id = b.job_id AND j.attempt = b.attempt
      AND j.state IN ('pending', 'provisioning', 'dispatching', 'running'))
"""
"""The attempt that a browser is for is over. One that gave its place back because there was no room for its browser
is not: the pod waits for a node meanwhile, and is what an autoscaler makes room for."""

# The browser is gone, so its row may go, unless its attempt is not over.
FORGET_BROWSER: LiteralString = "DELETE FROM browsers b WHERE name = %(name)s AND " + OVER  # noqa: S608 - constants
