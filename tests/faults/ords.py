"""ORDS: takes reports, fails, dawdles, and sometimes keeps a report whose acknowledgement nobody gets."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import Counter
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.faults.configuration import CALLBACK_TIMEOUT
from tests.faults.drawing import Lots
from tests.faults.evidence import Report

KINDS: dict[str | None, float] = {
    None: 75,
    "fails": 9,
    "slow": 4,
    "keeps it and answers too late": 6,
    "keeps it and answers 500": 6,
}


class Ords:
    """The inbox."""

    def __init__(self, token: str, lots: Lots) -> None:
        self.reports: list[Report] = []
        self.counts: Counter[str] = Counter()
        self.down = False
        self._token = token
        self._lots = lots
        self._tries: Counter[str] = Counter()
        routes = [
            Route("/health", self._health),
            Route("/callbacks/job", self._report, methods=["POST"]),
        ]
        self.app = Starlette(routes=routes)

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _report(self, request: Request) -> Response:
        if not hmac.compare_digest(request.headers.get("authorization", ""), f"Bearer {self._token}"):
            return Response(status_code=401)
        key, body = request.headers.get("idempotency-key", ""), await request.json()
        self._tries[key] += 1
        kind = self._draw(key, body["external_job_id"])
        if kind:
            self.counts[f"ORDS {kind}"] += 1
        match kind:
            case "down" | "fails":
                self._keep(key, body, acknowledged=False)
                return JSONResponse({"error": "as drawn"}, 503 if kind == "down" else 500)
            case "slow":
                await asyncio.sleep(CALLBACK_TIMEOUT * 0.7)
            case "keeps it and answers too late":
                self._keep(key, body, acknowledged=True)
                await asyncio.sleep(CALLBACK_TIMEOUT * 1.5)
                return JSONResponse({"acknowledged": True})
            case "keeps it and answers 500":
                self._keep(key, body, acknowledged=True)
                return JSONResponse({"error": "as drawn"}, 500)
        self._keep(key, body, acknowledged=True)
        return JSONResponse({"acknowledged": True})

    def _draw(self, key: str, job: str) -> str | None:
        if self.down:
            return "down"
        if "ords" not in self._lots.classes or self._tries[key] > 3:
            return None
        lots = self._lots.of("ords", job, self._tries[key])
        return lots.choices(list(KINDS), list(KINDS.values()))[0]

    def _keep(self, key: str, body: dict[str, Any], *, acknowledged: bool) -> None:
        about = (body["job_id"], body["external_job_id"], key, body["status"])
        self.reports.append(Report(time.time(), *about, body, acknowledged))
