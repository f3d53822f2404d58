"""Admission: who may start now."""

from __future__ import annotations

import asyncio
from collections import Counter

from functions.provision_browser.admission import Limits
from functions.provision_browser.queries import CLAIM_JOBS
from shared.events import Doorbell, Type
from shared.providers import Provider
from tests.functions.stage import Stage

INSERT = """
INSERT INTO jobs (
    content_digest, provider, action, parameters, priority, max_retries, traceparent, created_by, run_after)
SELECT '', %s, 'validation', '{}', %s, 3, '', 'test', now() + %s::interval FROM generate_series(1, %s)
"""
END_LIVE = """
UPDATE jobs SET state = 'cancelled', finished_at = now(), lease_expires_at = NULL WHERE lease_expires_at IS NOT NULL
"""
LIVE = "SELECT provider, account, priority, id FROM jobs WHERE state <> 'pending' ORDER BY id"


async def ring(stage: Stage, times: int = 1) -> None:
    """Events for provision_browser, all at once."""
    (row,) = await stage.rows("SELECT min(id) AS id FROM jobs")
    bell = Doorbell(Type.JOB_SUBMITTED, row["id"], 1, "")
    await asyncio.gather(*(stage.send("provision_browser", bell) for _ in range(times)))


async def insert(stage: Stage, provider: str, how_many: int, priority: int = 5, wait: str = "0") -> None:
    """Pending jobs, due after a while."""
    await stage.execute(INSERT, provider, priority, wait, how_many)


async def test_limits_hold_however_many_claim_at_once(stage: Stage) -> None:
    """Forty events at once and forty jobs: never more than the limits allow, in all and for each portal and account."""
    await insert(stage, "octotel", 20)
    await insert(stage, "metrofiber", 20)
    for _ in range(5):
        await ring(stage, 40)
        live = await stage.rows(LIVE)
        assert len(live) == 3
        assert max(Counter(row["provider"] for row in live).values()) <= 2
        accounts = Counter(row["account"] for row in live if row["account"])
        assert all(n == 1 for n in accounts.values())
        await stage.execute(END_LIVE)
        await stage.execute("DELETE FROM jobs WHERE state = 'cancelled'")


async def test_a_full_provider_blocks_nobody(stage: Stage) -> None:
    """A thousand jobs of a portal at its limit do not keep another portal's job waiting."""
    await insert(stage, "metrofiber", 1000, priority=10)
    await insert(stage, "openserve", 1, priority=0)
    await ring(stage)
    assert Counter(row["provider"] for row in await stage.rows(LIVE)) == {"metrofiber": 2, "openserve": 1}


async def test_the_highest_priority_goes_first_then_the_oldest(stage: Stage) -> None:
    """Priority decides, then age."""
    for priority in (5, 9, 5, 9, 0):
        await insert(stage, "openserve", 1, priority=priority)
    await ring(stage)
    assert [row["priority"] for row in await stage.rows(LIVE)] == [5, 9, 9]
    (first,) = await stage.rows("SELECT min(id) AS id FROM jobs")
    assert first["id"] in [row["id"] for row in await stage.rows(LIVE)]


async def test_a_job_waits_for_its_time(stage: Stage) -> None:
    """run_after in the future is not claimed."""
    await insert(stage, "openserve", 1, wait="1 hour")
    await ring(stage)
    assert await stage.rows(LIVE) == []


async def test_sessions_are_spread_over_accounts(stage: Stage) -> None:
    """With a limit for each account, jobs are bound to different accounts at admission."""
    await insert(stage, "octotel", 3)
    await ring(stage)
    assert sorted(row["account"] for row in await stage.rows(LIVE)) == ["OCTOTEL", "OCTOTEL_2"]


async def test_a_claim_reads_no_more_than_it_claims(stage: Stage) -> None:
    """Whatever else the table holds: the claim keeps everybody else waiting, so it finds its jobs by index."""
    await insert(stage, "metrofiber", 20_000)
    await stage.execute("ANALYZE jobs")
    limits = Limits(1000, {"metrofiber": Provider(name="metrofiber", actions=("validation",))})
    values = {**limits.parameters(), "batch": 10, "lease": 30, "key_id": "k", "warm": 60}
    cursor = await stage.connection.execute(f"EXPLAIN (COSTS OFF) {CLAIM_JOBS}", values)
    plan = [line for (line,) in await cursor.fetchall()]
    assert any("Index Scan using jobs_claimable" in line for line in plan)
    assert not [line for line in plan if "Seq Scan on jobs" in line]
