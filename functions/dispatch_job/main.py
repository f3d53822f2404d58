"""dispatch_job: hand job and browser to a worker that accepts them."""

from __future__ import annotations

import functions_framework.aio
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from functions.dispatch_job.handler import Addresses, Handler
from functions.dispatch_job.workers import Workers
from shared import logs, spans
from shared.config import (
    BaseUrl,
    BaseUrls,
    DatabaseSettings,
    EventSettings,
    LeaseSettings,
    TokenSettings,
    TotpSettings,
    load,
)
from shared.db import Database
from shared.events import Type, endpoint, takes_doorbells
from shared.http import application, route
from shared.http_client import HttpClient
from shared.outbox import Publisher
from shared.tokens import Keyring
from shared.totp import TotpIssuer
from shared.valkey_client import Valkey


class Settings(DatabaseSettings, TokenSettings, EventSettings, LeaseSettings, TotpSettings):
    """What this function needs."""

    worker_urls: BaseUrls = Field((), description="workers for providers that name none, separated by commas")
    totp_url: BaseUrl = Field(description="issue_totp's address as workers reach it")
    callback_url: BaseUrl = Field(description="callback's address as workers reach it")


SETTINGS = load(Settings)
logs.configure("dispatch_job", SETTINGS.log_level)
spans.configure("dispatch_job", SETTINGS)
DATABASE = Database(SETTINGS)
VALKEY = Valkey(SETTINGS)
HTTP = HttpClient()
HANDLER = Handler(
    DATABASE,
    Publisher(SETTINGS, DATABASE, HTTP),
    Keyring(SETTINGS),
    TotpIssuer(SETTINGS, DATABASE, VALKEY),
    Workers(HTTP),
    SETTINGS.providers,
    Addresses(SETTINGS.totp_url, SETTINGS.callback_url, SETTINGS.worker_urls),
    SETTINGS,
)
EVENT = takes_doorbells("Hand the job and its browser to a worker", Type.BROWSER_READY)
APPLICATION = application(
    [route("POST", "/", endpoint(DATABASE, "dispatch_job", [Type.BROWSER_READY], HANDLER), EVENT)],
    DATABASE.ping,
    about=__doc__,
)


@functions_framework.aio.http
async def dispatch_job(_request: Request) -> Response:
    """The function's entry point."""
    return APPLICATION
