"""The span of an attempt, sent by OpenTelemetry where OTEL_EXPORTER_OTLP_ENDPOINT is set and the package is there."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from rpa_worker.order import Order

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
DEFAULTS = {"OTEL_BSP_SCHEDULE_DELAY": "1000", "OTEL_EXPORTER_OTLP_TIMEOUT": "2"}


class Spans:
    """Tells the collector of attempts; without one it does nothing, and OpenTelemetry is not even imported."""

    def __init__(self) -> None:
        off = not os.environ.get(ENDPOINT) or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
        self._provider = None if off else _provider()

    def begin(self, order: Order) -> tuple[Order, Span | None]:
        """The order, whose calls belong to the attempt's span from now on, and the span itself."""
        if self._provider is None:
            return order, None
        from opentelemetry.context import Context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        who: dict[str, str | int] = {"job_id": order.job_id, "attempt": order.attempt, "provider": order.provider}
        propagator, sent = TraceContextTextMapPropagator(), {"traceparent": order.traceparent or ""}
        span = self._provider.get_tracer("rpa_worker").start_span(
            f"{order.action} at {order.provider}", propagator.extract(sent, Context()), attributes=who
        )
        own = span.get_span_context()
        traceparent = f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}"
        return (replace(order, traceparent=traceparent) if own.is_valid else order), span

    def close(self) -> None:
        """Send what waits."""
        if self._provider is not None:
            self._provider.shutdown()


def end(span: Span | None, state: str | None) -> None:
    """The attempt is over; `state` is what was reported."""
    if span is not None:
        if state:
            span.set_attribute("state", state)
        span.end()


def _provider() -> TracerProvider | None:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as missing:
        logging.getLogger(__name__).warning("no spans: %s is set, but %s is not installed", ENDPOINT, missing.name)
        return None
    for name, value in {**DEFAULTS, "OTEL_SERVICE_NAME": "worker"}.items():
        os.environ.setdefault(name, value)
    provider = TracerProvider(resource=Resource.create({"service.namespace": "rpa"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
