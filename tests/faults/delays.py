"""How long jobs waited for each event that moves them on."""

from __future__ import annotations

from typing import LiteralString

import psycopg

# Of each job's first attempt; a run_after is no delay, and a login code at dispatch is another one.
HOPS: LiteralString = """
WITH first AS (
    SELECT job_id, min(at) FILTER (WHERE event = 'claimed') AS claimed,
        min(at) FILTER (WHERE event = 'browser_ready') AS ready,
        min(at) FILTER (WHERE event = 'accepted') AS accepted, min(at) FILTER (WHERE event = 'reported') AS reported
    FROM history GROUP BY job_id
)
SELECT max(extract(epoch FROM claimed - greatest(created_at, run_after)))::float,
    max(extract(epoch FROM accepted - ready)) FILTER (WHERE provider <> 'gate')::float,
    max(extract(epoch FROM reported - finished_at))::float
FROM jobs JOIN first ON first.job_id = jobs.id WHERE attempt = 1
"""
NAMES = ("submitted to claimed", "browser ready to accepted by a worker", "finished to reported")


def longest(database_url: str) -> dict[str, float]:
    """Seconds, by what was waited for."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute(HOPS).fetchone()
    return {name: seconds or 0.0 for name, seconds in zip(NAMES, row or (), strict=True)}
