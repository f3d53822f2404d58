"""What people, Prometheus and Oracle are told."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from shared.events import PING
from tests.functions.refusals import refusal
from tests.functions.stage import FUNCTIONS, ORDS_TOKEN, PROVIDERS, Stage, open_stage
from tests.serving import serving

TICK = {"ce-id": "tick", "ce-source": "/ping", "ce-type": PING, "ce-specversion": "1.0"}


async def get(stage: Stage, path: str) -> httpx.Response:
    return await stage.call("monitor", "GET", path)


async def busy(stage: Stage) -> None:
    """Two jobs run, one waits, one is completed and not reported."""
    order = await stage.until_running()
    await stage.until_running(provider="openserve")
    await stage.until_running(provider="octotel")
    await stage.submit()
    await stage.complete(order)


async def test_status_names_providers_and_their_jobs(stage: Stage) -> None:
    """Each configured provider with its actions and jobs by state; sums; what is left undone."""
    await busy(stage)
    status = (await get(stage, "/status")).json()
    providers = {provider.pop("name"): provider for provider in status["providers"]}
    assert set(providers) == set(PROVIDERS)
    assert providers["metrofiber"] == {
        "actions": ["validation", "cancellation"],
        "browser": True,
        "totp": "none",
        "max_sessions": 2,
        "jobs": {"completed": 1, "pending": 1},
    }
    assert (providers["octotel"]["totp"], providers["openserve"]["browser"]) == ("on_request", False)
    assert providers["evotel"]["jobs"] == {}
    assert status["jobs"] == {"completed": 1, "pending": 1, "running": 2}
    assert (status["outbox"], status["reports_outstanding"], status["browsers"]) == (2, 1, 2)
    assert (status["dead_letters"], status["leases_expired"]) == (0, 0)


async def test_metrics_are_prometheus_text(stage: Stage) -> None:
    """Prometheus' own parser reads them; figures of the database, labelled by provider and state."""
    await busy(stage)
    await stage.execute("UPDATE jobs SET run_after = now() - interval '90 s' WHERE state = 'pending'")
    await stage.execute("UPDATE jobs SET lease_expires_at = now() - interval '1 s' WHERE provider = 'openserve'")
    answer = await get(stage, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert all(family.documentation for family in families.values())
    jobs = {(s.labels["provider"], s.labels["state"]): s.value for s in families["rpa_jobs"].samples}
    assert jobs == {
        ("metrofiber", "completed"): 1,
        ("metrofiber", "pending"): 1,
        ("octotel", "running"): 1,
        ("openserve", "running"): 1,
    }
    (oldest,) = families["rpa_oldest_waiting_seconds"].samples
    assert (oldest.labels, 90 <= oldest.value < 150) == ({"provider": "metrofiber"}, True)
    (expired,) = families["rpa_leases_expired"].samples
    assert expired.value == 1


async def test_browsers_are_listed_with_their_attempts(stage: Stage) -> None:
    """Which browser belongs to whom, since when; never its address or key."""
    order = await stage.until_running(provider="octotel")
    body = (await get(stage, "/browser-services")).json()
    assert body["next_cursor"] is None
    (browser,) = body["items"]
    assert (browser["name"], browser["job_id"], browser["attempt"]) == (order["browser_service_id"], order["job_id"], 1)
    assert (browser["provider"], browser["status"]) == ("octotel", "running")
    assert datetime.fromisoformat(browser["ready_at"]) >= datetime.fromisoformat(browser["created_at"])
    assert not {"address", "key_id"} & set(browser)


async def test_an_empty_system_has_figures_too(stage: Stage) -> None:
    """Nothing there is no error."""
    assert (await get(stage, "/status")).json()["jobs"] == {}
    assert "rpa_outbox 0.0" in (await get(stage, "/metrics")).text
    assert (await get(stage, "/browser-services")).json()["items"] == []


@pytest.mark.parametrize("function", ["submit_job", "monitor"])
async def test_a_function_says_who_it_is(stage: Stage, function: str) -> None:
    """`/` needs no token."""
    answer = await stage.clients[function].get("/")
    assert answer.json() == {"name": "rpa-orchestrator", "function": function, "revision": "r-1"}


@pytest.mark.parametrize("function", FUNCTIONS)
async def test_unknown_paths_and_methods_are_problems_too(stage: Stage, function: str) -> None:
    """404 and 405 as problem details; 405 says what would do."""
    refusal(await stage.clients[function].get("/no/such/path"), 404)
    answer = await stage.clients[function].delete("/health")
    refusal(answer, 405)
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("function", FUNCTIONS)
async def test_functions_are_healthy(stage: Stage, function: str) -> None:
    """While the stores answer, each function is live and ready, and says so without a token."""
    for path in ("/health", "/health/live", "/health/ready"):
        answer = await stage.clients[function].get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_without_postgresql_functions_live_but_are_not_ready(
    valkey_settings: dict[str, str], database_url: str, tmp_path: Path
) -> None:
    """Readiness and everything that needs the database is 503 with Retry-After; nothing is an error of ours."""
    async with open_stage(database_url, valkey_settings, tmp_path / "p") as stage:
        token = (await stage.sign_in()).json()["access_token"]
        worker = stage.worker_token(1)
        down = database_url.replace("/test_", "/gone_")
    async with open_stage(database_url, valkey_settings, tmp_path / "p", DATABASE_URL=down) as stage:
        calls = [stage.clients[function].get("/health/ready") for function in FUNCTIONS]
        wish = {"provider": "openserve", "action": "validation"}
        calls.append(stage.call("submit_job", "POST", "/jobs", token=token, json=wish))
        calls.append(stage.call("monitor", "GET", "/status", token=token))
        beat = {"job_id": 1, "attempt": 1}
        calls.append(stage.call("callback", "POST", "/callbacks/heartbeat", token=worker, json=beat))
        calls.append(stage.clients["reap_idle"].post("/", json={}, headers=TICK))
        for answer in await asyncio.gather(*calls):
            assert refusal(answer, 503)["code"] == "unavailable"
            assert int(answer.headers["retry-after"]) > 0
        for function in FUNCTIONS:
            assert (await stage.clients[function].get("/health/live")).status_code == 200


# The health report


class Oracle:
    """Takes health reports."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []
        self.status = 200

    def app(self) -> Starlette:
        async def report(request: Request) -> Response:
            assert request.headers["authorization"] == f"Bearer {ORDS_TOKEN}"
            self.reports.append(await request.json())
            return Response(status_code=self.status)

        return Starlette(routes=[Route("/health", report, methods=["POST"])])


async def tick(stage: Stage) -> tuple[int, bytes]:
    answer = await stage.clients["monitor"].post("/", json={}, headers=TICK)
    return answer.status_code, answer.content


async def test_health_is_reported_to_oracle_where_that_is_wished(
    database_url: str, valkey_settings: dict[str, str], tmp_path: Path
) -> None:
    """Each tick sends the figures, unless that is switched off; Oracle failing or gone does not matter to the tick."""
    oracle = Oracle()
    async with serving(oracle.app()) as url:
        settings = {"HEALTH_REPORT_ENABLED": "true", "HEALTH_REPORT_ENDPOINT": f"{url}/health"}
        async with open_stage(database_url, valkey_settings, tmp_path / "p", **settings) as stage:
            await stage.until_running()
            assert await tick(stage) == (204, b"")
            oracle.status = 500
            assert await tick(stage) == (204, b"")
        off = settings | {"HEALTH_REPORT_ENABLED": "false"}
        async with open_stage(database_url, valkey_settings, tmp_path / "p", **off) as stage:
            assert await tick(stage) == (204, b"")
    (report, _) = oracle.reports
    assert (report["status"], report["jobs"]) == ("ok", {"running": 1})
    assert datetime.now(UTC) - datetime.fromisoformat(report["reported_at"]) < timedelta(minutes=1)
    async with open_stage(database_url, valkey_settings, tmp_path / "p", **settings) as stage:
        assert await tick(stage) == (204, b"")


async def test_a_tick_without_a_report_is_done(stage: Stage) -> None:
    """No endpoint, no report, no error."""
    assert await tick(stage) == (204, b"")
