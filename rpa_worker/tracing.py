"""Playwright's trace of an attempt, without secrets.

A trace holds what was typed, what pages showed and what was sent. Every known secret is taken out of all of it, and so
are the contents of password and code fields, keys that were pressed one by one, and the portal's session.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rpa_worker.errors import TraceNotKept
from rpa_worker.redaction import HIDDEN, Redactor
from rpa_worker.spellings import spellings

MEMBERS_LIMIT = 5000
MEMBER_LIMIT = 16 * 1024 * 1024
WHOLE_LIMIT = 64 * 1024 * 1024
EVENTS = re.compile(r"trace\.(trace|network|stacks)")
RESOURCE = re.compile(r"resources/[\w.-]{1,100}", re.ASCII)
SECRET_FIELD = re.compile(r"passw|code|otp", re.IGNORECASE)
SESSION_HEADERS = {"cookie", "set-cookie", "authorization", "proxy-authorization"}
BUTTONS = {"button", "checkbox", "image", "radio", "reset", "submit"}
VALUES = ("__playwright_value_", "value")
SHORTEST_VALUE = 4
"""What was typed into a password or code field is taken out of everything, unless it could be part of anything."""
SHORTEST_COOKIE = 16


def cleaned(path: Path, redactor: Redactor) -> bytes:
    """The trace without secrets, as a zip. Raises TraceNotKept."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = dict(_members(archive))
        cleaner = _Cleaner(redactor)
        for name, text in members.items():
            if EVENTS.fullmatch(name):
                cleaner.learn(text)
        kept = io.BytesIO()
        with zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in members.items():
                clean = cleaner.events(text) if EVENTS.fullmatch(name) else cleaner.text(text)
                if cleaner.finds_known(clean):
                    raise TraceNotKept(f"{name} cannot be rid of secrets")
                archive.writestr(name, clean.encode(errors="surrogateescape"))
    except (zipfile.BadZipFile, ValueError, RecursionError) as error:
        raise TraceNotKept(f"the trace cannot be read: {type(error).__name__}") from None
    return kept.getvalue()


def _members(archive: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    """What the viewer needs, as text that gives the same bytes again."""
    entries = archive.infolist()
    sizes = [entry.file_size for entry in entries]
    if len(sizes) > MEMBERS_LIMIT or sum(sizes) > WHOLE_LIMIT or max(sizes, default=0) > MEMBER_LIMIT:
        raise TraceNotKept(f"the trace is too large: {len(sizes)} files, {sum(sizes)} bytes")
    for entry in entries:
        if EVENTS.fullmatch(entry.filename) or RESOURCE.fullmatch(entry.filename):
            yield entry.filename, archive.read(entry).decode(errors="surrogateescape")


class _Cleaner:
    """Knows the secrets in all their spellings, those too that only the trace itself tells."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._secrets = set(redactor.secrets)
        self._known = self._spellings = spellings(self._secrets)
        self._keys: set[str] = set()

    def learn(self, text: str) -> None:
        """Remember what stood in password and code fields, and in cookies."""
        for line in _lines(text):
            self._scrub(json.loads(line))
        self._spellings = spellings(self._secrets)

    def events(self, text: str) -> str:
        """Lines of JSON without secrets."""
        lines = (self._event(json.loads(line)) for line in _lines(text))
        return "".join(f"{json.dumps(line)}\n" for line in lines if line)

    def text(self, text: str) -> str:
        """Any text without secrets; the longest go first, since one may contain another."""
        for spelling in self._spellings:
            text = text.replace(spelling, HIDDEN)
        return text

    def finds_known(self, text: str) -> bool:
        """Whether a secret of the attempt is left."""
        return any(spelling in text for spelling in self._known)

    def _event(self, event: dict[str, Any]) -> Any:
        call, kind, params = event.get("callId", ""), event.get("type"), event.get("params")
        if kind == "before" and isinstance(params, dict):
            for name in ("key", "text"):
                if isinstance(params.get(name), str) and len(params[name]) == 1:
                    self._keys.add(call)
                    params[name] = HIDDEN
        if kind == "log" and call in self._keys:
            return None
        event = self._scrub(event)
        text = "\n".join(_texts(event))
        return self._clean(event) if any(spelling in text for spelling in self._spellings) else event

    def _scrub(self, value: Any) -> Any:
        """Without what stands in password and code fields and in cookies; it is remembered."""
        if isinstance(value, list):
            if len(value) > 1 and value[0] in ("INPUT", "TEXTAREA") and isinstance(value[1], dict):
                value = [value[0], self._field(value[1]), *value[2:]]
            return [self._scrub(item) for item in value]
        if not isinstance(value, dict):
            return value
        members = {name: self._scrub(item) for name, item in value.items()}
        if isinstance(cookies := members.get("cookies"), list):
            members["cookies"] = [self._hide(cookie, ["value"], SHORTEST_COOKIE) for cookie in cookies]
        name = members.get("name")
        if str(name).lower() in SESSION_HEADERS:
            members = {**members, "value": HIDDEN}
        if SECRET_FIELD.search(str(name)) or SECRET_FIELD.search(str(members.get("selector"))):
            members = self._hide(members, ["value", "text"], SHORTEST_VALUE)
        return members

    def _field(self, attributes: dict[str, Any]) -> dict[str, Any]:
        said = {name: str(attributes.get(name, "")).lower() for name in ("type", "autocomplete", "name", "id")}
        if said["type"] in BUTTONS:
            return attributes
        known = any(self._redactor.hints_at(str(attributes.get(name, ""))) for name in VALUES)
        secret = said["type"] == "password" or "one-time" in said["autocomplete"] or attributes.get("maxlength") == "1"
        if known or secret or SECRET_FIELD.search(" ".join(said.values())):
            attributes = self._hide(attributes, VALUES, SHORTEST_VALUE)
        return attributes

    def _hide(self, members: Any, names: Sequence[str], shortest: int) -> Any:
        """Without these members; those of some length are secrets from now on."""
        if not isinstance(members, dict):
            return members
        values = {name: members[name] for name in names if isinstance(members.get(name), str) and members[name]}
        self._secrets.update(value for value in values.values() if len(value) >= shortest and value != HIDDEN)
        return {**members, **dict.fromkeys(values, HIDDEN)}

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self._clean(item) for item in value]
        if isinstance(value, dict):
            return {self.text(name): self._clean(item) for name, item in value.items()}
        number = json.dumps(value)
        # A time may read like a code.
        return 0 if number in self._secrets or self.finds_known(number) else value


def _lines(text: str) -> list[str]:
    """Other ends of lines than this one may be part of JSON."""
    return [line for line in text.split("\n") if line]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from _texts(item)
    else:
        yield json.dumps(value)
