"""All eight functions in one process, each loaded by functions-framework as in its pod, with real stores.

What they meet outside (workers, ORDS, the place that runs browsers) are counterparts that tests steer. The
broker is the test itself: events stay in the outbox until `deliver` brings them, or does not.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import psycopg
from argon2 import PasswordHasher
from functions_framework.aio import create_asgi_app
from psycopg.rows import dict_row
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp
from valkey.asyncio import Valkey

from shared import openapi
from shared.browsers import Browser, BrowserError, BrowserFailed, BrowserSpec, BrowsersUnavailable, Phase
from shared.config import TokenSettings
from shared.events import PING, Doorbell, Type, doorbell, receive
from shared.tokens import Attempt, Keyring
from tests.functions.documented import promised
from tests.serving import serving

ROOT = Path(__file__).parents[2]
FUNCTIONS = (
    "submit_job",
    "provision_browser",
    "dispatch_job",
    "issue_totp",
    "callback",
    "notify",
    "reap_idle",
    "monitor",
)
SUBSCRIBERS = {
    Type.JOB_SUBMITTED: ["provision_browser"],
    Type.BROWSER_READY: ["dispatch_job"],
    Type.JOB_FINISHED: ["provision_browser", "notify"],
}
SEED = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
SHORT_SEED = "GEZDGNBVGY3TQOJQ"
"""As long as those of many portals."""
SIGNING_KEY = "signing-key-of-the-tests-0123456789abcdefghijklmnop"
PASSWORD = "password-of-the-administrator"
CLIENT_SECRET = "secret-of-a-program: with é"
API_CLIENTS = {
    "ords": {"secret": CLIENT_SECRET, "scopes": ["jobs:create", "jobs:read"]},
    "prometheus": {
        "secret": PasswordHasher(time_cost=1, memory_cost=64).hash(CLIENT_SECRET),
        "scopes": ["monitor:read"],
    },
}
ORDS_TOKEN = "token-that-ords-expects"
PROVIDERS = {
    "metrofiber": "actions: [validation, cancellation]\nmax_sessions: 2\n",
    "octotel": "actions: [validation, cancellation]\ntotp: on_request\n"
    "accounts: [{credentials: OCTOTEL, max_sessions: 1}, {credentials: OCTOTEL_2, max_sessions: 1}]\n",
    "openserve": "actions: [validation]\nbrowser: false\n",
    "evotel": "actions: [validation]\ntotp: at_dispatch\ntotp_period: 1\n",
}


class Place:
    """A place that runs browsers, as far as functions can tell."""

    def __init__(self) -> None:
        self.browsers: dict[str, Browser] = {}
        self.created: list[BrowserSpec] = []
        self.fails_with: BrowserError | None = None
        self.away = False
        """Then it answers nobody."""
        self.has_time = asyncio.Event()
        """Until then nothing starts."""
        self.has_time.set()

    async def create(self, spec: BrowserSpec) -> Browser:
        """Start a browser, or adopt it."""
        self.created.append(spec)
        await self.has_time.wait()
        if self.fails_with:
            raise self.fails_with
        new = Browser(spec.name, Phase.READY, datetime.now(UTC), "127.0.0.1:9", None, spec.job_id, spec.attempt)
        return self.browsers.setdefault(spec.name, new)

    async def wait_ready(self, name: str, *, timeout: float) -> Browser:  # noqa: ARG002
        """The browser, if it lives."""
        browser = self.browsers.get(name)
        if browser is None or browser.phase is Phase.FAILED:
            raise BrowserFailed("the browser is gone")
        return browser

    async def delete(self, name: str) -> None:
        """End the browser."""
        self._answer()
        self.browsers.pop(name, None)

    async def list(self) -> AsyncIterator[Browser]:
        """Every browser."""
        self._answer()
        for browser in list(self.browsers.values()):
            yield browser

    def _answer(self) -> None:
        if self.away:
            raise BrowsersUnavailable("the place is away")

    async def aclose(self) -> None:
        """Nothing to give back."""

    def reset(self) -> None:
        """As at the start."""
        self.browsers.clear()
        self.created.clear()
        self.fails_with, self.away = None, False
        self.has_time.set()


@dataclass
class Worker:
    """A worker that records what it is given and does nothing."""

    url: str = ""
    orders: list[dict[str, Any]] = field(default_factory=list)
    """Those that it accepted."""
    offered: list[dict[str, Any]] = field(default_factory=list)
    """All that it was sent."""
    traces: list[str | None] = field(default_factory=list)
    """Their traceparents."""
    says: dict[str, Response] = field(default_factory=dict)
    """What it answers at a path instead."""
    available: bool = True
    execute_status: int = 200

    def app(self) -> Starlette:
        """The worker's two routes."""

        async def status(_request: Request) -> Response:
            return self.says.get("/status") or JSONResponse({"available": self.available})

        async def execute(request: Request) -> Response:
            self.offered.append(await request.json())
            self.traces.append(request.headers.get("traceparent"))
            if answer := self.says.get("/execute"):
                return answer
            if self.execute_status == 200:
                self.orders.append(self.offered[-1])
            return JSONResponse({"status": "accepted", "heartbeat_seconds": 5}, self.execute_status)

        return Starlette(routes=[Route("/status", status), Route("/execute", execute, methods=["POST"])])

    def reset(self) -> None:
        """As at the start."""
        self.orders.clear()
        self.offered.clear()
        self.traces.clear()
        self.says.clear()
        self.available, self.execute_status = True, 200


@dataclass
class Ords:
    """ORDS, as far as notify can tell."""

    url: str = ""
    reports: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    """Each try's Idempotency-Key."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    """Of its answers."""
    seconds: float = 0
    """How long an answer takes."""

    def app(self) -> Starlette:
        """One route."""

        async def report(request: Request) -> Response:
            assert request.headers["authorization"] == f"Bearer {ORDS_TOKEN}"
            self.keys.append(request.headers["idempotency-key"])
            await asyncio.sleep(self.seconds)
            if self.status == 200:
                self.reports.append(await request.json())
            return Response(status_code=self.status, headers=self.headers)

        return Starlette(routes=[Route("/report", report, methods=["POST"])])

    def reset(self) -> None:
        """As at the start."""
        self.reports.clear()
        self.keys.clear()
        self.status, self.headers, self.seconds = 200, {}, 0


@dataclass
class Broker:
    """A broker that takes reap_idle's events and delivers none."""

    rung: list[Doorbell] = field(default_factory=list)
    status: int = 202

    def app(self) -> Starlette:
        """One route."""

        async def take(request: Request) -> Response:
            if self.status == 202:
                self.rung.append(doorbell(await receive(request), list(Type)))
            return Response(status_code=self.status)

        return Starlette(routes=[Route("/", take, methods=["POST"])])

    def reset(self) -> None:
        """As at the start."""
        self.rung.clear()
        self.status = 202


class Stage:
    """The functions, their counterparts, and the broker that is the test."""

    def __init__(
        self,
        connection: psycopg.AsyncConnection[Any],
        settings: dict[str, str],
        clients: dict[str, httpx.AsyncClient],
        apps: dict[str, ASGIApp],
        routes: dict[str, list[Route]],
        documents: dict[str, dict[str, Any]],
        place: Place,
        worker: Worker,
        ords: Ords,
        broker: Broker,
    ) -> None:
        self.connection = connection
        self.settings = settings
        self.clients = clients
        self.apps = apps
        self.routes = routes
        self.documents = documents
        self.place = place
        self.worker = worker
        self.ords = ords
        self.broker = broker
        self.token = ""

    async def reset(self) -> None:
        """Empty tables, and counterparts as at the start."""
        async with self.connection.transaction():  # a fifth of what TRUNCATE takes
            await self.execute("SET LOCAL session_replication_role = replica")
            for table in await self._tables():
                await self.execute(f"DELETE FROM {table}")  # noqa: S608 - our names
        for counterpart in (self.place, self.worker, self.ords, self.broker):
            counterpart.reset()

    async def contents(self) -> dict[str, list[str]]:
        """All rows of all tables but the figures', which count every round, to compare with those of another time."""
        return {
            table: [row["r"] for row in await self.rows(f"SELECT t::text AS r FROM {table} t ORDER BY r")]  # noqa: S608 - our names
            for table in await self._tables()
            if table not in ("figures", "observations")
        }

    async def reserved(self) -> dict[str, tuple[bytes, int]]:
        """What Valkey holds and when it ends (ms), but for counted requests, to compare with another time's."""
        at = {"host": self.settings["VALKEY_HOST"], "port": int(self.settings["VALKEY_PORT"])}
        async with Valkey(**at) as valkey:
            keys = [key async for key in valkey.scan_iter() if not key.startswith(b"rpa:rate:")]
            found = {key.decode(): (await valkey.dump(key), await valkey.pexpiretime(key)) for key in keys}
        return {key: (value, end) for key, (value, end) in found.items() if value is not None}

    def outside(self) -> tuple[object, ...]:
        """What the world has seen of us."""
        return len(self.worker.offered), len(self.ords.keys), len(self.place.created), sorted(self.place.browsers)

    async def _tables(self) -> list[str]:
        rows = await self.rows("SELECT relname FROM pg_stat_user_tables WHERE relname !~ 'yoyo'")
        return [row["relname"] for row in rows]

    async def sign_in(self, **form: str) -> httpx.Response:
        """Ask for a token."""
        data = {"grant_type": "password", "username": "admin", "password": PASSWORD, **form}
        return await self.clients["submit_job"].post("/auth/token", data=data)

    async def call(
        self, function: str, method: str, path: str, *, token: str | None = None, **options: Any
    ) -> httpx.Response:
        """Call a function's route; with the administrator's token unless another is given."""
        if not self.token:
            self.token = (await self.sign_in()).json()["access_token"]
        headers = {"Authorization": f"Bearer {self.token if token is None else token}", **options.pop("headers", {})}
        return await self.clients[function].request(method, path, headers=headers, **options)

    async def submit(self, **job: Any) -> dict[str, Any]:
        """Submit a job that is taken."""
        response = await self.call(
            "submit_job", "POST", "/jobs", json={"provider": "metrofiber", "action": "validation", **job}
        )
        assert response.status_code in (200, 201), response.text
        return response.json()

    async def job(self, job_id: int) -> dict[str, Any]:
        """A job with its history."""
        return (await self.call("submit_job", "GET", f"/jobs/{job_id}")).json()

    async def send(self, function: str, event: Doorbell) -> httpx.Response:
        """Deliver an event to one function."""
        attributes = event.cloud_event().get_attributes()
        headers = {f"ce-{name}": str(value) for name, value in attributes.items() if name != "datacontenttype"}
        body = {"job_id": event.job_id, "attempt": event.attempt}
        return await self.clients[function].post("/", json=body, headers=headers)

    async def deliver(self, event: Doorbell) -> list[int]:
        """Deliver an event to all its subscribers and take it from the outbox, as a broker would."""
        answers = [await self.send(function, event) for function in SUBSCRIBERS[event.type]]
        await self.execute(
            "DELETE FROM outbox WHERE (type, job_id, attempt) = (%s, %s, %s)",
            event.type.value,
            event.job_id,
            event.attempt,
        )
        return [answer.status_code for answer in answers]

    async def outbox(self) -> list[Doorbell]:
        """Events that wait."""
        rows = await self.rows("SELECT type, job_id, attempt, traceparent FROM outbox ORDER BY created_at, job_id")
        return [Doorbell(Type(row["type"]), row["job_id"], row["attempt"], row["traceparent"]) for row in rows]

    async def deliver_all(self) -> None:
        """Deliver events until none wait."""
        while bells := await self.outbox():
            for bell in bells:
                await self.deliver(bell)

    async def tick(self) -> list[Doorbell]:
        """The PingSource's tick; the events that it made reap_idle send."""
        self.broker.rung.clear()
        headers = {"ce-id": "tick", "ce-source": "/ping", "ce-type": PING, "ce-specversion": "1.0"}
        answer = await self.clients["reap_idle"].post("/", json={}, headers=headers)
        assert answer.status_code == 204, answer.text
        return list(self.broker.rung)

    async def lose_events(self) -> None:
        """Every event that waits is lost, and a minute passes in which none comes."""
        async with self.connection.transaction():
            await self.execute("DELETE FROM outbox")
            await self.execute("SET LOCAL session_replication_role = replica")  # the guard keeps times, too
            await self.execute(
                "UPDATE jobs SET updated_at = updated_at - interval '1 minute',"
                " finished_at = finished_at - interval '1 minute'"
            )

    async def rows(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        """Ask the database."""
        cursor = self.connection.cursor(row_factory=dict_row)
        return await (await cursor.execute(statement, values)).fetchall()

    async def execute(self, statement: str, *values: Any) -> None:
        """Change the database, as the passing of time would."""
        await self.connection.execute(statement, values)

    async def until_running(self, **job: Any) -> dict[str, Any]:
        """Submit a job and bring it to a worker; the worker's order."""
        made = await self.submit(**job)
        await self.deliver_all()
        return next(order for order in self.worker.orders if order["job_id"] == made["id"])

    def worker_token(self, job_id: int, attempt: int = 1, provider: str = "metrofiber") -> str:
        """A token as the worker of an attempt has it."""
        return keyring().issue_worker(Attempt(job_id, attempt, provider), timedelta(hours=1))

    async def complete(self, order: Mapping[str, Any], **report: Any) -> httpx.Response:
        """The worker reports the end."""
        body = {"job_id": order["job_id"], "attempt": order["attempt"], "status": "completed", **report}
        return await self.call("callback", "POST", "/callbacks/job-complete", token=order["token"], json=body)


def keyring(key: str = SIGNING_KEY) -> Keyring:
    """What signs and checks tokens."""
    return Keyring(TokenSettings(environment={}, jwt_secret_key=SecretStr(key)))


def environment(
    database_url: str, valkey: Mapping[str, str], providers: Path, worker: Worker, ords: Ords
) -> dict[str, str]:
    """The settings of all functions."""
    providers.mkdir(exist_ok=True)
    for name, entry in PROVIDERS.items():
        (providers / f"{name}.yaml").write_text(entry)
    return {
        "DATABASE_URL": database_url,
        **valkey,
        "JWT_SECRET_KEY": SIGNING_KEY,
        "K_REVISION": "r-1",
        "ADMIN_USERNAME": "admin",
        "ADMIN_PASSWORD": PASSWORD,
        "API_CLIENTS": json.dumps(API_CLIENTS),
        "PROVIDERS_DIR": str(providers),
        "OCTOTEL_TOTP_SECRET": SEED,
        "OCTOTEL_2_TOTP_SECRET": SEED[::-1].replace("P", "Q"),
        "EVOTEL_TOTP_SECRET": SHORT_SEED,
        "BROWSER_SERVICE_IMAGE": "rpa-browser:1",
        "WORKER_URLS": worker.url,
        "TOTP_URL": "http://issue-totp",
        "CALLBACK_URL": "http://callback",
        "CALLBACK_ENDPOINT": f"{ords.url}/report",
        "CALLBACK_AUTH_TOKEN": ORDS_TOKEN,
        "CALLBACK_TIMEOUT": "2",
        "MAX_WORKERS": "3",
        "RETRY_BACKOFF": "0",
        "DATABASE_POOL_SIZE": "4",
    }


def load_function(name: str, settings: Mapping[str, str], place: Place) -> tuple[Any, Any]:
    """A function as functions-framework loads it from its source, and the module that it became."""
    with patch.dict(os.environ, settings), patch("shared.browsers.place.open_browsers", lambda _settings: place):
        app = create_asgi_app(target=name, source=str(ROOT / "functions" / name / "main.py"))
    return app, sys.modules["main"]


@asynccontextmanager
async def open_stage(
    database_url: str, valkey: Mapping[str, str], providers: Path, **overrides: str
) -> AsyncIterator[Stage]:
    """The stage, with settings changed by `overrides`."""
    place, worker, ords, broker = Place(), Worker(), Ords(), Broker()
    async with AsyncExitStack() as stack:
        worker.url = await stack.enter_async_context(serving(worker.app()))
        ords.url = await stack.enter_async_context(serving(ords.app()))
        sink = await stack.enter_async_context(serving(broker.app()))
        settings = environment(database_url, valkey, providers, worker, ords) | overrides
        clients, apps, routes, documents = {}, {}, {}, {}
        for name in FUNCTIONS:
            # Only reap_idle has a broker: the others' events wait in the outbox for the test to deliver them.
            own = {"K_SINK": sink} if name == "reap_idle" else {}
            app, module = load_function(name, settings | own, place)
            for store in ("DATABASE", "VALKEY", "HTTP"):
                if opened := getattr(module, store, None):
                    stack.push_async_callback(opened.aclose)
            routes[name] = module.APPLICATION._application.routes
            apps[name] = app
            documents[name] = openapi.document(module.__doc__, routes[name])
            transport = httpx.ASGITransport(app, raise_app_exceptions=True)
            clients[name] = await stack.enter_async_context(
                httpx.AsyncClient(
                    transport=transport,
                    base_url=f"http://{name}",
                    event_hooks={"response": [promised(documents[name], routes[name])]},
                )
            )
        connection = await psycopg.AsyncConnection.connect(database_url, autocommit=True)
        await stack.enter_async_context(connection)
        yield Stage(connection, settings, clients, apps, routes, documents, place, worker, ords, broker)
