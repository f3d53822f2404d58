"""The routes of operators."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from functions.monitor.models import Accounts, PauseRequest, Providers
from functions.monitor.operators import Operators
from shared.auth import Gate
from shared.http import Problem, dump, invalid, page_limit, parse, route
from shared.tokens import Scope


class OperatorRoutes:
    """Providers, accounts, dead letters over HTTP."""

    def __init__(self, gate: Gate, operators: Operators) -> None:
        self._gate = gate
        self._operators = operators

    def all(self) -> list[Route]:
        """Every one."""
        return [
            route("GET", "/providers", self.providers),
            route("POST", "/providers/{name}:pause", self.pause_provider),
            route("POST", "/providers/{name}:resume", self.resume_provider),
            route("GET", "/accounts", self.accounts),
            route("POST", "/accounts/{account}:pause", self.pause_account),
            route("POST", "/accounts/{account}:resume", self.resume_account),
            route("GET", "/dead-letters", self.dead_letters),
            route("POST", "/dead-letters:replay", self.replay_all),
            route("GET", "/dead-letters/{id}", self.dead_letter),
            route("POST", "/dead-letters/{id}:replay", self.replay),
        ]

    async def providers(self, request: Request) -> Response:
        """GET /providers"""
        await self._gate.caller(request, Scope.MONITOR_READ)
        return dump(Providers(items=await self._operators.providers()))

    async def pause_provider(self, request: Request) -> Response:
        """POST /providers/{name}:pause"""
        by = await self._gate.caller(request, Scope.OPERATE)
        wish = await parse(request, PauseRequest)
        return dump(await self._operators.pause_provider(request.path_params["name"], wish.reason, by))

    async def resume_provider(self, request: Request) -> Response:
        """POST /providers/{name}:resume"""
        by = await self._gate.caller(request, Scope.OPERATE)
        return dump(await self._operators.resume_provider(request.path_params["name"], by))

    async def accounts(self, request: Request) -> Response:
        """GET /accounts"""
        await self._gate.caller(request, Scope.MONITOR_READ)
        return dump(Accounts(items=await self._operators.accounts()))

    async def pause_account(self, request: Request) -> Response:
        """POST /accounts/{account}:pause"""
        by = await self._gate.caller(request, Scope.OPERATE)
        wish = await parse(request, PauseRequest)
        return dump(await self._operators.pause_account(request.path_params["account"], wish.reason, by))

    async def resume_account(self, request: Request) -> Response:
        """POST /accounts/{account}:resume"""
        by = await self._gate.caller(request, Scope.OPERATE)
        return dump(await self._operators.resume_account(request.path_params["account"], by))

    async def dead_letters(self, request: Request) -> Response:
        """GET /dead-letters"""
        await self._gate.caller(request, Scope.MONITOR_READ)
        return dump(await self._operators.dead_letters(*part(request)))

    async def dead_letter(self, request: Request) -> Response:
        """GET /dead-letters/{id}"""
        await self._gate.caller(request, Scope.MONITOR_READ)
        return dump(await self._operators.dead_letter(letter_id(request)))

    async def replay(self, request: Request) -> Response:
        """POST /dead-letters/{id}:replay"""
        by = await self._gate.caller(request, Scope.OPERATE)
        return dump(await self._operators.replay(letter_id(request), by))

    async def replay_all(self, request: Request) -> Response:
        """POST /dead-letters:replay"""
        by = await self._gate.caller(request, Scope.OPERATE)
        return dump(await self._operators.replay_all(by))


def part(request: Request) -> tuple[int, str]:
    """Which part of a list is asked for: limit and cursor. Raises Problem 422."""
    query = dict(request.query_params)
    if unknown := set(query) - {"limit", "cursor"}:
        raise invalid(min(unknown), "unknown; use limit, cursor")
    return page_limit(query.get("limit")), query.get("cursor", "")


def letter_id(request: Request) -> int:
    """The number in the path. Raises Problem 404 where no letter can have it."""
    text = request.path_params["id"]
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise Problem(404, "id: there is no such dead letter", code="unknown_letter")
    return int(text)
