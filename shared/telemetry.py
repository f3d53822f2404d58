"""OpenTelemetry behind `shared.spans`, which alone imports this, and only where spans are wished.

Spans wait in memory a second at most, so that no answer waits for them; a pod that ends sends what it has. The SDK's
and the OTLP exporter's own variables (OTEL_*) hold.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.closing import End, at_the_end, closed, end_in_order
from shared.logs import Scalar

# What the SDK takes where nothing else is said: it would wait for 5 s, and ask a collector that is away for 10 s.
DEFAULTS = {"OTEL_BSP_SCHEDULE_DELAY": "1000", "OTEL_EXPORTER_OTLP_TIMEOUT": "2"}
KINDS = {kind.name.lower(): kind for kind in trace.SpanKind}
_PROPAGATOR = TraceContextTextMapPropagator()


@dataclass(frozen=True, slots=True)
class Recorded:
    """A step of which the collector is told."""

    span: trace.Span

    @property
    def traceparent(self) -> str:
        """What names it."""
        context = self.span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def note(self, **attributes: Scalar) -> None:
        """Say something about it."""
        self.span.set_attributes(_said(attributes))

    def fail(self, kind: str) -> None:
        """It did not go well."""
        self.span.set_status(trace.StatusCode.ERROR)
        self.span.set_attribute("error.type", kind)


class Telemetry:
    """Records spans and sends them."""

    def __init__(self, function: str, revision: str) -> None:
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        who = {"service.name": function, "service.namespace": "rpa", "service.version": revision or None}
        self._provider = TracerProvider(resource=Resource.create(_said(who)))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("rpa")
        self._end: End | None = None

    @contextmanager
    def span(self, name: str, kind: str, traceparent: str | None, said: Mapping[str, Scalar]) -> Iterator[Recorded]:
        """See `shared.spans.span`. What goes wrong in it is told by its kind alone: messages may hold anything."""
        if self._end is None:
            end_in_order()
            self._end = at_the_end(self._close)
        with self._tracer.start_as_current_span(
            name,
            _above(traceparent),
            KINDS[kind],
            _said(said),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            recorded = Recorded(span)
            try:
                yield recorded
            except BaseException as error:
                recorded.fail(type(error).__name__)
                raise

    def note(self, said: Mapping[str, Scalar]) -> None:
        """Say something about the step that is open."""
        trace.get_current_span().set_attributes(_said(said))

    def rename(self, name: str) -> None:
        """Call the step that is open otherwise."""
        trace.get_current_span().update_name(name)

    async def aclose(self) -> None:
        """Send what waits, and no more."""
        if self._end is not None:
            await closed(self._end)

    async def _close(self) -> None:
        await asyncio.to_thread(self._provider.shutdown)


def _above(traceparent: str | None) -> Context | None:
    """Where a span belongs; None is below the one that is open."""
    if traceparent is None:
        return None
    named = _PROPAGATOR.extract({"traceparent": traceparent}, Context())
    ours = trace.get_current_span().get_span_context().trace_id
    return None if ours and ours == trace.get_current_span(named).get_span_context().trace_id else named


def _said(attributes: Mapping[str, Scalar]) -> dict[str, str | int | float | bool]:
    return {name: value for name, value in attributes.items() if value is not None}
