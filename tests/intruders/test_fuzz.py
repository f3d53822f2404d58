"""Whatever is sent or configured: it is taken, or refused by name, and nothing else happens."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from cloudevents.conversion import to_binary
from cloudevents.http import CloudEvent
from hypothesis import example, given, settings
from hypothesis import strategies as st

from functions.callback.models import EVIDENCE_NAME
from local.delivery import read
from shared import cursors
from shared.config import (
    BrowserSettings,
    CodeSettings,
    ConfigError,
    DatabaseSettings,
    EventSettings,
    LeaseSettings,
    LockoutSettings,
    ProviderSettings,
    TokenSettings,
    WarmPoolSettings,
    load,
)
from shared.http import Problem
from shared.providers import Provider

fuzzed = settings(max_examples=300, deadline=None, derandomize=True)
quickly = settings(fuzzed, max_examples=150)


class Everything(
    DatabaseSettings, TokenSettings, EventSettings, LeaseSettings, LockoutSettings, CodeSettings, BrowserSettings,
    WarmPoolSettings,
):  # fmt: skip
    """Every group that needs no folder."""


# Cursors


@fuzzed
@given(st.integers(1, 2**63 - 1))
def test_a_cursor_says_its_number(number: int) -> None:
    """What one page gives, the next one takes."""
    assert cursors.decode(cursors.encode(number)) == number


@fuzzed
@example("Ynl0ZXM6MQ")  # another word than before
@given(
    st.text(min_size=1)
    | st.integers(-(2**70), 2**70).map(cursors.encode)
    | st.integers(1, 2**63).map(cursors.encode).flatmap(lambda c: st.sampled_from([c + "=", c[:-1], c[1:], c + " "]))
)
def test_a_cursor_that_is_taken_is_one_that_was_given(cursor: str) -> None:
    """There is one text for a number; any other is refused."""
    try:
        number = cursors.decode(cursor)
    except Problem as problem:
        found = problem.status, problem.errors[0]["field"]
        assert found == (422, "cursor")
    else:
        assert number is not None
        assert 0 < number < 2**63
        assert cursors.encode(number) == cursor


# Evidence


@fuzzed
@example("..")
@example("a\n")
@example("%2e%2e%2fa")
@given(st.text(st.sampled_from("aZ0._-/\\:\0\n%~ é٣"), max_size=12) | st.from_regex(EVIDENCE_NAME) | st.text())
def test_no_evidence_leaves_its_folder(name: str) -> None:
    """A name that is taken is one file's right in the folder, on any system, and needs no quoting."""
    folder = Path("/evidence/1")
    if EVIDENCE_NAME.fullmatch(name):
        assert (folder / name).parent == folder
        assert Path(name).name == name
        assert name.isascii()
        assert not set(name) & set("/\\:\0\n%~ ")
        assert not name.startswith((".", "-"))
        assert len(name) <= 100


# Configuration

GOOD_SETTINGS = {
    "DATABASE_URL": "postgresql://u:p@h/d",
    "JWT_SECRET_KEY": "k" * 32,
    "VALKEY_HOST": "h",
    "BROWSER_SERVICE_IMAGE": "i",
}
SETTINGS = sorted({name.upper() for name in Everything.model_fields} - {"ENVIRONMENT"})
VALUES = (
    st.sampled_from(
        ["0", "-1", "1e3", "nan", "inf", "1_0", "٣", "true", "no", "[]", "{}", "http://[", "http://h:99999999", "a:b:c",
         "postgresql://u:p%zz@h/d", "postgresql://h:x/d", "Europe/Nowhere", "../../etc/passwd", "mon-fri 8:00", "\0",
         "9" * 5000, "500Mi", "=", ",", ";;", "1=1=1"]
    )
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
)  # fmt: skip


@quickly
@given(st.dictionaries(st.sampled_from(SETTINGS), VALUES, max_size=8))
def test_configuration_is_taken_or_named(given_values: dict[str, str]) -> None:
    """Any value of any setting: every problem names one that was given, and without those the others are taken."""
    named = set()
    try:
        load(Everything, GOOD_SETTINGS | given_values)
    except ConfigError as error:
        named = {line.split(":")[0] for line in str(error).split("\n")}
        assert named <= given_values.keys()
    load(Everything, GOOD_SETTINGS | {name: value for name, value in given_values.items() if name not in named})


@quickly
@given(st.sampled_from(["DATABASE_URL", "JWT_SECRET_KEY"]), st.text(st.sampled_from("ab:/@?%[]=&9 "), max_size=20))
def test_no_problem_tells_a_secret(name: str, rest: str) -> None:
    """What is wrong with it is said without it."""
    with pytest.raises(ConfigError) as error:
        load(Everything, {name: f"hunter2{rest}"[:31]})
    assert "hunter2" not in str(error.value)


# Providers


def entry(text: str) -> Provider | None:
    """The provider that an entry's text makes; None where it is refused by its file's name."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "portal.yaml").write_text(text, newline="")
        try:
            return load(ProviderSettings, {"PROVIDERS_DIR": folder}).providers["portal"]
        except ConfigError as error:
            problem = str(error)
    assert "portal.yaml: " in problem
    return None


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"]))
members = st.dictionaries(
    st.sampled_from([*Provider.model_fields, "x", "<<"]) | st.text("ab1", max_size=2),
    st.recursive(plain, lambda v: st.lists(v, max_size=2) | st.dictionaries(st.text("abc"), v, max_size=2)),
    max_size=4,
)


@quickly
@example("[" * 5000)  # deeper than Python's stack
@example("actions: [a]\nsince: 2024-99-99")  # a date that is none
@example("actions: [a]\nmax_sessions: " + "9" * 5000)  # more digits than Python reads
@example("actions: [a]\nmax_sessions: !!int x")
@example("actions: &a [*a]")  # holds itself
@example("a: &a [x, x]\nb: &b [*a, *a]\nactions: [*b, *b]")
@example("{1: 2, actions: [a]}")
@example("? [a]\n: b")
@example("actions: [a]\n---\nactions: [b]")
@example("!!python/object/apply:os.system [exit]")
@given(
    st.text(st.sampled_from("actions: [a]{}&*!|>-?'\"\n\t#%@`0x9~e.,"), max_size=40)
    | st.builds(lambda found: "actions: [a]\n" + yaml.safe_dump(found), members)
    | st.builds(yaml.safe_dump, members)
)
def test_a_provider_entry_is_taken_or_named(text: str) -> None:
    """Any text in an entry's file: a provider with that name, or a problem that names the file."""
    provider = entry(text)
    assert provider is None or (provider.name == "portal" and provider.actions)


def test_a_good_entry_is_taken() -> None:
    """So that the test above does not only refuse."""
    provider = entry("actions: [validation]\nmax_sessions: 3")
    assert provider is not None
    assert provider.max_sessions == 3


# The local broker

HEADER = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=12)
GOOD = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t"}
json_text = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda v: st.lists(v, max_size=2) | st.dictionaries(st.text(max_size=5), v, max_size=2),
)


def _members() -> st.SearchStrategy[dict[str, Any]]:
    names = st.sampled_from(["specversion", "id", "source", "type", "data", "data_base64", "time", "subject", "Ä", ""])
    good = {"specversion": "1.0", "id": "1", "source": "s", "type": "t"}
    return st.dictionaries(names, json_text, max_size=4).map(lambda found: good | found)


@fuzzed
@example({"content-type": "application/cloudevents+json"}, b"[" * 30_000)
@example({"content-type": "application/cloudevents+json"}, b"5")
@example({"content-type": "application/cloudevents+json"}, b"\xff")
@example({"content-type": "application/cloudevents+json"}, b'{"specversion": "1.0", "id": 1, "source": [], "type": {}}')
@example({**GOOD, "content-type": "application/json"}, b"\xff")
@given(
    st.builds(
        lambda good, others, kind: {**(GOOD if good else {}), **others, "content-type": kind},
        st.booleans(),
        st.dictionaries(st.sampled_from([*GOOD, "ce-time", "ce-", "ce-data", "ce-é"]), HEADER, max_size=3),
        st.sampled_from(["application/json", "application/cloudevents+json", "application/cloudevents-batch+json", ""]),
    ),
    st.binary(max_size=20)
    | json_text.map(lambda value: json.dumps(value).encode())
    | _members().map(lambda value: json.dumps(value).encode()),
)
def test_the_brokers_parser_takes_or_refuses(headers: dict[str, str], body: bytes) -> None:
    """Any headers and any body: an event that can be sent on, or ValueError, which is answered 400."""
    try:
        event = read(headers, body)
    except ValueError:
        return
    assert isinstance(event, CloudEvent)
    to_binary(event, data_marshaller=lambda data: data if isinstance(data, bytes) else b"")
