"""The portals: who logged in, who works, with which code and browser; kept for the auditor."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

from pyotp import TOTP
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from tests.faults.configuration import PROVIDERS
from tests.faults.evidence import Visit

LATE_STEPS = 3
"""How many steps back a code is still taken; workers here are slow when the machine is."""


class CodeRefused(Exception):
    """The code is wrong, too old, or was used before."""


class Portals:
    """All of them."""

    def __init__(self, seeds: Mapping[str, str]) -> None:
        self.visits: list[Visit] = []
        self._seeds = seeds
        self._used: set[tuple[str, int]] = set()
        routes = [Route("/health", self._health), Route("/{provider}", self._page)]
        self.app = Starlette(routes=routes)

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _page(self, request: Request) -> Response:
        return HTMLResponse(f"<title>{request.path_params['provider']}</title><p id=ready>ready</p>")

    def login(self, order: Mapping[str, Any], account: str | None, code: str | None) -> None:
        """Let a worker in. Raises CodeRefused."""
        step = None
        if code is not None and account is not None:
            step = self._step(order["provider"], account, code)
            if step is None:
                raise CodeRefused("wrong or too old")
            if (account, step) in self._used:
                raise CodeRefused("used before")
            self._used.add((account, step))
        self.note(order, "login", account, code, step)

    def _step(self, provider: str, account: str, code: str) -> int | None:
        entry = PROVIDERS[provider]
        maker = TOTP(self._seeds[account], digits=entry["totp_digits"])
        now = int(time.time() // entry["totp_period"])
        taken = range(now + 1, now - LATE_STEPS - 1, -1)
        return next((step for step in taken if maker.generate_otp(step) == code), None)

    def note(
        self,
        order: Mapping[str, Any],
        kind: Literal["login", "work_started", "work_ended"],
        account: str | None = None,
        code: str | None = None,
        step: int | None = None,
    ) -> None:
        """Keep what a worker does."""
        who = (order["job_id"], order["attempt"], order["provider"])
        self.visits.append(Visit(time.time(), *who, account, kind, code, step, order.get("browser_service_id")))
