"""Events as they arrive: what is one, what becomes of one that nobody can handle, and that none is an error of ours."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shared.events import PING, Doorbell, Type
from tests.functions.refusals import refusal, unchanged
from tests.functions.stage import SUBSCRIBERS, Stage

HANDLED = {
    "provision_browser": Type.JOB_SUBMITTED,
    "dispatch_job": Type.BROWSER_READY,
    "notify": Type.JOB_FINISHED,
}
TICKED = ["reap_idle", "monitor"]
STRUCTURED = {"Content-Type": "application/cloudevents+json"}


def attributes(kind: str, **more: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "e-1", "source": "/somebody", "type": kind, **more}


async def binary(stage: Stage, function: str, data: Any, content: bytes | None = None, **given: Any) -> httpx.Response:
    """Send an event whose attributes are headers."""
    headers = {f"ce-{name}": str(value) for name, value in given.items()}
    body = json.dumps(data).encode() if content is None else content
    return await stage.clients[function].post(
        "/", content=body, headers={"Content-Type": "application/json", **headers}
    )


async def structured(stage: Stage, function: str, **members: Any) -> httpx.Response:
    """Send an event that is all in its body."""
    return await stage.clients[function].post("/", content=json.dumps(members).encode(), headers=STRUCTURED)


async def dead_letters(stage: Stage) -> list[tuple[str, str, str, int]]:
    rows = await stage.rows("SELECT event_id, event_type, destination, times FROM dead_letters ORDER BY id")
    return [(row["event_id"], row["event_type"], row["destination"], row["times"]) for row in rows]


@pytest.mark.parametrize("function", [*HANDLED, *TICKED])
async def test_an_event_without_an_id_is_refused(stage: Stage, function: str) -> None:
    """Without an id repetitions could not be told apart: 422 in both modes, and nothing is done or kept."""
    kind = HANDLED.get(function, PING)
    job = await stage.submit()
    data = {"job_id": job["id"], "attempt": 1}
    async with unchanged(stage):
        for given in ({}, {"id": ""}, {"id": " "}):
            members = {name: value for name, value in attributes(kind).items() if name != "id"} | given
            refusal(await binary(stage, function, data, **members), 422, "ce-id")
            refusal(await structured(stage, function, **members, data=data), 422, "ce-id")
        for value in (None, 7, ["e"]):
            refusal(await structured(stage, function, **{**attributes(kind), "id": value}, data=data), 422, "ce-id")


async def test_both_modes_are_understood(stage: Stage) -> None:
    """An event in structured mode does what one in binary mode does, and its answer is empty."""
    job = await stage.submit()
    data = {"job_id": job["id"], "attempt": 1}
    answer = await structured(stage, "provision_browser", **attributes(Type.JOB_SUBMITTED), data=data)
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await stage.job(job["id"]))["status"] == "dispatching"
    answer = await binary(stage, "dispatch_job", data, **attributes(Type.BROWSER_READY))
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await stage.job(job["id"]))["status"] == "running"


@pytest.mark.parametrize("function", [*HANDLED, "reap_idle"])
async def test_an_event_of_unknown_type_is_kept(stage: Stage, function: str) -> None:
    """422, so that nobody delivers it again, and one dead letter however often it comes."""
    for _ in range(3):
        answer = await binary(stage, function, {"circuit": "C"}, **attributes("something.else"))
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (422, "poison")
        assert "something.else" in problem["detail"]
    assert await dead_letters(stage) == [("e-1", "something.else", function, 3)]
    (row,) = await stage.rows("SELECT event, reason FROM dead_letters")
    assert row["event"]["data"] == {"circuit": "C"}
    assert row["event"]["attributes"]["source"] == "/somebody"
    assert "is not handled here" in row["reason"]


async def test_monitor_keeps_no_events(stage: Stage) -> None:
    """No trigger leads to monitor: whatever comes there that is no tick is refused."""
    async with unchanged(stage):
        answer = await binary(stage, "monitor", {}, **attributes("something.else"))
    assert (answer.status_code, answer.json()["code"]) == (422, "poison")


@pytest.mark.parametrize(("kind", "function"), [(k, f) for k, fs in SUBSCRIBERS.items() for f in fs])
async def test_an_event_for_a_job_that_is_gone_is_kept(stage: Stage, kind: Type, function: str) -> None:
    """There is no such job: 422 and a dead letter."""
    bell = Doorbell(kind, 10**15, 1, "")
    answer = await stage.send(function, bell)
    assert (answer.status_code, answer.json()["code"]) == (422, "poison")
    assert await dead_letters(stage) == [(bell.id, kind, function, 1)]


@pytest.mark.parametrize("function", HANDLED)
@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "text",
        {},
        {"job_id": 1},
        {"attempt": 1},
        {"job_id": "1", "attempt": 1},
        {"job_id": 1.0, "attempt": 1},
        {"job_id": True, "attempt": 1},
        {"job_id": 0, "attempt": 1},
        {"job_id": 2**63, "attempt": 1},
        {"job_id": 1, "attempt": 0},
        {"job_id": 1, "attempt": 2**31},
    ],
    ids=str,
)
async def test_an_event_with_bad_data_is_kept(stage: Stage, function: str, data: Any) -> None:
    """Data that names no job and attempt: 422 and a dead letter."""
    answer = await binary(stage, function, data, **attributes(HANDLED[function]))
    assert (answer.status_code, answer.json()["code"]) == (422, "poison")
    assert answer.json()["detail"].startswith("data: ")
    assert len(await dead_letters(stage)) == 1


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 30_000, b'{"a":' * 900 + b"1" + b"}" * 900])
@pytest.mark.parametrize("function", [*HANDLED, "reap_idle"])
async def test_what_is_no_event_with_json_is_refused(stage: Stage, function: str, content: bytes) -> None:
    """Neither an error of ours nor done: 422 in both modes."""
    answers = [await binary(stage, function, None, content, **attributes("something.else"))]
    answers.append(await stage.clients[function].post("/", content=content, headers=STRUCTURED))
    assert {answer.status_code for answer in answers} == {422}


async def test_an_event_has_64_kib_at_most(stage: Stage) -> None:
    """A larger one is none of ours: 413."""
    async with unchanged(stage):
        answer = await binary(stage, "notify", "x" * 64 * 1024, **attributes(Type.JOB_FINISHED))
    refusal(answer, 413, "body")


async def test_a_late_event_changes_nothing(stage: Stage) -> None:
    """Events of an earlier attempt, or that come after the job went on, are done: 204."""
    order = await stage.until_running()
    for attempt in (1, 2):
        for kind, functions in SUBSCRIBERS.items():
            for function in functions:
                async with unchanged(stage):
                    answer = await stage.send(function, Doorbell(kind, order["job_id"], attempt, ""))
                assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("data", ["a\0b", {"\0": ["\0"]}, "\\u0000", 10**4000], ids=lambda data: ascii(data)[:20])
@pytest.mark.parametrize("function", ["notify", "reap_idle"])
async def test_data_that_jsonb_cannot_hold_is_kept_as_text(stage: Stage, function: str, data: Any) -> None:
    """NUL is JSON but not PostgreSQL's: a dead letter all the same."""
    assert (await structured(stage, function, **attributes("something.else"), data=data)).status_code == 422
    (row,) = await stage.rows("SELECT event -> 'data' AS data FROM dead_letters")
    assert row["data"] in (data, ascii(data))


async def test_long_attributes_are_kept_cut_off(stage: Stage) -> None:
    """A key of any length and script finds room in the index."""
    long = "".join(map(chr, range(0x4E00, 0x4E00 + 2000)))  # text that does not compress
    members = {
        "specversion": "1.0",
        "id": f"i{long}",
        "source": f"s{long}",
        "type": f"t{long}",
        "knativeerrordest": f"d{long}",
    }
    for _ in range(2):
        assert (await structured(stage, "reap_idle", **members)).status_code == 204
    (row,) = await stage.rows("SELECT * FROM dead_letters")
    assert row["times"] == 2
    assert members["id"].startswith(row["event_id"])
    assert row["event"]["attributes"]["id"] == members["id"]


@pytest.mark.parametrize("attribute", ["id", "source", "type", "extra", "knativeerrordest"])
@pytest.mark.parametrize("text", ["a\0", "a\n", "\ud800"], ids=ascii)
async def test_attributes_are_text(stage: Stage, attribute: str, text: str) -> None:
    """Control characters and halves of characters are none of an event's attributes: refused, nothing kept."""
    async with unchanged(stage):
        for function in ("notify", "reap_idle"):
            answer = await structured(stage, function, **{**attributes("something.else"), attribute: text})
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


@pytest.mark.parametrize("number", [float("nan"), float("-inf")])
async def test_data_that_is_no_json_is_refused(stage: Stage, number: float) -> None:
    """NaN and Infinity are no JSON, though Python reads them."""
    async with unchanged(stage):
        answer = await structured(stage, "reap_idle", **attributes("something.else"), data={"n": number})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


@pytest.mark.parametrize("traceparent", [5, None, [], {"a": 1}, "", "00-" + "0" * 32 + "-" + "b" * 16 + "-01"])
async def test_a_bad_traceparent_is_replaced(stage: Stage, traceparent: Any) -> None:
    """An event is done whatever its trace is."""
    job = await stage.submit()
    members = attributes(Type.JOB_SUBMITTED, traceparent=traceparent, data={"job_id": job["id"], "attempt": 1})
    assert (await structured(stage, "provision_browser", **members)).status_code == 204


header_text = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=20)
names = st.sampled_from(
    ["id", "source", "type", "specversion", "time", "subject", "data", "extensions", "traceparent", "knativeerrordest"]
)
values = st.sampled_from(["1.0", "0.3", *Type]) | header_text
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda v: st.lists(v, max_size=3),
    max_leaves=5,
)
EVENT = attributes(Type.JOB_FINISHED)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@example({"id": "1"}, b'{"specversion": "1.0"}', "")
@example({"id": "1"}, b"[" * 30_000, "application/json")
@given(
    st.dictionaries(names, values, max_size=6)
    | st.dictionaries(names, values, max_size=3).map(lambda d: {**EVENT, **d}),
    st.binary(max_size=20) | json_values.map(lambda v: json.dumps(v).encode()),
    st.sampled_from(
        ["application/json", "", "text/plain", "Application/CloudEvents+json", "application/cloudevents-batch+json"]
    ),
)
async def test_no_binary_event_is_an_error_of_ours(
    stage: Stage, headers: dict[str, str], body: bytes, kind: str
) -> None:
    """Any headers and any body: done, or refused for good."""
    given = {f"ce-{name}": value.encode("latin-1") for name, value in headers.items()}
    for function in ("notify", "reap_idle"):
        answer = await stage.clients[function].post("/", content=body, headers={**given, "Content-Type": kind})
        assert answer.status_code in (204, 422)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(names | st.just("data_base64"), json_values | values, max_size=5), st.booleans())
async def test_no_structured_event_is_an_error_of_ours(stage: Stage, members: dict[str, Any], whole: bool) -> None:
    """Any members of any type: done, or refused for good."""
    for function in ("notify", "reap_idle"):
        answer = await structured(stage, function, **{**(EVENT if whole else {}), **members})
        assert answer.status_code in (204, 422)
