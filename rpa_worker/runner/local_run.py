"""One attempt without an orchestrator: what the action says to it is heard here, and shown."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rpa_worker.app import problem
from rpa_worker.order import Order
from rpa_worker.runner.codes import LoginCodes, NoCode
from rpa_worker.runner.notes import note
from rpa_worker.worker import Worker

HERE = "http://orchestrator.invalid"
"""Where the action believes the orchestrator; nothing leaves this process."""
VERDICTS = {
    "business": "the portal said no: the orchestrator would not try again",
    "application": "the action broke: the orchestrator would try again, up to the job's max_retries",
}


class LocalRun:
    """Stands in for the orchestrator, for one attempt."""

    def __init__(self, codes: LoginCodes, evidence: Path) -> None:
        self._codes = codes
        self._evidence = evidence
        self._account = ""
        self._phase: str | None = None
        self._report: dict[str, Any] | None = None
        routes = [
            Route("/callbacks/heartbeat", self._heartbeat, methods=["POST"]),
            Route("/callbacks/evidence/{name}", self._keep, methods=["PUT"]),
            Route("/callbacks/job-complete", self._complete, methods=["POST"]),
            Route("/totp/{provider}", self._totp, methods=["POST"]),
        ]
        self._app = Starlette(routes=routes)

    async def perform(
        self, worker: Worker, provider: str, action: str, parameters: Mapping[str, Any], account: str | None
    ) -> dict[str, Any] | None:
        """The report of one attempt; None where it broke the library. Raises InvalidOrder."""
        _log_plainly()
        self._account = account or re.sub(r"\W", "_", provider.upper())
        order = Order(
            job_id=1,
            attempt=1,
            provider=provider,
            action=action,
            parameters=parameters,
            orchestrator_callback=HERE,
            totp_url=HERE,
            token="of-no-use-elsewhere",  # noqa: S106
            browser_service_url=HERE,
            account=account,
        )
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self._app), trust_env=False) as client:
            try:
                worker.accept(order, client)
                await worker.idle()
            finally:
                await worker.drain(0)
        return self._report

    async def _heartbeat(self, request: Request) -> Response:
        phase = (await request.json()).get("phase")
        if phase and phase != self._phase:
            note(f"phase: {phase}")
        self._phase = phase
        return JSONResponse({"status": "running"})

    async def _keep(self, request: Request) -> Response:
        self._evidence.mkdir(parents=True, exist_ok=True)
        file = self._evidence / request.path_params["name"]
        file.write_bytes(await request.body())
        note(f"evidence: {file}")
        return JSONResponse({}, 201)

    async def _complete(self, request: Request) -> Response:
        report = await request.json()
        self._report = {name: value for name, value in report.items() if name not in ("job_id", "attempt")}
        if failure := report["failure"]:
            note(VERDICTS[failure["kind"]])
        return JSONResponse({})

    async def _totp(self, request: Request) -> Response:
        if (await request.json()).get("rejected"):
            note("the portal refused the last login code")
        try:
            return JSONResponse({"code": await self._codes.next(self._account), "account": self._account})
        except NoCode as reason:
            return problem(422, "No login code", str(reason))


def _log_plainly() -> None:
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
