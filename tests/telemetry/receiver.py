"""An OTLP receiver, and the spans that it was sent as a tree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


@dataclass(frozen=True)
class Span:
    """One span as it was sent."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    begun: int
    ended: int
    failed: bool
    attributes: dict[str, Any]


class Receiver:
    """Takes spans at /v1/traces, as collectors do."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.away = False
        self.refused = 0

    def app(self) -> Starlette:
        """Its one route."""

        async def take(request: Request) -> Response:
            if self.away:
                self.refused += 1
                return Response(status_code=503)
            self.spans += _spans(ExportTraceServiceRequest.FromString(await request.body()))
            return Response(media_type="application/x-protobuf")

        return Starlette(routes=[Route("/v1/traces", take, methods=["POST"])])

    def of(self, trace_id: str) -> list[Span]:
        """Those of one trace, in the order of their begin."""
        return sorted((span for span in self.spans if span.trace_id == trace_id), key=lambda span: span.begun)


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in request.resource_spans:
        service = _attributes(resource.resource.attributes)["service.name"]
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            assert not span.events, "an exception's message may hold anything"
            yield Span(
                service,
                span.name,
                span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                span.start_time_unix_nano,
                span.end_time_unix_nano,
                span.status.code == span.status.STATUS_CODE_ERROR,
                _attributes(span.attributes),
            )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def tree(spans: list[Span], root: str) -> Iterator[tuple[int, Span]]:
    """Each span below `root` with its depth, parents before their children."""
    for span in spans:
        if span.parent_id == root:
            yield 0, span
            for depth, below in tree(spans, span.span_id):
                yield depth + 1, below
