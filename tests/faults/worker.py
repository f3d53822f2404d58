"""The workers: hundreds of attempts in one process, each as good or as bad as drawn for its job and attempt."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from shared.http_client import Answer, HttpClient, Silence
from tests.faults.browsing import BrowserLost, browse
from tests.faults.configuration import HEARTBEAT_TIMEOUT, PROVIDERS
from tests.faults.drawing import Lots
from tests.faults.evidence import Issued
from tests.faults.portal import CodeRefused, Portals

HEARTBEAT_SECONDS = 0.5
CALL_SECONDS = 25.0
PATIENCE_SECONDS = 30.0
PAUSE_SECONDS = 0.3
BAD_ATTEMPTS = 4
"""Later ones are good."""
BAD: dict[str | None, float] = {
    None: 70,
    "busy": 4,
    "answers with nonsense": 1,
    "dies at once": 2,
    "takes it and hangs up": 2,
    "takes it and answers 500": 2,
    "takes it and answers too late": 2,
    "dies at work": 4,
    "hangs, then logs in": 3,
    "hangs, then reports": 3,
    "reports twice": 4,
    "breaks": 3,
}
EVIDENCE = 0.3
"""Of all attempts, those that keep a file."""


class Over(Exception):
    """The attempt is over, as the orchestrator says, or as must be assumed after so long a silence."""


class HungUp(Response):
    """Half an answer."""

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Promise more than is sent; the server then closes the connection."""
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
        await send({"type": "http.response.body", "body": b"{"})


class Workers:
    """All workers, behind one address."""

    def __init__(self, lots: Lots, portals: Portals) -> None:
        self.counts: Counter[str] = Counter()
        self.issued: list[Issued] = []
        self._lots = lots
        self._portals = portals
        self._http = HttpClient()
        self._tasks: set[asyncio.Task[None]] = set()
        self._tried: Counter[tuple[int, int]] = Counter()
        routes = [
            Route("/status", self._status),
            Route("/execute", self._execute, methods=["POST"]),
        ]
        self.app = Starlette(routes=routes)

    async def _status(self, _: Request) -> Response:
        return JSONResponse({"available": True})

    async def _execute(self, request: Request) -> Response:
        order = await request.json()
        kind = self._kind(order)
        if kind:
            self.counts[f"worker {kind}"] += 1
        match kind:
            case "busy":
                return Response(status_code=503)
            case "answers with nonsense":
                return Response("nonsense", 200)
            case "dies at once":
                return HungUp()
            case "takes it and hangs up":
                self._begin(order, kind)
                return HungUp()
            case "takes it and answers 500":
                self._begin(order, kind)
                return Response(status_code=500)
            case "takes it and answers too late":
                self._begin(order, kind)
                await asyncio.sleep(3.0)
            case _:
                self._begin(order, kind)
        return JSONResponse({"status": "accepted", "heartbeat_seconds": HEARTBEAT_SECONDS})

    def _kind(self, order: Mapping[str, Any]) -> str | None:
        if "workers" not in self._lots.classes or order["attempt"] > BAD_ATTEMPTS:
            return None
        who = (order["job_id"], order["attempt"])
        self._tried[who] += 1
        draw = self._lots.of("worker", order["parameters"]["n"], order["attempt"], self._tried[who])
        return draw.choices(list(BAD), list(BAD.values()))[0]

    def _begin(self, order: dict[str, Any], kind: str | None) -> None:
        task = asyncio.create_task(_Run(self, order, kind).run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Stop at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.aclose()


class _Run:
    """One worker at one attempt."""

    def __init__(self, workers: Workers, order: dict[str, Any], kind: str | None) -> None:
        self._workers = workers
        self._portals = workers._portals
        self._order = order
        self._kind = kind
        self._lots = workers._lots.of("work", order["parameters"]["n"], order["attempt"])
        self._headers = {"Authorization": f"Bearer {order['token']}"}
        self._account: str | None = order["account"]
        self._heard = time.monotonic()

    async def run(self) -> None:
        """From the order to the report; a worker that lost its lease stops at once."""
        work = asyncio.create_task(self._work())
        beats = asyncio.create_task(self._beat())
        try:
            await asyncio.wait({work, beats}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (work, beats):
                task.cancel()
            for result in await asyncio.gather(work, beats, return_exceptions=True):
                if isinstance(result, Exception) and not isinstance(result, Over):
                    raise result

    async def _work(self) -> None:
        if self._kind == "hangs, then logs in":
            await asyncio.sleep(HEARTBEAT_TIMEOUT + 3.0)
        failure = None
        try:
            await self._log_in()
            await self._at_portal()
        except CodeRefused as refused:
            self._workers.counts["portal refused a code"] += 1
            failure = {"kind": "application", "code": "totp_rejected", "message": str(refused)}
        except BrowserLost as lost:
            failure = {"kind": "application", "code": "browser_lost", "message": str(lost)}
        if self._kind == "hangs, then reports":
            await asyncio.sleep(HEARTBEAT_TIMEOUT + 3.0)
        if self._kind == "breaks":
            failure = {"kind": "application", "code": "broken", "message": "as drawn"}
        await self._report(failure or self._refusal())

    def _refusal(self) -> dict[str, str] | None:
        if self._order["parameters"].get("refused"):
            return {"kind": "business", "code": "refused", "message": "the portal says no"}
        return None

    async def _log_in(self) -> None:
        code = self._order.get("totp_code")
        entry = PROVIDERS[self._order["provider"]]
        if entry.get("totp") == "on_request":
            answer = await self._call("POST", f"{self._order['totp_url']}/totp/{self._order['provider']}", json={})
            body = answer.json()
            code, self._account = body["code"], body["account"]
            expires_at = datetime.fromisoformat(body["expires_at"]).timestamp()
            who = (self._order["job_id"], self._order["attempt"])
            self._workers.issued.append(Issued(*who, body["account"], expires_at))
        self._portals.login(self._order, self._account, code)

    async def _at_portal(self) -> None:
        self._portals.note(self._order, "work_started", self._account)
        try:
            if url := self._order["browser_service_url"]:
                await browse(url, self._order["browser_service_id"], self._order["parameters"]["page"])
            await asyncio.sleep(self._lots.uniform(0.05, 0.8))
            if self._kind == "dies at work":
                await asyncio.sleep(PATIENCE_SECONDS)
                raise Over
        finally:
            if self._kind != "dies at work":
                self._portals.note(self._order, "work_ended", self._account)

    async def _report(self, failure: dict[str, str] | None) -> None:
        files = []
        if self._lots.random() < EVIDENCE:
            files = await self._keep_file()
        body: dict[str, Any] = {
            "job_id": self._order["job_id"],
            "attempt": self._order["attempt"],
            "status": "failed" if failure else "completed",
            "evidence": files,
            "totp_used": self._order["provider"] in ("codes", "gate"),
        }
        body |= {"failure": failure} if failure else {"result": {"reference": f"{body['job_id']}.{body['attempt']}"}}
        times = 2 if self._kind == "reports twice" else 1
        url = f"{self._order['orchestrator_callback']}/callbacks/job-complete"
        await asyncio.gather(*(self._call("POST", url, json=body) for _ in range(times)))

    async def _keep_file(self) -> list[str]:
        """One that there is no room for is done without."""
        url = f"{self._order['orchestrator_callback']}/callbacks/evidence/page.txt"
        try:
            async with asyncio.timeout(5.0):
                await self._call("PUT", url, data=b"evidence", type="text/plain")
        except TimeoutError:
            self._workers.counts["evidence done without"] += 1
            return []
        return ["page.txt"]

    async def _beat(self) -> None:
        silent = self._kind in ("dies at work", "hangs, then logs in", "hangs, then reports")
        url = f"{self._order['orchestrator_callback']}/callbacks/heartbeat"
        body = {"job_id": self._order["job_id"], "attempt": self._order["attempt"]}
        while not silent:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            with contextlib.suppress(Silence):
                answer = await self._workers._http.call("POST", url, seconds=2.0, headers=self._headers, json=body)
                if answer.ok:
                    self._heard = time.monotonic()
                elif answer.status == 409:
                    raise Over
            if time.monotonic() - self._heard > HEARTBEAT_TIMEOUT:
                self._workers.counts["unheard workers gave up"] += 1
                raise Over
        await asyncio.sleep(PATIENCE_SECONDS)

    async def _call(self, method: str, url: str, *, type: str | None = None, **content: Any) -> Answer:
        """Ask until there is an answer that counts. Raises Over."""
        headers = self._headers | ({"Content-Type": type} if type else {})
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(Silence):
                answer = await self._workers._http.call(method, url, seconds=CALL_SECONDS, headers=headers, **content)
                if answer.ok:
                    return answer
                if answer.status == 409:
                    raise Over
                if answer.status < 500 and answer.status != 429:
                    self._workers.counts[f"workers answered {answer.status}"] += 1
            await asyncio.sleep(PAUSE_SECONDS)
        raise Over
