"""The routes of operators."""

from __future__ import annotations

from starlette.convertors import register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from functions.monitor.models import (
    Accounts,
    AccountState,
    DeadLetters,
    DeadLetterWithEvent,
    PauseRequest,
    Providers,
    ProviderState,
    Replayed,
)
from functions.monitor.operators import Operators
from shared.auth import Gate
from shared.http import Number, Part, Problem, dump, parse, query, route
from shared.operation import Answer, Body, Operation
from shared.tokens import Scope

register_url_convertor("letter", Number())

READ, DO = Scope.MONITOR_READ, Scope.OPERATE
PROVIDERS = Operation(summary="All providers, and what runs there", who=READ, answers={200: Answer(Providers)})
PAUSE_PROVIDER = Operation(
    summary="Nothing new starts at the portal; what runs goes on",
    who=DO,
    body=Body(PauseRequest),
    answers={200: Answer(ProviderState)},
    refuses=[404],
)
RESUME_PROVIDER = Operation(
    summary="What waits at the portal starts", who=DO, answers={200: Answer(ProviderState)}, refuses=[404]
)
ACCOUNTS = Operation(summary="All logins, and who waits for their codes", who=READ, answers={200: Answer(Accounts)})
PAUSE_ACCOUNT = Operation(
    summary="Nothing new starts under the login, and it gets no codes",
    who=DO,
    body=Body(PauseRequest),
    answers={200: Answer(AccountState)},
    refuses=[404],
)
RESUME_ACCOUNT = Operation(
    summary="Lift the login's pause, the lockout guard's too",
    who=DO,
    answers={200: Answer(AccountState)},
    refuses=[404],
)
DEAD_LETTERS = Operation(
    summary="Events that nobody could handle, newest first", who=READ, query=Part, answers={200: Answer(DeadLetters)}
)
DEAD_LETTER = Operation(
    summary="One letter with its event", who=READ, answers={200: Answer(DeadLetterWithEvent)}, refuses=[404]
)
REPLAY = Operation(
    summary="Send again what the letter announces, once until it comes back",
    who=DO,
    answers={200: Answer(DeadLetterWithEvent)},
    refuses=[404, 409],
)
REPLAY_ALL = Operation(
    summary="Replay the oldest letters that can be, 100 at most", who=DO, answers={200: Answer(Replayed)}
)


class OperatorRoutes:
    """Providers, accounts, dead letters over HTTP."""

    def __init__(self, gate: Gate, operators: Operators) -> None:
        self._gate = gate
        self._operators = operators

    def all(self) -> list[Route]:
        """Every one."""
        return [
            route("GET", "/providers", self.providers, PROVIDERS),
            route("POST", "/providers/{name}:pause", self.pause_provider, PAUSE_PROVIDER),
            route("POST", "/providers/{name}:resume", self.resume_provider, RESUME_PROVIDER),
            route("GET", "/accounts", self.accounts, ACCOUNTS),
            route("POST", "/accounts/{account}:pause", self.pause_account, PAUSE_ACCOUNT),
            route("POST", "/accounts/{account}:resume", self.resume_account, RESUME_ACCOUNT),
            route("GET", "/dead-letters", self.dead_letters, DEAD_LETTERS),
            route("POST", "/dead-letters:replay", self.replay_all, REPLAY_ALL),
            route("GET", "/dead-letters/{id:letter}", self.dead_letter, DEAD_LETTER),
            route("POST", "/dead-letters/{id:letter}:replay", self.replay, REPLAY),
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
        part = query(request, Part)
        return dump(await self._operators.dead_letters(part.limit, part.cursor))

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


def letter_id(request: Request) -> int:
    """The number in the path. Raises Problem 404 where no letter can have it."""
    number = int(request.path_params["id"])
    if number >= 2**63:
        raise Problem(404, "id: there is no such dead letter", code="unknown_letter")
    return number
