"""provision_browser: admit the next jobs within the limits and get each a ready browser."""

from __future__ import annotations

import functions_framework.aio
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from functions.provision_browser.admission import Limits
from functions.provision_browser.bring_up import BringUp
from functions.provision_browser.handler import Handler
from shared import logs, spans
from shared.browsers.place import open_browsers
from shared.browsers.warm import WarmPool
from shared.config import (
    BrowserSettings,
    DatabaseSettings,
    EventSettings,
    LeaseSettings,
    ProviderSettings,
    TokenSettings,
    WarmPoolSettings,
    load,
)
from shared.db import Database
from shared.events import Type, endpoint, takes_doorbells
from shared.http import application, route
from shared.http_client import HttpClient
from shared.outbox import Publisher
from shared.tokens import Keyring


class Settings(
    DatabaseSettings,
    TokenSettings,
    EventSettings,
    LeaseSettings,
    ProviderSettings,
    BrowserSettings,
    WarmPoolSettings,
):
    """What this function needs."""

    max_workers: int = Field(10, ge=1, le=10000, description="jobs at once in all")
    provision_batch: int = Field(10, ge=1, le=100, description="jobs that one event admits at most")


SETTINGS = load(Settings)
logs.configure("provision_browser", SETTINGS.log_level)
spans.configure("provision_browser", SETTINGS)
DATABASE = Database(SETTINGS)
HTTP = HttpClient()
KEYRING = Keyring(SETTINGS)
BROWSERS = open_browsers(SETTINGS)
HANDLER = Handler(
    DATABASE,
    BROWSERS,
    Publisher(SETTINGS, DATABASE, HTTP),
    BringUp(DATABASE, BROWSERS, KEYRING, SETTINGS),
    WarmPool(DATABASE, BROWSERS, KEYRING, SETTINGS, SETTINGS),
    Limits(SETTINGS.max_workers, SETTINGS.providers),
    batch=SETTINGS.provision_batch,
    key_id=KEYRING.current,
)
TYPES = (Type.JOB_SUBMITTED, Type.JOB_FINISHED)
EVENT = takes_doorbells("Admit the next jobs, and get each a browser", *TYPES)
APPLICATION = application(
    [route("POST", "/", endpoint(DATABASE, "provision_browser", TYPES, HANDLER), EVENT)], DATABASE.ping, about=__doc__
)


@functions_framework.aio.http
async def provision_browser(_request: Request) -> Response:
    """The function's entry point."""
    return APPLICATION
