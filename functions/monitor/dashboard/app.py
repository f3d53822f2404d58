"""The dashboard: pages for people, rendered here. It is imported with the first page that somebody asks for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from functions.monitor.dashboard import render, session, viewer, views
from functions.monitor.dashboard.session import Session, SignedOut
from functions.monitor.dashboard.submit import SubmitJob
from functions.monitor.dashboard.views import Wish
from functions.monitor.operators import Operators
from shared import logs
from shared.auth import Gate
from shared.db import UNAVAILABLE, Database
from shared.evidence import DATA, download, find
from shared.http import Handler, Problem, Unavailable, route
from shared.jobs import State
from shared.operation import Answer, Operation
from shared.pictures import Pictures
from shared.providers import Provider
from shared.tokens import Scope

LETTERS_SHOWN = 50
PAGE = Operation(summary="A page for people", answers={200: Answer(media="text/html")})
NOTICES = {
    "cancelled": "The job is cancelled.",
    "retried": "This job is the retry.",
    "priority": "The priority is changed.",
    "paused": "Paused: nothing new starts there.",
    "resumed": "Resumed: what waits starts now.",
    "replayed": "Replayed.",
    "none-replayed": "There was nothing to replay.",
    "more": "100 letters are replayed; there are more.",
}


class Dashboard:
    """Pages and what their buttons do."""

    def __init__(
        self,
        gate: Gate,
        database: Database,
        operators: Operators,
        pictures: Pictures,
        submit: SubmitJob,
        providers: dict[str, Provider],
    ) -> None:
        self._gate = gate
        self._database = database
        self._operators = operators
        self._pictures = pictures
        self._submit = submit
        self._providers = providers

    def app(self) -> Starlette:
        """As an application of its own below /ui/."""
        routes = [
            self._route("GET", "/ui/", self.overview),
            self._route("GET", "/ui/jobs", self.jobs),
            self._route("GET", "/ui/jobs/{id}", self.job),
            self._route("GET", "/ui/jobs/{id}/picture/{attempt}", self.picture),
            self._route("GET", "/ui/jobs/{id}/evidence/{attempt}/{name}", self.evidence),
            self._route("POST", "/ui/jobs/{id}/{deed}", self.change_job),
            self._route("GET", "/ui/providers", self.providers),
            self._route("GET", "/ui/dead-letters", self.dead_letters),
            self._route("POST", "/ui/dead-letters/replay", self.replay_all),
            self._route("GET", "/ui/dead-letters/{id}", self.dead_letter),
            self._route("POST", "/ui/dead-letters/{id}/replay", self.replay),
            self._route("GET", "/ui/sign-in", self.sign_in),
            self._route("POST", "/ui/sign-in", self.signed_in),
            self._route("POST", "/ui/sign-out", self.sign_out),
            self._route("GET", "/ui/static/{name}", self.static),
            self._route("GET", viewer.BASE + "{name:path}", self.trace_viewer),
            self._route("POST", "/ui/{kind}/{name}/{deed}", self.pause_or_resume),  # last, for it fits many
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: _no_page})

    def _route(self, method: str, path: str, handler: Handler) -> Route:
        @functools.wraps(handler)
        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except SignedOut:
                query = f"?{request.url.query}" if request.url.query else ""
                back = request.url.path + query if request.method == "GET" else session.HOME
                return _to(f"/ui/sign-in?{urlencode({'next': back})}")
            except Problem as problem:
                logs.info("refused", status=problem.status, detail=problem.detail)
                return _problem(problem)
            except UNAVAILABLE as error:
                logs.warning("database unavailable", reason=type(error).__name__)
                return _problem(Unavailable("the database"))

        return route(method, path, answer, PAGE)

    async def _show(self, request: Request, template: str, here: Session, **values: Any) -> Response:
        notice = NOTICES.get(request.query_params.get("notice", ""))
        return render.page(template, session=here, section=template, notice=notice, **values)

    # Pages

    async def overview(self, request: Request) -> Response:
        """Everything at a glance."""
        here = await session.of(request, self._gate, Scope.MONITOR_READ)
        return await self._show(request, "overview", here, **await views.overview(self._database, self._operators))

    async def jobs(self, request: Request) -> Response:
        """Jobs, narrowed and in pages."""
        here = await session.of(request, self._gate, Scope.JOBS_READ)
        wish = _wish(request.query_params.get)
        found = await views.jobs(self._database, wish)
        names = sorted(self._providers)
        return await self._show(request, "jobs", here, wish=wish, states=list(State), names=names, **found)

    async def job(self, request: Request) -> Response:
        """One job."""
        here = await session.of(request, self._gate, Scope.JOBS_READ)
        found = await views.job(self._database, _number(request), now=datetime.now(UTC))
        provider = self._providers.get(found["job"]["provider"])
        return await self._show(
            request, "job", here, browser=provider is None or provider.browser, viewer=viewer.link, **found
        )

    async def picture(self, request: Request) -> Response:
        """What an attempt's browser shows; that somebody looks is told to its worker."""
        await session.of(request, self._gate, Scope.JOBS_READ)
        job_id, attempt = _number(request), _number(request, "attempt")
        if not await views.runs(self._database, job_id, attempt):
            raise Problem(404, f"attempt {attempt} of job {job_id} does not run")
        picture = await self._pictures.look(job_id, attempt)
        if picture is None:
            return Response(status_code=204, headers=render.HEADERS)
        return Response(picture, media_type="image/jpeg", headers={**DATA, "Cache-Control": "no-store"})

    async def evidence(self, request: Request) -> Response:
        """A file that a worker left."""
        await session.of(request, self._gate, Scope.JOBS_READ)
        name, attempt = request.path_params["name"], _number(request, "attempt")
        response = download(self._database, await find(self._database, _number(request), name, attempt))
        response.headers["Cache-Control"] = "private, max-age=3600"
        return response

    async def providers(self, request: Request) -> Response:
        """Providers and accounts."""
        here = await session.of(request, self._gate, Scope.MONITOR_READ)
        states, accounts = await self._operators.providers(), await views.codes(self._operators)
        return await self._show(request, "providers", here, providers=states, accounts=accounts)

    async def dead_letters(self, request: Request) -> Response:
        """Letters, newest first."""
        here = await session.of(request, self._gate, Scope.MONITOR_READ)
        page = await self._operators.dead_letters(LETTERS_SHOWN, request.query_params.get("cursor"))
        return await self._show(request, "dead-letters", here, page=page)

    async def dead_letter(self, request: Request) -> Response:
        """One letter with its event."""
        here = await session.of(request, self._gate, Scope.MONITOR_READ)
        return await self._show(
            request, "dead-letter", here, letter=await self._operators.dead_letter(_number(request))
        )

    async def static(self, request: Request) -> Response:
        """A file of ours; pages name its version."""
        name = request.path_params["name"]
        if name not in render.STATIC:
            raise Problem(404, "there is no such file")
        headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
        return Response(render.STATIC[name], media_type=render.KINDS[PurePath(name).suffix], headers=headers)

    async def trace_viewer(self, request: Request) -> Response:
        """A file of Playwright's trace viewer."""
        found = viewer.file(request.path_params["name"], request.headers.get("host", ""))
        if found is None:
            raise Problem(404, "there is no such file")
        return found

    # Deeds

    async def change_job(self, request: Request) -> Response:
        """Cancel, retry, or another priority."""
        here = await session.of(request, self._gate, Scope.JOBS_READ)
        fields, job_id = await session.own_form(request, here), _number(request)
        match request.path_params["deed"]:
            case "cancel":
                await self._submit.cancel(job_id, here.token)
                notice = "cancelled"
            case "retry":
                job_id = await self._submit.retry(job_id, here.token)
                notice = "retried"
            case "priority":
                await self._submit.reprioritise(job_id, _count(fields.get("priority", "")), here.token)
                notice = "priority"
            case _:
                raise Problem(404, "there is no such page")
        return _to(f"/ui/jobs/{job_id}?notice={notice}")

    async def pause_or_resume(self, request: Request) -> Response:
        """A provider or an account."""
        here = await session.of(request, self._gate, Scope.OPERATE)
        fields, name, by = await session.own_form(request, here), request.path_params["name"], here.subject
        reason = fields.get("reason", "").replace("\0", "").strip()[:500]
        if request.path_params["deed"] == "pause" and not reason:
            raise Problem(422, "reason: say why, for those who find it paused", code="invalid")
        match request.path_params["kind"], request.path_params["deed"]:
            case "providers", "pause":
                await self._operators.pause_provider(name, reason, by)
            case "providers", "resume":
                await self._operators.resume_provider(name, by)
            case "accounts", "pause":
                await self._operators.pause_account(name, reason, by)
            case "accounts", "resume":
                await self._operators.resume_account(name, by)
            case _:
                raise Problem(404, "there is no such page")
        return _to(f"/ui/providers?notice={request.path_params['deed']}d")

    async def replay(self, request: Request) -> Response:
        """One letter."""
        here = await session.of(request, self._gate, Scope.OPERATE)
        await session.own_form(request, here)
        await self._operators.replay(_number(request), here.subject)
        return _to("/ui/dead-letters?notice=replayed")

    async def replay_all(self, request: Request) -> Response:
        """As many as one call does."""
        here = await session.of(request, self._gate, Scope.OPERATE)
        await session.own_form(request, here)
        done = await self._operators.replay_all(here.subject)
        notice = "more" if done.more else "replayed" if done.replayed else "none-replayed"
        return _to(f"/ui/dead-letters?notice={notice}")

    # Coming and going

    async def sign_in(self, request: Request) -> Response:
        """The form."""
        return render.page("sign-in", back=session.local_path(request.query_params.get("next", "")), problem=None)

    async def signed_in(self, request: Request) -> Response:
        """Name and password for a session."""
        fields = await session.form(request)
        back = session.local_path(fields.get("next", ""))
        try:
            token, seconds = await self._submit.token(fields.get("username", ""), fields.get("password", ""))
        except Problem as problem:
            return render.page("sign-in", problem.status, back=back, problem=problem.detail)
        response = _to(back)
        session.begin(request, response, token, seconds)
        return response

    async def sign_out(self, request: Request) -> Response:
        """The end of a session in this browser."""
        await session.form(request)
        response = _to("/ui/sign-in")
        session.end(request, response)
        return response


def _to(path: str) -> Response:
    return RedirectResponse(path, 303, render.HEADERS)


def _problem(problem: Problem) -> Response:
    response = render.page("problem", problem.status, problem=problem)
    response.headers.update(problem.headers)
    return response


async def _no_page(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    return _problem(Problem(status, "there is no such page"))


def _wish(query: Callable[[str, str], str]) -> Wish:
    status, provider, search = (query(name, "").replace("\0", "").strip()[:200] for name in ("status", "provider", "q"))
    if status not in ("", *State):
        raise Problem(422, f"status: unknown; one of {', '.join(State)}", code="invalid")
    before, after = (query(name, "") for name in ("before", "after"))
    return Wish(status, provider, search, _count(before) if before else None, _count(after) if after else None)


def _number(request: Request, name: str = "id") -> int:
    text = request.path_params[name]
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise Problem(404, "there is no such page")
    return int(text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise Problem(422, "not a number; go back and choose one", code="invalid")
    return int(text)
