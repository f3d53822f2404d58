"""Playwright's trace viewer, which shows what a worker's browser was sent: nothing in a trace may act as who looks.

The viewer is Playwright's own, unchanged but for GUARD. Its service worker makes pages of what is in the trace; their
origin is the dashboard's, so they run no script, and whatever else it makes of a trace has no origin at all.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import mimetypes
import re
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlencode

from starlette.responses import Response

IN_THE_IMAGE = Path(__file__).parents[3] / "trace-viewer"
IN_THE_PACKAGE = Path("driver", "package", "lib", "vite", "traceViewer")
BASE = "/ui/trace-viewer/"
INDEX, WORKER = "index.html", "sw.bundle.js"
HOST = re.compile(r"[A-Za-z0-9.\[\]:_-]{1,260}")
INLINE = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
GUARD = b"""// Before Playwright's service worker: a policy for all that it answers.
{
  const HEADER = "Content-Security-Policy";
  const guarded = answer => {
    if (answer.type !== "default") return answer; // the server's own, which has its policy
    const page = answer.headers.has(HEADER); // one that lets only the viewer's own script run
    answer.headers.append(HEADER, page ? "connect-src 'none'; form-action 'none'" : "sandbox; default-src 'none'");
    answer.headers.set("X-Content-Type-Options", "nosniff");
    return answer;
  };
  const respondWith = FetchEvent.prototype.respondWith;
  FetchEvent.prototype.respondWith = function (answer) {
    return respondWith.call(this, Promise.resolve(answer).then(guarded));
  };
}
"""


@functools.cache
def files() -> dict[str, bytes]:
    """The viewer's files by name; none where it is not installed."""
    folder = _folder()
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()} if folder else {}
    content = {name: path.read_bytes() for name, path in found.items()}
    if WORKER in content:
        content[WORKER] = GUARD + content[WORKER]
    return content


def _folder() -> Path | None:
    """Where an image has it, or a machine on which Playwright is installed."""
    if IN_THE_IMAGE.is_dir():
        return IN_THE_IMAGE
    package = find_spec("playwright")
    folders = [Path(place) / IN_THE_PACKAGE for place in package.submodule_search_locations or ()] if package else []
    return next((folder for folder in folders if folder.is_dir()), None)


def link(trace: str) -> str | None:
    """Where the trace at this path is shown; None where no viewer is installed."""
    return f"{BASE}?{urlencode({'trace': trace})}" if files() else None


def file(name: str, host: str) -> Response | None:
    """One of them, for a browser that knows us by this host; None where there is none."""
    name = name or INDEX
    content = files().get(name)
    if content is None or not HOST.fullmatch(host):
        return None
    lasting = not name.endswith((".html", WORKER))
    headers = {
        "Content-Security-Policy": _policy(name, content, host),
        "Cache-Control": "public, max-age=3600" if lasting else "no-cache",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
    }
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response(content, media_type=kind, headers=headers)


def _policy(name: str, content: bytes, host: str) -> str:
    # Not 'self': evidence is a neighbour, and might be a script.
    own = host + BASE
    inline = [base64.b64encode(hashlib.sha256(text).digest()).decode() for text in INLINE.findall(content)]
    trusted = " ".join([own, *(f"'sha256-{digest}'" for digest in inline)])
    reached = f"{own} {host}/ui/jobs/" if name == WORKER else own
    return (
        f"default-src 'none'; script-src {trusted}; worker-src {own}; connect-src {reached}; frame-src {own};"
        f" style-src {own} 'unsafe-inline'; img-src {own} data: blob:; font-src {own} data:; manifest-src {own};"
        " form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    )
