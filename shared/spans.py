"""Spans of a job's way, sent by OpenTelemetry where OTEL_EXPORTER_OTLP_ENDPOINT is set; else it is not even imported.

All spans of a job are of one trace, that of the request which made it: rows, events and requests carry traceparents.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from shared import logs
from shared.config import BaseSettings
from shared.tracing import continued

if TYPE_CHECKING:
    from shared.telemetry import Telemetry

Kind = Literal["server", "client", "producer", "consumer", "internal"]
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_telemetry: Telemetry | None = None


class Span(Protocol):
    """A step that is under way."""

    @property
    def traceparent(self) -> str:
        """What the next step, here or elsewhere, carries on."""

    def note(self, **attributes: logs.Scalar) -> None:
        """Say something about it; nothing secret, and nothing of a job's parameters."""

    def fail(self, kind: str) -> None:
        """It did not go well; `kind` is one of few."""


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """A step of which nobody is told; the trace goes through it."""

    traceparent: str

    def note(self, **attributes: logs.Scalar) -> None:
        """Nobody hears it."""

    def fail(self, kind: str) -> None:
        """Nobody hears it."""


def configure(function: str, settings: BaseSettings) -> None:
    """Record from now on, if that is wished."""
    global _telemetry
    endpoint = settings.otel_exporter_otlp_endpoint
    if not endpoint or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    os.environ.setdefault(ENDPOINT, endpoint)  # a mounted file counts, too; OpenTelemetry reads the environment
    try:
        from shared.telemetry import Telemetry
    except ModuleNotFoundError as missing:
        logs.warning("no spans", reason=f"{ENDPOINT} is set, but {missing.name} is not installed")
        return
    _telemetry = Telemetry(function, settings.k_revision)


@contextmanager
def span(name: str, kind: Kind, traceparent: str | None, **attributes: logs.Scalar) -> Iterator[Span]:
    """A step below the one that is open, where that is of traceparent's trace; else below traceparent."""
    if _telemetry is None:
        yield Unrecorded(continued(traceparent))
    else:
        with _telemetry.span(name, kind, traceparent, attributes) as recorded:
            yield recorded


def note(**attributes: logs.Scalar) -> None:
    """Say something about the step that is open."""
    if _telemetry is not None:
        _telemetry.note(attributes)


def rename(name: str) -> None:
    """Call the step that is open otherwise, now that more is known."""
    if _telemetry is not None:
        _telemetry.rename(name)
