"""Any interleaving of callers, events, workers, failures and reaping keeps what the design promises.

Hypothesis draws what happens next; the functions, PostgreSQL and Valkey are real. After every step the
invariants are read from the database; at the end everything heals, and every job must end and be reported once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import Phase as Phases
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shared.browsers import Browser, BrowserFailed, BrowsersUnavailable, Phase
from shared.events import Doorbell
from tests.conftest import fresh_database
from tests.functions.stage import Stage, open_stage

MAX_WORKERS = 3
PROVIDER_LIMITS = {"metrofiber": 2, "octotel": 2}
ACCOUNT_LIMITS = {"OCTOTEL": 1, "OCTOTEL_2": 1}
ROUNDS_TO_HEAL = 30
WARM = 1

Value = TypeVar("Value")

# Every history entry starts where the one before ended, and nothing follows an end but its report.
HISTORY_GAPS = """
SELECT job_id, id FROM (
    SELECT job_id, id, from_state, lag(to_state) OVER (PARTITION BY job_id ORDER BY id) AS before FROM history
) h WHERE from_state IS DISTINCT FROM before
"""
UNFINISHED = """
SELECT FROM jobs WHERE reported_at IS NULL UNION ALL SELECT FROM browsers WHERE job_id IS NOT NULL
"""
EXPIRE = "UPDATE jobs SET lease_expires_at = now() - interval '1 s' WHERE lease_expires_at IS NOT NULL"
LIVE = "SELECT provider, account FROM jobs WHERE state IN ('provisioning', 'dispatching', 'running')"


class World:
    """The stage, on a loop of its own."""

    def __init__(self, runner: asyncio.Runner, stage: Stage) -> None:
        self.runner = runner
        self.stage = stage

    def run(self, work: Coroutine[Any, Any, Value]) -> Value:
        """Do something on the stage."""
        return self.runner.run(work)


@pytest.fixture(scope="module")
def world(
    postgres_server_url: str, migrated_template: str, valkey_server: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """One stage for all examples; each starts with empty tables."""
    valkey = {"VALKEY_HOST": "127.0.0.1", "VALKEY_PORT": str(valkey_server.port)}
    providers: Path = tmp_path_factory.mktemp("stage") / "providers"
    for url in fresh_database(postgres_server_url, migrated_template):
        with asyncio.Runner() as runner:
            stack = AsyncExitStack()
            settings = {"RATE_LIMIT_PER_MINUTE": "1000000", "LOG_LEVEL": "ERROR", "BROWSER_WARM_POOL": str(WARM)}
            opened = open_stage(url, valkey, providers, **settings)
            stage = runner.run(stack.enter_async_context(opened))
            try:
                yield World(runner, stage)
            finally:
                runner.run(stack.aclose())


def machine(world: World) -> type[RuleBasedStateMachine]:
    """The state machine over a world."""

    class Jobs(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.stage = world.stage
            self.heard: list[Doorbell] = []
            self.ended: dict[int, tuple[Any, ...]] = {}

        @initialize()
        def empty(self) -> None:
            stage = self.stage
            world.run(stage.execute("TRUNCATE jobs, history, browsers, outbox, dead_letters, evidence, totp_steps"))
            stage.place.browsers.clear()
            stage.place.created.clear()
            stage.worker.orders.clear()
            stage.ords.reports.clear()
            self.heal()

        def heal(self) -> None:
            self.stage.place.fails_with = None
            self.stage.worker.available, self.stage.worker.execute_status = True, 200
            self.stage.ords.status = 200

        def jobs(self) -> list[int]:
            return [row["id"] for row in world.run(self.stage.rows("SELECT id FROM jobs ORDER BY id"))]

        @rule(
            provider=st.sampled_from(["metrofiber", "octotel", "openserve"]),
            priority=st.integers(0, 10),
            retries=st.integers(0, 2),
        )
        def submit(self, provider: str, priority: int, retries: int) -> None:
            world.run(self.stage.submit(provider=provider, priority=priority, max_retries=retries))

        @precondition(lambda self: self.jobs())
        @rule(data=st.data())
        def cancel(self, data: st.DataObject) -> None:
            job_id = data.draw(st.sampled_from(self.jobs()))
            answer = world.run(self.stage.call("submit_job", "DELETE", f"/jobs/{job_id}"))
            assert answer.status_code in (200, 409)

        @precondition(lambda self: self.jobs())
        @rule(data=st.data())
        def retry(self, data: st.DataObject) -> None:
            job_id = data.draw(st.sampled_from(self.jobs()))
            answer = world.run(self.stage.call("submit_job", "POST", f"/jobs/{job_id}:retry"))
            assert answer.status_code in (200, 201, 409)

        @rule(data=st.data())
        def deliver(self, data: st.DataObject) -> None:
            """One that waits or one from long ago, in any order."""
            choices = world.run(self.stage.outbox()) + self.heard
            if choices:
                bell = data.draw(st.sampled_from(choices))
                self.heard.append(bell)
                assert set(world.run(self.stage.deliver(bell))) <= {204, 503}

        @rule(data=st.data())
        def deliver_at_once(self, data: st.DataObject) -> None:
            """Several at the same time, and one of them twice."""
            waiting = world.run(self.stage.outbox())
            if waiting:
                bells = [*data.draw(st.permutations(waiting)), data.draw(st.sampled_from(waiting))]

                async def together() -> None:
                    await asyncio.gather(*(self.stage.deliver(bell) for bell in bells))

                world.run(together())

        @rule()
        def lose_events(self) -> None:
            world.run(self.stage.lose_events())

        @rule()
        def tick(self) -> None:
            self.heard += world.run(self.stage.tick())

        @precondition(lambda self: self.stage.worker.orders)
        @rule(data=st.data(), ending=st.sampled_from(["completed", "business", "application"]))
        def worker_reports(self, data: st.DataObject, ending: str) -> None:
            """Any worker that ever had an order, be it long out of time."""
            order = data.draw(st.sampled_from(self.stage.worker.orders))
            failure = {"kind": ending, "code": "x", "message": "m"}
            report = (
                {"result": {"by": order["attempt"]}}
                if ending == "completed"
                else {"status": "failed", "failure": failure}
            )
            answer = world.run(self.stage.complete(order, **report))
            assert answer.status_code in (200, 409)

        @precondition(lambda self: self.stage.worker.orders)
        @rule(data=st.data())
        def worker_beats(self, data: st.DataObject) -> None:
            order = data.draw(st.sampled_from(self.stage.worker.orders))
            body = {"job_id": order["job_id"], "attempt": order["attempt"]}
            call = self.stage.call("callback", "POST", "/callbacks/heartbeat", token=order["token"], json=body)
            assert world.run(call).status_code in (200, 409)

        @rule()
        def leases_run_out(self) -> None:
            world.run(self.stage.execute(EXPIRE))

        @rule(
            trouble=st.sampled_from(
                ["none", "browsers fail", "no room", "workers busy", "workers unclear", "ords down"]
            )
        )
        def trouble(self, trouble: str) -> None:
            self.heal()
            match trouble:
                case "browsers fail":
                    self.stage.place.fails_with = BrowserFailed("crashed")
                case "no room":
                    self.stage.place.fails_with = BrowsersUnavailable("quota")
                case "workers busy":
                    self.stage.worker.available = False
                case "workers unclear":
                    self.stage.worker.execute_status = 500
                case "ords down":
                    self.stage.ords.status = 500

        @precondition(lambda self: self.stage.place.browsers)
        @rule(data=st.data(), how=st.sampled_from(["dies", "vanishes"]))
        def browser(self, data: st.DataObject, how: str) -> None:
            name = data.draw(st.sampled_from(sorted(self.stage.place.browsers)))
            old = self.stage.place.browsers.pop(name)
            if how == "dies":
                dead = Browser(name, Phase.FAILED, old.created_at, None, "killed", old.job_id, old.attempt)
                self.stage.place.browsers[name] = dead

        @invariant()
        def limits_hold(self) -> None:
            live = world.run(self.stage.rows(LIVE))
            assert len(live) <= MAX_WORKERS
            providers, accounts = Counter(r["provider"] for r in live), Counter(r["account"] for r in live)
            assert all(providers[name] <= limit for name, limit in PROVIDER_LIMITS.items())
            assert all(accounts[name] <= limit for name, limit in ACCOUNT_LIMITS.items())

        @invariant()
        def ends_are_final(self) -> None:
            rows = world.run(
                self.stage.rows("SELECT id, state, attempt, result, error FROM jobs WHERE finished_at IS NOT NULL")
            )
            now = {row["id"]: tuple(row.values()) for row in rows}
            assert {job_id: now.get(job_id) for job_id in self.ended} == self.ended
            self.ended = now

        @invariant()
        def history_has_no_gap(self) -> None:
            assert world.run(self.stage.rows(HISTORY_GAPS)) == []

        @invariant()
        def only_the_live_attempt_can_end_a_job(self) -> None:
            rows = world.run(self.stage.rows("SELECT attempt, result FROM jobs WHERE state = 'completed'"))
            assert all(row["result"] in ({"by": row["attempt"]}, None) for row in rows)

        @invariant()
        def nothing_is_reported_twice(self) -> None:
            times = Counter(report["job_id"] for report in self.stage.ords.reports)
            assert not [job_id for job_id, n in times.items() if n > 1]

        @invariant()
        def no_browser_serves_two_attempts(self) -> None:
            attempts = [(o["job_id"], o["attempt"]) for o in self.stage.worker.orders if o["browser_service_id"]]
            browsers = {o["browser_service_id"] for o in self.stage.worker.orders if o["browser_service_id"]}
            assert len(browsers) == len(set(attempts))

        def teardown(self) -> None:
            self.heal()
            for _ in range(ROUNDS_TO_HEAL):
                if world.run(self._round()):
                    break
            unfinished = world.run(self.stage.rows("SELECT id, state, attempt FROM jobs WHERE reported_at IS NULL"))
            assert unfinished == []
            assert sorted(r["job_id"] for r in self.stage.ords.reports) == self.jobs()
            warm = {row["name"] for row in world.run(self.stage.rows("SELECT name, job_id FROM browsers"))}
            assert set(self.stage.place.browsers) == warm
            assert world.run(self.stage.rows("SELECT * FROM browsers WHERE job_id IS NOT NULL")) == []
            assert world.run(self.stage.rows("SELECT * FROM dead_letters")) == []

        async def _round(self) -> bool:
            """Time passes, workers do their work, events arrive; whether all is done."""
            await self.stage.execute("UPDATE jobs SET run_after = now() WHERE state = 'pending'")
            await self.stage.execute("UPDATE jobs SET report_due = NULL WHERE reported_at IS NULL")
            await self.stage.execute(
                "UPDATE browsers SET created_at = created_at - interval '10 s' WHERE job_id IS NULL"
            )
            await self.stage.lose_events()
            for bell in await self.stage.tick():
                await self.stage.deliver(bell)
            await self.stage.deliver_all()
            for order in self.stage.worker.orders:
                await self.stage.complete(order)
            await self.stage.deliver_all()
            left = await self.stage.rows(UNFINISHED)
            if left:  # whoever has not answered by now never will
                await self.stage.execute(EXPIRE)
            return not left and len(self.stage.place.browsers) == WARM

    return Jobs


def test_any_interleaving_keeps_the_promises(world: World) -> None:
    """Limits hold, ends are final, history has no gap, each job ends and is reported once, no browser is left."""
    run_state_machine_as_test(
        machine(world),
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phases.explicit, Phases.reuse, Phases.generate],
            print_blob=True,
        ),
    )
