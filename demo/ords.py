"""A stand-in for ORDS: takes reports about jobs, and can be told to fail."""

from __future__ import annotations

import hmac
import json
import os
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from demo.serving import HEALTH, serve


class Ords:
    """The inbox: one report for each Idempotency-Key."""

    def __init__(self, token: str, file: Path | None = None) -> None:
        self._token = token
        self._file = file
        self._reports: dict[str, dict[str, Any]] = {}
        self._health_reports: list[Any] = []
        self._failures: list[int] = []
        if file is not None and file.exists():
            self._reports = json.loads(file.read_text())
        routes = [
            HEALTH,
            Route("/", self.inbox),
            Route("/callbacks/job", self.report, methods=["POST"]),
            Route("/health-report", self.health_report, methods=["POST"]),
            Route("/fail", self.fail, methods=["POST"]),
        ]
        self.app = Starlette(routes=routes)

    async def inbox(self, _: Request) -> Response:
        """What was received, in order; `duplicates` counts what came again."""
        return JSONResponse({"items": list(self._reports.values()), "health_reports": self._health_reports})

    async def fail(self, request: Request) -> Response:
        """`{"times": 3, "status": 500}`: refuse the next three reports."""
        order = await request.json()
        self._failures = [order.get("status", 500)] * order.get("times", 1)
        return Response(status_code=204)

    async def report(self, request: Request) -> Response:
        """Acknowledge a report once; the same Idempotency-Key changes nothing."""
        if refusal := self._refusal(request):
            return refusal
        key = request.headers.get("idempotency-key")
        if not key:
            return JSONResponse({"error": "send an Idempotency-Key"}, 400)
        if key in self._reports:
            self._reports[key]["duplicates"] += 1
        else:
            self._reports[key] = {"idempotency_key": key, "duplicates": 0, "body": await request.json()}
        self._save()
        return JSONResponse({"acknowledged": True})

    async def health_report(self, request: Request) -> Response:
        """Keep the latest hundred."""
        if refusal := self._refusal(request):
            return refusal
        self._health_reports = [*self._health_reports[-99:], await request.json()]
        return JSONResponse({"acknowledged": True})

    def _refusal(self, request: Request) -> Response | None:
        sent = request.headers.get("authorization", "")
        if not hmac.compare_digest(sent.encode(), f"Bearer {self._token}".encode()):
            return JSONResponse({"error": "the token is not right"}, 401)
        if self._failures:
            return JSONResponse({"error": "as told"}, self._failures.pop())
        return None

    def _save(self) -> None:
        if self._file is not None:
            draft = self._file.with_suffix(".new")
            draft.write_text(json.dumps(self._reports))
            draft.replace(self._file)


if __name__ == "__main__":
    file = os.environ.get("STATE_FILE")
    serve(Ords(os.environ["ORDS_TOKEN"], Path(file) if file else None).app)
