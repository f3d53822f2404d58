"""The functions that `kn rpa` calls, served over HTTP, and a shell that has their addresses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.functions.conftest import one_stage, stage
from tests.functions.stage import PASSWORD, Stage
from tests.plugin.terminal import Shell
from tests.serving import serving

__all__ = ["one_stage", "stage"]


@dataclass
class Door:
    """Stands before a function; counts who comes, and may be shut."""

    app: ASGIApp
    shut: bool = False
    turned_away: int = 0
    sign_ins: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let it through, or answer as a function that is not ready does."""
        if scope["type"] == "http":
            self.sign_ins += scope["path"] == "/auth/token"
            if self.shut:
                self.turned_away += 1
                await JSONResponse({"detail": "not ready yet"}, 503)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def app_of(stage: Stage, function: str) -> ASGIApp:
    """A function of the stage."""
    app: ASGIApp = stage.clients[function]._transport.app  # type: ignore[attr-defined]
    return app


@pytest.fixture
def door(stage: Stage) -> Door:
    """The door of submit_job."""
    return Door(app_of(stage, "submit_job"))


@asynccontextmanager
async def served(stage: Stage, folder: Path, door: Door | None = None) -> AsyncIterator[Shell]:
    """A user who knows the addresses and the administrator's password."""
    submit = door or Door(app_of(stage, "submit_job"))
    async with serving(submit) as submit_url, serving(app_of(stage, "monitor")) as monitor_url:
        known = {"RPA_URL": submit_url, "RPA_MONITOR_URL": monitor_url}
        yield Shell(folder, known | {"RPA_USERNAME": "admin", "RPA_PASSWORD": PASSWORD})


@pytest.fixture
async def shell(stage: Stage, door: Door, tmp_path: Path) -> AsyncIterator[Shell]:
    """A user of the stage."""
    async with served(stage, tmp_path, door) as user:
        yield user
