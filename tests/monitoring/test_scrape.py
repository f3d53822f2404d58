"""A real Prometheus scrapes the functions as knative/monitoring/scrape.yaml says."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from local.process import free_port
from tests.functions.stage import CLIENT_SECRET, Stage
from tests.monitoring.test_rules import MONITORING
from tests.serving import serving

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Debian's package prometheus")


def entry(stage_urls: dict[str, str], secret: Path) -> dict[str, Any]:
    """The entry, with addresses and files of here, and sooner."""
    (scrape,) = yaml.safe_load((MONITORING / "scrape.yaml").read_text())
    token_url, ((target,),) = scrape["oauth2"]["token_url"], [c["targets"] for c in scrape["static_configs"]]
    assert (token_url, target) == (
        "http://submit-job.rpa.svc.cluster.local/auth/token",
        "monitor.rpa.svc.cluster.local",
    )
    scrape["oauth2"] |= {"token_url": f"{stage_urls['submit_job']}/auth/token", "client_secret_file": str(secret)}
    scrape["static_configs"][0]["targets"] = [stage_urls["monitor"].removeprefix("http://")]
    return {**scrape, "scrape_interval": "1s", "scrape_timeout": "1s"}


@asynccontextmanager
async def prometheus(config: Path, data: Path) -> AsyncIterator[httpx.AsyncClient]:
    port = free_port()
    argv = [f"--config.file={config}", f"--storage.tsdb.path={data}", f"--web.listen-address=127.0.0.1:{port}"]
    process = await asyncio.create_subprocess_exec("prometheus", *argv, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            yield http
    finally:
        process.terminate()
        await process.wait()


async def asked(http: httpx.AsyncClient, question: str) -> list[dict[str, Any]]:
    """What Prometheus answers, once there is something."""
    async with asyncio.timeout(60):
        while True:
            try:
                found = (await http.get("/api/v1/query", params={"query": question})).json()["data"]["result"]
            except (httpx.TransportError, ValueError):
                found = []
            if found:
                return list(found)
            await asyncio.sleep(0.1)


async def test_prometheus_signs_in_and_reads(stage: Stage, tmp_path: Path) -> None:
    """As the client of API_CLIENTS that may do this and nothing else."""
    order = await stage.until_running()
    await stage.complete(order)
    secret, config = tmp_path / "secret", tmp_path / "prometheus.yml"
    secret.write_text(CLIENT_SECRET)
    async with (
        serving(stage.clients["submit_job"]._transport.app) as submit_job,
        serving(stage.clients["monitor"]._transport.app) as monitor,
    ):
        urls = {"submit_job": submit_job, "monitor": monitor}
        config.write_text(json.dumps({"scrape_configs": [entry(urls, secret)]}))
        async with prometheus(config, tmp_path / "data") as http:
            (finished,) = await asked(http, 'rpa_jobs_finished_total{outcome="completed"} > 0')
            (phase,) = await asked(http, 'rpa_job_phase_seconds_count{phase="running"}')
    assert finished["metric"] == {
        "__name__": "rpa_jobs_finished_total",
        "job": "rpa",
        "instance": "rpa",
        "provider": "metrofiber",
        "outcome": "completed",
    }
    assert phase["value"][1] == "1"
