"""Tracing whose spans a test can look at."""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rater.tracing.header import written
from rater.tracing.otel import Follower, OtelTracing


class Traced:
    """Tracing into a list."""

    def __init__(self, ratio: float) -> None:
        self._kept = InMemorySpanExporter()
        provider = TracerProvider(sampler=Follower(ratio), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._kept))
        self.tracing = OtelTracing(provider)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._kept.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]


def traceparent(span: ReadableSpan) -> str:
    return written(span.context.trace_id, span.context.span_id)


def links(span: ReadableSpan) -> list[str]:
    return [written(link.context.trace_id, link.context.span_id) for link in span.links]
