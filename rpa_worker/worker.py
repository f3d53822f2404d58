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
from rpa_worker.errors import AttemptOver, Busy, InvalidOrder, NotConfirmed
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
CONFIRM_SECONDS = 8.0
"""Less than the 10 s within which an order must be answered."""


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
        callback: str | None = None,
        patience: Patience | None = None,
    ) -> None:
        """`capacity`: attempts at once. `drain_seconds`: how long SIGTERM lets them finish.

        `browser`: firefox or chromium, by default what BROWSER in the environment says, else firefox.
        `trace`: of which attempts Playwright's trace is kept, on, failures or off; by default what BROWSER_TRACE
        in the environment says, else failures. An action that records a trace of its own wants it off.
        `callback`: base URL of the one orchestrator whose orders are followed, each once it has confirmed it; by
        default what CALLBACK_URL in the environment says, else whoever reaches this worker is believed.
        """
        self.capacity = capacity
        self.heartbeat_seconds = heartbeat_seconds
        self._drain_seconds = drain_seconds
        self._callback = (callback or os.environ.get("CALLBACK_URL") or "").rstrip("/")
        self._patience = patience or Patience()
        self._spans = Spans()
        self.driver = Driver(browser or os.environ.get("BROWSER") or "firefox")
        self._trace = trace or os.environ.get("BROWSER_TRACE") or "failures"
        if self._trace not in TRACES:
            raise ValueError(f"BROWSER_TRACE: {self._trace!r} is none of {', '.join(TRACES)}")
        self._actions: dict[tuple[str, str], Action] = {}
        self._running: dict[Attempt, asyncio.Task[None]] = {}
        self._confirming: dict[tuple[int, int, str], asyncio.Task[None]] = {}
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
        running = len(self._running) + len(self._confirming)
        return {
            "available": running < self.capacity and not self._draining,
            "capacity": self.capacity,
            "running": running,
            "draining": self._draining,
        }

    async def receive(self, order: Order, client: httpx.AsyncClient) -> None:
        """Accept this attempt, where there is a `callback` once that confirms it.

        Raises InvalidOrder, AttemptOver, Busy, NotConfirmed, httpx.HTTPError.
        """
        if not self._callback:
            return self.accept(order, client)
        if order.orchestrator_callback != self._callback:
            raise NotConfirmed(f"orchestrator_callback: this worker works for {self._callback} alone")
        key = order.job_id, order.attempt, order.token
        if key not in self._confirming:
            if not self._is_new(order):
                return None
            self._confirming[key] = asyncio.create_task(self._confirm(key, order, client))
        # An order that comes again meanwhile hears the same.
        return await asyncio.shield(self._confirming[key])

    def accept(self, order: Order, client: httpx.AsyncClient) -> None:
        """Start this attempt, once however often it is ordered. Raises InvalidOrder, AttemptOver, Busy."""
        if self._is_new(order):
            self._abandon(order.job_id)
            self._remember(order)
            self._start(order, self._find(order.provider, order.action), client)

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

    def _is_new(self, order: Order) -> bool:
        """Whether to start this attempt; it can be."""
        latest = self._latest.get(order.job_id, 0)
        if order.attempt == latest:
            return False
        if order.attempt < latest:
            raise AttemptOver(f"attempt {latest} of job {order.job_id} was ordered already")
        self._find(order.provider, order.action)
        if not self.status()["available"]:
            raise Busy(f"{self.status()['running']} of {self.capacity} attempts are running")
        return True

    async def _confirm(self, key: tuple[int, int, str], order: Order, client: httpx.AsyncClient) -> None:
        """Accept this attempt if the orchestrator takes its heartbeat, which only the right token gives."""
        try:
            await Orchestrator(client, order, self._patience).heartbeat("", timeout=CONFIRM_SECONDS)
        except httpx.HTTPStatusError as error:
            if error.response.is_client_error:
                raise NotConfirmed(f"token: refused by {self._callback}") from None
            raise
        finally:
            # Its place is free for itself: nothing runs in between.
            del self._confirming[key]
        self.accept(order, client)

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
