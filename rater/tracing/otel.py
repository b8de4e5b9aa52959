"""Traces by OpenTelemetry's SDK, sent as OTLP over HTTP. The only module that imports it.

Nothing of it is global: no provider is registered, nothing is instrumented. Spans wait in a queue of bounded length
and are sent by a thread of its own; what finds no room is dropped.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState
from opentelemetry.util.types import Attributes

from rater.log_fields import about
from rater.model.codec import Headers
from rater.tracing import MAX_LINKS, Kind, Span, Value
from rater.tracing.errors import TracingError
from rater.tracing.header import TRACEPARENT, read_place, written
from rater.tracing.settings import TracingSettings

__all__ = ["Follower", "OtelTracing", "opened", "read_headers"]

log = logging.getLogger(__name__)

QUEUE_SPANS = 4096  # about 10 MB with their attributes and links; a minute of a busy worker at one in a hundred
BATCH_SPANS = 512
SEND_SECONDS = 2.0  # how long a span waits for others
EXPORT_SECONDS = 10.0
END_SECONDS = 2.0  # of the grace that a supervisor gives, most is for the last checkpoint
MAX_HEADERS_BYTES = 64 * 1024
NANO = 1_000_000_000
_KINDS: Mapping[Kind, SpanKind] = {
    "internal": SpanKind.INTERNAL,
    "client": SpanKind.CLIENT,
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}


class Follower(Sampler):
    """Who follows somebody decides as they did; chance decides only where something begins."""

    def __init__(self, ratio: float) -> None:
        self._by_chance = TraceIdRatioBased(ratio)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """By the parent, else by the links, else by chance."""
        parent = trace.get_current_span(parent_context).get_span_context()
        if parent.is_valid:
            is_wanted = parent.trace_flags.sampled
        elif links:
            is_wanted = any(link.context.trace_flags.sampled for link in links)
        else:
            return self._by_chance.should_sample(parent_context, trace_id, name, kind, attributes, links)
        return SamplingResult(Decision.RECORD_AND_SAMPLE if is_wanted else Decision.DROP, attributes)

    def get_description(self) -> str:
        """For people."""
        return f"follows parents and links, else {self._by_chance.get_description()}"


class _Recorded:
    """Follows the protocol `Span`."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = written(context.trace_id, context.span_id) if span.is_recording() else ""

    def note(self, **attributes: Value) -> None:
        self._span.set_attributes(_dotted(attributes))

    def event(self, name: str, seconds: float) -> None:
        self._span.add_event(name, timestamp=int(seconds * NANO))

    def fail(self, reason: str) -> None:
        self._span.set_status(Status(StatusCode.ERROR, reason))


class OtelTracing:
    """Follows the protocol `Tracing`."""

    is_on = True

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("rater", importlib.metadata.version("rater"))

    @contextmanager
    def span(
        self,
        name: str,
        kind: Kind = "internal",
        *,
        parent: str | None = None,
        links: Sequence[str] = (),
        began: float | None = None,
        **attributes: Value,
    ) -> Iterator[Span]:
        """As the protocol says."""
        span = self._tracer.start_span(
            name,
            context=None if parent is None else _context_of(parent),
            kind=_KINDS[kind],
            attributes=_dotted(attributes),
            links=[Link(place) for text in links[:MAX_LINKS] if (place := _remote(text)) is not None],
            start_time=None if began is None else int(began * NANO),
            record_exception=False,  # its text may hold what nobody may see
            set_status_on_exception=False,
        )
        recorded = _Recorded(span)
        token = contexts.attach(trace.set_span_in_context(span))
        try:
            if recorded.traceparent:
                _, trace_id, span_id, _ = recorded.traceparent.split("-")
                with about(trace_id=trace_id, span_id=span_id):
                    yield recorded
            else:
                yield recorded
        except BaseException as fault:
            span.set_attribute("error.type", type(fault).__name__)
            span.set_status(Status(StatusCode.ERROR, type(fault).__name__))
            raise
        finally:
            contexts.detach(token)
            span.end()

    def headers(self) -> Headers:
        """As the protocol says."""
        span = trace.get_current_span()
        if not span.is_recording():
            return ()
        context = span.get_span_context()
        return ((TRACEPARENT, written(context.trace_id, context.span_id).encode()),)


def _dotted(attributes: Mapping[str, Value]) -> dict[str, Value]:
    return {name.replace("__", "."): value for name, value in attributes.items()}


def _remote(traceparent: str) -> SpanContext | None:
    place = read_place(traceparent)
    if place is None:
        return None
    flags = TraceFlags(TraceFlags.SAMPLED if place.is_sampled else TraceFlags.DEFAULT)
    return SpanContext(place.trace_id, place.span_id, is_remote=True, trace_flags=flags)


def _context_of(parent: str) -> Context:
    """A context in which nothing is but that span, if it is one."""
    place = _remote(parent)
    return Context() if place is None else trace.set_span_in_context(NonRecordingSpan(place), Context())


def read_headers(path: str) -> dict[str, str]:
    """The headers of a file, one a line, `name: value`. Raises TracingError, which repeats nothing of it."""
    if not path:
        return {}
    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_HEADERS_BYTES + 1).decode("ascii")
    except OSError as fault:
        raise TracingError(f"observe.tracing.headers_file {path!r} cannot be read: {fault.strerror}") from fault
    except UnicodeDecodeError as fault:
        raise TracingError(f"observe.tracing.headers_file {path!r} holds more than ASCII") from fault
    if len(text) > MAX_HEADERS_BYTES:
        raise TracingError(f"observe.tracing.headers_file {path!r} has more than {MAX_HEADERS_BYTES} bytes")
    headers: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        name, separator, value = line.partition(":")
        if not separator or not name.strip() or not value.strip():
            raise TracingError(f"{path}:{number} of observe.tracing.headers_file is no header: write `name: value`")
        headers[name.strip().lower()] = value.strip()
    return headers


@contextmanager
def opened(settings: TracingSettings, service: str, instance: str = "") -> Iterator[OtelTracing]:
    """Tracing while the block runs; at the end what waits is sent, for END_SECONDS at most. Raises TracingError."""
    if settings.ca_file and not Path(settings.ca_file).is_file():
        raise TracingError(f"observe.tracing.ca_file {settings.ca_file!r} is no file")
    exporter = OTLPSpanExporter(
        endpoint=settings.endpoint,
        certificate_file=settings.ca_file or None,
        headers=read_headers(settings.headers_file),
        timeout=EXPORT_SECONDS,
        compression=Compression.Gzip,
    )
    resource = Resource.create(
        {
            "service.name": service,
            "service.version": importlib.metadata.version("rater"),
            "service.instance.id": instance or f"{socket.gethostname()}-{os.getpid()}",
        }
    )
    limits = SpanLimits(max_span_attributes=32, max_events=32, max_links=MAX_LINKS, max_attribute_length=256)
    provider = TracerProvider(
        sampler=Follower(settings.sample_ratio), resource=resource, span_limits=limits, shutdown_on_exit=False
    )
    provider.add_span_processor(
        BatchSpanProcessor(
            exporter,
            max_queue_size=QUEUE_SPANS,
            schedule_delay_millis=SEND_SECONDS * 1000,
            max_export_batch_size=BATCH_SPANS,
        )
    )
    log.info("%g of what begins here is traced to %s", settings.sample_ratio, settings.endpoint)
    try:
        yield OtelTracing(provider)
    finally:
        # of itself it waits for 30 s while the receiver is away (open-telemetry/opentelemetry-python#4638)
        ending = threading.Thread(target=provider.shutdown, name="tracing-end", daemon=True)
        ending.start()
        ending.join(END_SECONDS)
