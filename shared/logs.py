"""Logs: one JSON line per event, with job, attempt, function and trace id from the context."""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

Scalar = str | int | float | bool | None
_context: ContextVar[dict[str, Scalar]] = ContextVar("log_context", default={})  # noqa: B039 (replaced, never changed)
_log = logging.getLogger("rpa")


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON."""

    def __init__(self, function: str) -> None:
        super().__init__()
        self.function = function

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Scalar] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "function": self.function,
            "event": record.getMessage(),
            **_context.get(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(function: str, level: str) -> None:
    """Send everything to stderr as JSON lines, the server's and the libraries' records too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(function))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    _log.setLevel(level)


def bind(**fields: Scalar) -> None:
    """Add fields to every line that the current task writes from now on."""
    _context.set({**_context.get(), **fields})


def info(event: str, **fields: Scalar) -> None:
    """Something happened as it should."""
    _log.info(event, extra={"fields": fields})


def warning(event: str, **fields: Scalar) -> None:
    """Something happened that an operator may want to know."""
    _log.warning(event, extra={"fields": fields})


def error(event: str, *, exc_info: bool = False, **fields: Scalar) -> None:
    """Something is broken."""
    _log.error(event, extra={"fields": fields}, exc_info=exc_info)
