"""notify: report finished jobs to ORDS until it acknowledges."""

from __future__ import annotations

import functions_framework.aio
from pydantic import Field, SecretStr
from starlette.requests import Request
from starlette.responses import Response

from functions.notify.handler import Handler, Ords
from shared import logs, spans
from shared.config import BaseUrl, DatabaseSettings, load
from shared.db import Database
from shared.events import Type, endpoint, takes_doorbells
from shared.http import application, route
from shared.http_client import HttpClient


class Settings(DatabaseSettings):
    """What this function needs."""

    callback_endpoint: BaseUrl = Field(description="ORDS's address for reports")
    callback_auth_token: SecretStr = Field(description="the bearer token that ORDS expects")
    callback_timeout: float = Field(10, gt=0, le=60, description="seconds ORDS may take to answer")


SETTINGS = load(Settings)
logs.configure("notify", SETTINGS.log_level)
spans.configure("notify", SETTINGS)
DATABASE = Database(SETTINGS)
ORDS = Ords(SETTINGS.callback_endpoint, SETTINGS.callback_auth_token.get_secret_value(), SETTINGS.callback_timeout)
HTTP = HttpClient()
HANDLER = Handler(DATABASE, HTTP, ORDS)
EVENT = takes_doorbells("Report the job to ORDS", Type.JOB_FINISHED)
APPLICATION = application(
    [route("POST", "/", endpoint(DATABASE, "notify", [Type.JOB_FINISHED], HANDLER), EVENT)],
    DATABASE.ping,
    about=__doc__,
)


@functions_framework.aio.http
async def notify(_request: Request) -> Response:
    """The function's entry point."""
    return APPLICATION
