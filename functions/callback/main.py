"""callback: what workers report. Heartbeats, pictures, evidence, completion."""

from __future__ import annotations

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.callback import reports
from functions.callback.models import Completion, Ended, EvidenceName, Heartbeat, Kept, Lease, Watched
from shared import auth, logs, spans
from shared.config import DatabaseSettings, EventSettings, LeaseSettings, LockoutSettings, TokenSettings, load
from shared.db import Database
from shared.http import Problem, Unavailable, application, invalid, parse, read, route
from shared.http_client import HttpClient
from shared.lockout import Lockout
from shared.operation import WORKER, Answer, Body, Operation
from shared.outbox import Publisher
from shared.pictures import Pictures
from shared.places import Places
from shared.tokens import Attempt, Keyring
from shared.valkey_client import Valkey

EVIDENCE_LIMIT = 10 * 1024 * 1024
PICTURE_LIMIT = 512 * 1024
JPEG, JPEG_BEGINS = "image/jpeg", b"\xff\xd8\xff"
UPLOADS_AT_ONCE = 4
"""Each is held some three times over while it is stored, and a pod has 384 MiB for all."""
UPLOAD_WAIT_SECONDS = 10.0
TOTP_REJECTED = "totp_rejected"
"""The failure code by which a worker says that the portal refused its login code."""


class Settings(DatabaseSettings, TokenSettings, EventSettings, LeaseSettings, LockoutSettings):
    """What this function needs."""


SETTINGS = load(Settings)
logs.configure("callback", SETTINGS.log_level)
spans.configure("callback", SETTINGS)
DATABASE = Database(SETTINGS)
KEYRING = Keyring(SETTINGS)
HTTP = HttpClient()
PUBLISHER = Publisher(SETTINGS, DATABASE, HTTP)
VALKEY = Valkey(SETTINGS)
LOCKOUT = Lockout(SETTINGS, VALKEY)
PICTURES = Pictures(VALKEY)
UPLOADS = Places(UPLOADS_AT_ONCE, UPLOAD_WAIT_SECONDS)


async def heartbeat(request: Request) -> Response:
    """POST /callbacks/heartbeat"""
    token = auth.worker(request, KEYRING)
    beat = await parse(request, Heartbeat)
    auth.same_attempt(token, beat.job_id, beat.attempt)
    async with DATABASE.connection() as connection:
        until, seconds = await reports.heartbeat(connection, token, beat, SETTINGS)
    lease = {"lease_expires_at": until.isoformat(), "lease_seconds": round(seconds, 3)}
    return JSONResponse({"status": "running", **lease, "watched": await PICTURES.watched(token)})


async def show_picture(request: Request) -> Response:
    """PUT /callbacks/picture"""
    token = auth.worker(request, KEYRING)
    if request.headers.get("content-type") != JPEG:
        raise Problem(415, f"Content-Type: must be {JPEG}", code="media_type")
    async with UPLOADS.place():
        content = await read(request, PICTURE_LIMIT)
        if not content.startswith(JPEG_BEGINS):
            raise invalid("body", "not a JPEG; send the page's screenshot as one")
        async with DATABASE.connection() as connection:
            await reports.runs(connection, token)
        watched = await PICTURES.show(token, content)
    return JSONResponse({"status": "running", "watched": watched})


async def keep_evidence(request: Request) -> Response:
    """PUT /callbacks/evidence/{name}"""
    token = auth.worker(request, KEYRING)
    name, kind = request.path_params["name"], request.headers.get("content-type", "application/octet-stream")
    async with UPLOADS.place():
        content = await read(request, EVIDENCE_LIMIT)
        async with DATABASE.connection() as connection:
            digest = await reports.keep_evidence(connection, token, name, kind, content)
    return JSONResponse({"name": name, "size": len(content), "sha256": digest}, 201)


async def complete(request: Request) -> Response:
    """POST /callbacks/job-complete"""
    token = auth.worker(request, KEYRING)
    report = await parse(request, Completion)
    auth.same_attempt(token, report.job_id, report.attempt)
    if report.failure and report.failure.code == TOTP_REJECTED:
        await _count_rejection(token)
    async with DATABASE.connection() as connection:
        state, bell = await reports.complete(connection, token, report, SETTINGS)
    if bell:
        await PUBLISHER.publish([bell])
    spans.note(state=state.value)
    logs.info("reported", status=report.status, now=state.value)
    return JSONResponse({"status": state.value})


async def _count_rejection(token: Attempt) -> None:
    try:
        await LOCKOUT.rejected(token.provider, token.job_id, token.attempt)
    except Unavailable:
        logs.warning("rejection not counted", reason="Valkey does not answer")


HEARTBEAT = Operation(
    summary="The worker lives; extends the lease",
    who=WORKER,
    body=Body(Heartbeat),
    answers={200: Answer(Lease)},
    refuses=[409],
)
PICTURE = Operation(
    summary="What the page looks like now, for those who watch; nothing is kept of it",
    description="About one a second while the last answer, or that to a heartbeat, says watched. Mask what is secret.",
    who=WORKER,
    body=Body(media=JPEG, limit=PICTURE_LIMIT),
    answers={200: Answer(Watched)},
    refuses=[409],
)
EVIDENCE = Operation(
    summary="Keep a file of the attempt; the same name again replaces it",
    description=f"An attempt keeps {reports.FILES_PER_ATTEMPT} files and {reports.BYTES_PER_ATTEMPT} bytes at most.",
    who=WORKER,
    path={"name": EvidenceName},
    body=Body(media="*/*", limit=EVIDENCE_LIMIT),
    answers={201: Answer(Kept)},
    refuses=[409],
)
COMPLETE = Operation(
    summary="How the job ended; told twice it ends once",
    who=WORKER,
    body=Body(Completion),
    answers={200: Answer(Ended)},
    refuses=[409],
)
APPLICATION = application(
    [
        route("POST", "/callbacks/heartbeat", heartbeat, HEARTBEAT),
        route("PUT", "/callbacks/picture", show_picture, PICTURE),
        route("PUT", "/callbacks/evidence/{name}", keep_evidence, EVIDENCE),
        route("POST", "/callbacks/job-complete", complete, COMPLETE),
    ],
    DATABASE.ping,
    about=__doc__,
)


@functions_framework.aio.http
async def callback(_request: Request) -> Response:
    """The function's entry point."""
    return APPLICATION
