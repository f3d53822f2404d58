"""How a secret may be written in what a browser sends and shows."""

from __future__ import annotations

import base64
import contextlib
import html
import json
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

URL_SAFE = ("", "/", "-_.!~*'()", "-_.!~*'();/?:@&=+$,#", "*-._")
"""What strict encoders, those of paths, encodeURIComponent, encodeURI and forms leave as it is."""
SHORTEST_IN_BASE64 = 6
"""Shorter ones are part of many a picture."""


def spellings(secrets: Iterable[str]) -> list[str]:
    """Each secret as it is, in JSON, JSON in JSON, URLs, forms, HTML, base64, and in a wrong charset; longest first."""
    found = {spelling for secret in secrets for spelling in _spellings(secret)}
    return sorted(found, key=lambda spelling: (-len(spelling), spelling))


def _spellings(secret: str) -> Iterator[str]:
    yield secret
    for once in (_in_json(secret, ascii_only=True), _in_json(secret, ascii_only=False)):
        yield once
        yield _in_json(once, ascii_only=True)
        yield _in_json(once, ascii_only=False)
    for safe in URL_SAFE:
        for encoded in (quote(secret, safe), quote_plus(secret, safe)):
            yield encoded
            yield _lower_escapes(encoded)
            yield quote(encoded, "")
    for escaped in (html.escape(secret, quote=False), html.escape(secret)):
        yield escaped
        yield escaped.replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
    octets = secret.encode()
    if len(octets) >= SHORTEST_IN_BASE64:
        yield from _in_base64(octets)
    with contextlib.suppress(UnicodeError):
        yield octets.decode("cp1252")
    with contextlib.suppress(UnicodeError):
        yield secret.encode("cp1252").decode(errors="surrogateescape")


def _in_json(text: str, *, ascii_only: bool) -> str:
    return json.dumps(text, ensure_ascii=ascii_only)[1:-1]


def _lower_escapes(encoded: str) -> str:
    first, *rest = encoded.split("%")
    return "%".join([first, *(part[:2].lower() + part[2:] for part in rest)])


def _in_base64(octets: bytes) -> Iterator[str]:
    """The characters that depend on nothing else, wherever in the encoded text the secret begins."""
    for before in range(3):
        first, last = -(-before * 8 // 6), (before + len(octets)) * 8 // 6
        encoded = base64.b64encode(bytes(before) + octets).decode()[first:last]
        yield encoded
        yield encoded.replace("+", "-").replace("/", "_")
