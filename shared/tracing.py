"""W3C trace context, carried from the request that made a job to the report about it."""

from __future__ import annotations

import re
import secrets

# https://www.w3.org/TR/trace-context/#traceparent-header
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def continued(traceparent: str | None) -> str:
    """The caller's traceparent where it is valid, else a new one."""
    if traceparent and _TRACEPARENT.fullmatch(traceparent):
        return traceparent
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def trace_id(traceparent: str) -> str:
    """The 32 hex digits that all spans of a trace share."""
    return traceparent[3:35]
