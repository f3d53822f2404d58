"""Templates, and how times and amounts are written. Everything is escaped."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

HERE = Path(__file__).parent
# Of htmx's package nothing is imported, and the image holds nothing else of it.
HTMX = files("django_htmx") / "static/django_htmx/htmx-4.min.js"
STATIC = {path.name: path.read_bytes() for path in (HERE / "static").iterdir()} | {"htmx.js": HTMX.read_bytes()}
KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
VERSION = hashlib.sha256(b"\0".join(STATIC[name] for name in sorted(STATIC))).hexdigest()[:12]
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Not no-referrer: then browsers would not say where a form comes from.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def length(seconds: float | None) -> str:
    """A length of time, in its two largest units."""
    if seconds is None:
        return "–"
    if abs(seconds) < 10:
        return f"{seconds:.1f} s"
    sign, rest = "−" if seconds < 0 else "", abs(round(seconds))
    units = [("d", rest // 86400), ("h", rest // 3600 % 24), ("m", rest // 60 % 60), ("s", rest % 60)]
    first = next(n for n, (_, amount) in enumerate(units) if amount)
    return sign + " ".join(f"{amount} {unit}" for unit, amount in units[first : first + 2] if amount)


def moment(time: datetime | None) -> str | Markup:
    """A time of day, in UTC."""
    if time is None:
        return "–"
    utc = time.astimezone(UTC)
    return Markup('<time datetime="{}">{:%Y-%m-%d %H:%M:%S}</time>').format(utc.isoformat(), utc)


def amount(number: int) -> str:
    """A number in groups of three digits."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def pretty(value: Any) -> str:
    """JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def size(octets: int) -> str:
    """Bytes, rounded."""
    return f"{octets} B" if octets < 1024 else f"{octets / 1024:,.0f} KiB"


ENVIRONMENT = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters |= {"amount": amount, "length": length, "moment": moment, "pretty": pretty, "size": size}
ENVIRONMENT.globals["version"] = VERSION


def page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page, with the headers that all have."""
    text = ENVIRONMENT.get_template(f"{template}.html").render(now=datetime.now(UTC), **values)
    return HTMLResponse(text, status, HEADERS)
