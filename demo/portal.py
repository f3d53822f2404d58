"""The portals of four network operators: login, login code, a form, a confirmation or a refusal."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from demo.accounts import Account, CodeRefused, read_accounts
from demo.pages import ACTIONS, OPERATORS, facts, page
from demo.serving import HEALTH, serve
from demo.visits import Visit, Visits, is_own_form

SEE_OTHER = 303
FORBIDDEN = 403
NOT_FOUND = 404


class Portal:
    """All four portals: their accounts, their visitors, and who logged in when."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._accounts = {name: read_accounts(name, environment) for name in OPERATORS}
        self._visits = Visits()
        self._audit: list[dict[str, Any]] = []
        self._orders = itertools.count(1001)
        routes = [
            HEALTH,
            Route("/audit", self.audit),
            Route("/{operator}", self.ask_login),
            Route("/{operator}", self.login, methods=["POST"]),
            Route("/{operator}/code", self.ask_code),
            Route("/{operator}/code", self.code, methods=["POST"]),
            Route("/{operator}/orders", self.ask_order),
            Route("/{operator}/orders", self.order, methods=["POST"]),
        ]
        self.app = Starlette(routes=routes)

    async def audit(self, _: Request) -> Response:
        """Every login with a right password: account, time step, time, accepted or why not."""
        return JSONResponse({"items": self._audit})

    async def ask_login(self, request: Request) -> Response:
        operator = request.path_params["operator"]
        if operator not in OPERATORS:
            raise HTTPException(NOT_FOUND)
        visit = Visit(operator)
        answer = page("login", visit)
        self._visits.begin(visit, answer)
        return answer

    async def login(self, request: Request) -> Response:
        visit, form = await self._sent(request)
        account = self._account(visit.operator, form)
        if account is None:
            return page("login", visit, status=FORBIDDEN, problem="User name or password is not right.")
        visit.account = account
        if account.totp is None:
            return self._welcome(visit, None)
        return _see(visit, "code")

    async def ask_code(self, request: Request) -> Response:
        visit = self._visits.of(request)
        if visit is None or visit.account is None:
            return RedirectResponse(f"/{request.path_params['operator']}", SEE_OTHER)
        return page("code", visit)

    async def code(self, request: Request) -> Response:
        visit, form = await self._sent(request)
        if visit.account is None or visit.account.totp is None:
            raise HTTPException(FORBIDDEN)
        try:
            step = visit.account.use_code(form.get("code", ""), time.time())
        except CodeRefused as refusal:
            self._note(visit.account, None, str(refusal))
            return page("code", visit, status=FORBIDDEN, problem=str(refusal))
        return self._welcome(visit, step)

    async def ask_order(self, request: Request) -> Response:
        visit = self._visits.of(request)
        if visit is None or not visit.logged_in:
            return RedirectResponse(f"/{request.path_params['operator']}", SEE_OTHER)
        return page("order", visit)

    async def order(self, request: Request) -> Response:
        visit, form = await self._sent(request)
        circuit, action = form.get("circuit", "").strip(), form.get("action", "")
        if not visit.logged_in:
            raise HTTPException(FORBIDDEN)
        if not circuit or action not in ACTIONS:
            return page("order", visit, status=422, problem="Name a circuit and choose what to do.")
        if circuit.startswith("UNKNOWN"):
            return page("refusal", visit, circuit=circuit, action=action)
        number = f"{visit.operator[:3].upper()}-{next(self._orders)}"
        return page("confirmation", visit, circuit=circuit, action=action, number=number, facts=facts(circuit))

    async def _sent(self, request: Request) -> tuple[Visit, dict[str, str]]:
        """The visit, and the form that its own page sent. Raises HTTPException 403."""
        form = dict(parse_qsl((await request.body()).decode(errors="replace")))
        visit = self._visits.of(request)
        if visit is None or not is_own_form(visit, form):
            raise HTTPException(FORBIDDEN, "This form is too old, or comes from elsewhere. Log in again.")
        return visit, form

    def _account(self, operator: str, form: Mapping[str, str]) -> Account | None:
        username, password = form.get("username", ""), form.get("password", "")
        accounts = self._accounts[operator]
        return next((account for account in accounts if account.knows(username, password)), None)

    def _welcome(self, visit: Visit, step: int | None) -> Response:
        """A new cookie and form key for the visit that is logged in now."""
        assert visit.account is not None  # noqa: S101 - its password was right
        self._note(visit.account, step, None)
        inside = Visit(visit.operator, account=visit.account, logged_in=True)
        answer = _see(inside, "orders")
        self._visits.begin(inside, answer)
        return answer

    def _note(self, account: Account, step: int | None, refusal: str | None) -> None:
        entry = {"account": account.prefix, "step": step, "at": time.time()}
        self._audit.append({**entry, "accepted": refusal is None, "reason": refusal})


def _see(visit: Visit, place: str) -> Response:
    return RedirectResponse(f"/{visit.operator}/{place}", SEE_OTHER)


if __name__ == "__main__":
    serve(Portal(os.environ).app)
