"""A run of the real functions in which every promise is kept, with a bit of everything: the auditor's measure."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import yaml

from shared.browsers import BrowserFailed, BrowsersUnavailable
from shared.events import Doorbell, Type
from tests.faults.evidence import Evidence, Issued, Report, Submission, Visit
from tests.functions.stage import PROVIDERS, Stage

MAX_WORKERS = 3
REAPING_SECONDS = 2.0
BUSINESS = {"kind": "business", "code": "unknown_circuit", "message": "no such circuit"}
APPLICATION = {"kind": "application", "code": "portal_changed", "message": "a button is gone"}


@dataclass
class CleanRun:
    """Jobs on a stage, and what their portal and callers see."""

    stage: Stage
    submitted: list[Submission] = field(default_factory=list)
    portal: list[Visit] = field(default_factory=list)
    issued: list[Issued] = field(default_factory=list)

    async def evidence(self) -> Evidence:
        """Do everything once; what it leaves."""
        await self.ended_in_every_way()
        await self.tried_again()
        poison = Doorbell(Type.JOB_FINISHED, 2**40, 1, "")
        assert (await self.stage.send("notify", poison)).status_code == 422
        self.submitted.append(Submission("never-answered", None, "metrofiber"))
        return Evidence(
            database_url="",
            providers={name: yaml.safe_load(entry) for name, entry in PROVIDERS.items()},
            max_workers=MAX_WORKERS,
            submitted=self.submitted,
            portal=self.portal,
            ords=self._reports(),
            processes=list(self.stage.place.browsers),
            reaping_seconds=REAPING_SECONDS,
            issued=self.issued,
            poison=frozenset({poison.id}),
        )

    async def ended_in_every_way(self) -> None:
        """Completed at every kind of portal, refused by one, cancelled, too late."""
        await self.completed("done", "metrofiber")
        await self.completed("no-browser", "openserve")
        await self.completed("code-with-its-order", "evotel")
        orders = [await self.running(name, "octotel") for name in ("code-1", "code-2")]
        for order in orders:
            await self.log_in_with_code(order)
            await self.end(order)
        await self.end(await self.running("refused", "metrofiber"), status="failed", failure=BUSINESS)
        cancelled = await self.running("cancelled", "metrofiber")
        await self.stage.call("submit_job", "DELETE", f"/jobs/{cancelled['job_id']}")
        late = await self.submit("late", "metrofiber", deadline="2100-01-01T00:00:00Z")
        await self.stage.execute("UPDATE jobs SET deadline = now() WHERE id = %s", late)
        await self.tick()

    async def tried_again(self) -> None:
        """Failed and tried again, lost by its worker, without a browser, without room for one; given up."""
        await self.end(await self.running("broken-once", "metrofiber"), status="failed", failure=APPLICATION)
        await self.end(self.order())
        lost = await self.running("lost", "metrofiber")
        await self.stage.execute("UPDATE jobs SET lease_expires_at = now() WHERE id = %s", lost["job_id"])
        await self.tick()
        await self.end(self.order())
        self.stage.place.fails_with = BrowserFailed("no such image")
        await self.submit("given-up", "metrofiber", max_retries=1)
        await self.stage.deliver_all()
        self.stage.place.fails_with = BrowsersUnavailable("quota exceeded")
        waiting = await self.submit("no-room", "metrofiber")
        for bell in await self.stage.outbox():
            await self.stage.deliver(bell)
        self.stage.place.fails_with = None
        await self.stage.call("submit_job", "PATCH", f"/jobs/{waiting}", json={"run_after": None})
        await self.stage.deliver_all()
        await self.end(self.order())

    async def submit(self, name: str, provider: str, **job: Any) -> int:
        """Submit a job twice; its id."""
        for _ in range(2):
            made = await self.stage.submit(external_job_id=name, provider=provider, **job)
            self.submitted.append(Submission(name, made["id"], provider))
        return int(made["id"])

    async def running(self, name: str, provider: str) -> dict[str, Any]:
        """A job that a worker has; its order."""
        await self.submit(name, provider)
        await self.stage.deliver_all()
        return self.order()

    async def tick(self) -> None:
        """reap_idle sees to what is late."""
        for bell in await self.stage.tick():
            await self.stage.deliver(bell)
        await self.stage.deliver_all()

    def order(self) -> dict[str, Any]:
        """The newest order."""
        return self.stage.worker.orders[-1]

    async def completed(self, name: str, provider: str) -> None:
        """A job from its submission to its report."""
        await self.end(await self.running(name, provider))

    async def log_in_with_code(self, order: Mapping[str, Any]) -> None:
        """Ask for a code and use it."""
        path = f"/totp/{order['provider']}"
        code = (await self.stage.call("issue_totp", "POST", path, token=order["token"])).json()
        expires_at = datetime.fromisoformat(code["expires_at"]).timestamp()
        self.issued.append(Issued(order["job_id"], order["attempt"], code["account"], expires_at))
        self.visit(order, "login", code["account"], code["code"], round(expires_at / 30) - 1)

    def visit(
        self, order: Mapping[str, Any], kind: Any, account: str, code: str | None = None, step: int | None = None
    ) -> None:
        """The portal sees the worker."""
        who = (order["job_id"], order["attempt"], order["provider"])
        self.portal.append(Visit(time.time(), *who, account, kind, code, step, order["browser_service_id"]))

    async def end(self, order: Mapping[str, Any], **report: Any) -> None:
        """Work at the portal, then say how it went."""
        if "totp_code" in order:
            (row,) = await self.stage.rows("SELECT account, step FROM totp_steps WHERE job_id = %s", order["job_id"])
            self.visit(order, "login", row["account"], order["totp_code"], row["step"])
        elif order["provider"] != "octotel":
            self.visit(order, "login", order["provider"].upper())
        for kind in ("work_started", "work_ended"):
            self.visit(order, kind, order["provider"].upper())
        assert (await self.stage.complete(order, **report)).status_code == 200
        await self.stage.deliver_all()

    def _reports(self) -> list[Report]:
        ords = self.stage.ords
        return [
            Report(time.time(), body["job_id"], body["external_job_id"], key, body["status"], body, acknowledged=True)
            for key, body in zip(ords.keys, ords.reports, strict=True)
        ]
