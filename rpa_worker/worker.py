"""A worker: which actions it knows, how many attempts it runs at once, how it ends."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import httpx
import uvicorn

from rpa_worker.app import make_app
from rpa_worker.attempt import Action, Attempt
from rpa_worker.browser import Driver, Session
from rpa_worker.errors import AttemptOver, Busy, InvalidOrder
from rpa_worker.job import Job
from rpa_worker.logs import log_json_lines
from rpa_worker.orchestrator import Orchestrator
from rpa_worker.order import Order
from rpa_worker.patience import Patience
from rpa_worker.redaction import Redactor
from rpa_worker.spans import Spans, end
from rpa_worker.watching import Watching

if TYPE_CHECKING:
    from opentelemetry.trace import Span

TRACES = ("on", "failures", "off")
REMEMBERED_JOBS = 10_000
FAREWELL_SECONDS = 10.0


class Worker:
    """Accepts attempts over HTTP and runs the action that each one names."""

    def __init__(
        self,
        *,
        capacity: int = 1,
        heartbeat_seconds: float = 10.0,
        drain_seconds: float = 30.0,
        browser: str | None = None,
        trace: str | None = None,
        patience: Patience | None = None,
    ) -> None:
        """`capacity`: attempts at once. `drain_seconds`: how long SIGTERM lets them finish.

        `browser`: firefox or chromium, by default what BROWSER in the environment says, else firefox.
        `trace`: of which attempts Playwright's trace is kept, on, failures or off; by default what BROWSER_TRACE
        in the environment says, else failures. An action that records a trace of its own wants it off.
        """
        self.capacity = capacity
        self.heartbeat_seconds = heartbeat_seconds
        self._drain_seconds = drain_seconds
        self._patience = patience or Patience()
        self._spans = Spans()
        self.driver = Driver(browser or os.environ.get("BROWSER") or "firefox")
        self._trace = trace or os.environ.get("BROWSER_TRACE") or "failures"
        if self._trace not in TRACES:
            raise ValueError(f"BROWSER_TRACE: {self._trace!r} is none of {', '.join(TRACES)}")
        self._actions: dict[tuple[str, str], Action] = {}
        self._running: dict[Attempt, asyncio.Task[None]] = {}
        self._latest: OrderedDict[int, int] = OrderedDict()
        self._draining = False
        self.app = make_app(self)

    def action(self, provider: str, action: str) -> Callable[[Action], Action]:
        """Decorator: this coroutine function performs that action at that provider."""

        def register(function: Action) -> Action:
            self._actions[provider, action] = function
            return function

        return register

    def run(self, *, host: str | None = None, port: int | None = None) -> None:
        """Serve until SIGTERM; host and port by default from HOST and PORT."""
        log_json_lines()
        host = host or os.environ.get("HOST", "0.0.0.0")  # noqa: S104 - a container's port is reached from outside
        port = port or int(os.environ.get("PORT", "8080"))
        uvicorn.run(self.app, host=host, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=5)

    def status(self) -> dict[str, object]:
        """What `GET /status` answers."""
        running = len(self._running)
        return {
            "available": running < self.capacity and not self._draining,
            "capacity": self.capacity,
            "running": running,
            "draining": self._draining,
        }

    def accept(self, order: Order, client: httpx.AsyncClient) -> None:
        """Start this attempt, once however often it is ordered. Raises InvalidOrder, AttemptOver, Busy."""
        latest = self._latest.get(order.job_id, 0)
        if order.attempt == latest:
            return
        if order.attempt < latest:
            raise AttemptOver(f"attempt {latest} of job {order.job_id} was ordered already")
        action = self._find(order.provider, order.action)
        if not self.status()["available"]:
            raise Busy(f"{len(self._running)} of {self.capacity} attempts are running")
        self._abandon(order.job_id)
        self._remember(order)
        self._start(order, action, client)

    async def idle(self) -> None:
        """Wait until no attempt runs, however long that takes."""
        await _settle(self._running.values(), None)

    async def drain(self, seconds: float | None = None) -> None:
        """Accept nothing more; let attempts finish within the bound, then stop those that are left."""
        self._draining = True
        await _settle(self._running.values(), self._drain_seconds if seconds is None else seconds)
        for attempt in self._running:
            attempt.stop()
        await _settle(self._running.values(), FAREWELL_SECONDS)
        for task in self._running.values():
            task.cancel()
        await _settle(self._running.values(), FAREWELL_SECONDS)
        await self.driver.stop()
        await asyncio.to_thread(self._spans.close)

    def _find(self, provider: str, action: str) -> Action:
        if found := self._actions.get((provider, action)):
            return found
        providers = sorted({name for name, _ in self._actions})
        if provider not in providers:
            raise InvalidOrder("provider", f"this worker knows {', '.join(providers)}")
        known = sorted(name for owner, name in self._actions if owner == provider)
        raise InvalidOrder("action", f"for {provider} this worker knows {', '.join(known)}")

    def _abandon(self, job_id: int) -> None:
        """A newer attempt was ordered: the older one has lost its lease and its browser."""
        for attempt, task in self._running.items():
            if attempt.job.id == job_id:
                attempt.job.cancelled = True
                task.cancel()

    def _remember(self, order: Order) -> None:
        self._latest[order.job_id] = order.attempt
        self._latest.move_to_end(order.job_id)
        while len(self._latest) > REMEMBERED_JOBS:
            self._latest.popitem(last=False)

    def _start(self, order: Order, action: Action, client: httpx.AsyncClient) -> None:
        order, span = self._spans.begin(order)
        redactor = Redactor(order.token, order.totp_code, order.browser_service_url)
        orchestrator = Orchestrator(client, order, self._patience)
        session = Session(self.driver, order.browser_service_url, redactor, traced=self._trace != "off")
        job = Job(order, orchestrator, session, redactor)
        watching = Watching(session, orchestrator)
        attempt = Attempt(
            job,
            action,
            orchestrator,
            redactor,
            watching,
            heartbeat_seconds=self.heartbeat_seconds,
            keep_trace=self._trace == "on",
        )
        self._running[attempt] = asyncio.create_task(self._work(attempt, session, span))

    async def _work(self, attempt: Attempt, session: Session, span: Span | None) -> None:
        try:
            await attempt.run()
        except Exception:
            logging.getLogger(__name__).exception("an attempt broke this library")
        finally:
            await session.close()
            end(span, attempt.reported)
            del self._running[attempt]


async def _settle(tasks: Iterable[asyncio.Task[None]], timeout: float | None) -> None:
    if waiting := list(tasks):
        await asyncio.wait(waiting, timeout=timeout)
