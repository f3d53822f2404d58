"""The job as an action sees it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

from playwright.async_api import Browser, Page

from rpa_worker.browser import Session
from rpa_worker.errors import EvidenceRefused
from rpa_worker.orchestrator import Orchestrator
from rpa_worker.order import Order
from rpa_worker.portal import Portal
from rpa_worker.redaction import Redactor

EVIDENCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
EVIDENCE_LIMIT = 10 * 1024 * 1024


class Job:
    """One attempt of one job: its data, its browser, its login codes, its evidence."""

    def __init__(self, order: Order, orchestrator: Orchestrator, session: Session, redactor: Redactor) -> None:
        self.id = order.job_id
        self.attempt = order.attempt
        self.provider = order.provider
        self.action = order.action
        self.parameters: Mapping[str, Any] = order.parameters
        self.account = order.account
        self.trace_id = order.trace_id
        self.cancelled = False
        """The orchestrator took the attempt back; the action is being cancelled."""
        self.totp_used = False
        self.evidence_names: list[str] = []
        self.phase_changed = asyncio.Event()
        self._phase = ""
        self._code_at_dispatch = order.totp_code
        self._orchestrator = orchestrator
        self._session = session
        self._redactor = redactor

    @property
    def phase(self) -> str:
        """What the action is doing, in a word or two; set it, and people watching the job see it."""
        return self._phase

    @phase.setter
    def phase(self, phase: str) -> None:
        self._phase = phase
        self.phase_changed.set()

    @property
    def portal(self) -> Portal:
        """Address and credentials of the portal's account. Raises PortalNotConfigured."""
        portal = Portal.from_environment(self.provider, self.account)
        self._redactor.add(portal.password)
        return portal

    async def browser(self) -> Browser:
        """The attempt's own browser, for those who need more than one page."""
        return await self._session.browser()

    async def page(self) -> Page:
        """A page in the attempt's own browser, the same one each time."""
        return await self._session.page()

    async def totp(self, *, rejected: bool = False) -> str:
        """A login code that nobody else gets; waits for its turn.

        `rejected`: the portal refused the last one.
        """
        code, self._code_at_dispatch = self._code_at_dispatch, None
        if code is None or rejected:
            answer = await self._orchestrator.totp(rejected=rejected)
            code, self.account = answer.code, answer.account or self.account
        self._redactor.add(code)
        self.totp_used = True
        return code

    async def evidence(self, name: str, content: bytes, content_type: str = "application/octet-stream") -> None:
        """Keep a file with the job; a name used before is replaced. Raises EvidenceRefused."""
        if not EVIDENCE_NAME.fullmatch(name):
            raise EvidenceRefused(f"{name!r}: a name is 1-100 letters, digits, dots, dashes or underscores")
        if len(content) > EVIDENCE_LIMIT:
            raise EvidenceRefused(f"{name}: {len(content)} bytes are more than {EVIDENCE_LIMIT}")
        await self._orchestrator.evidence(name, content, content_type)
        if name not in self.evidence_names:
            self.evidence_names.append(name)

    async def picture_failure(self) -> None:
        """Keep what the page shows as `failure.png`, passwords and codes masked; without a page, nothing."""
        if picture := await self._session.picture():
            await self.evidence("failure.png", picture, "image/png")

    async def keep_trace(self) -> None:
        """Keep what Playwright recorded as `trace.zip`, secrets removed; where nothing was recorded, nothing."""
        if trace := await self._session.trace():
            await self.evidence("trace.zip", trace, "application/zip")
