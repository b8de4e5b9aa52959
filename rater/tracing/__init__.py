"""Traces, optional: what every part of rater says of its work, and nothing at all while tracing is off.

The parts know `Tracing` and `Span` only. OpenTelemetry is imported where `observe.tracing` is set, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Final, Literal, Protocol, TypeAlias

from rater.model.codec import Headers as _Headers
from rater.tracing.errors import TracingError
from rater.tracing.header import TRACEPARENT, sampled_header
from rater.tracing.settings import TracingSettings

__all__ = [
    "MAX_LINKS",
    "OFF",
    "TRACEPARENT",
    "Kind",
    "Span",
    "Tracing",
    "TracingError",
    "TracingSettings",
    "Value",
    "open_tracing",
    "sampled_header",
]

Kind: TypeAlias = Literal["internal", "client", "server", "producer", "consumer"]
Value: TypeAlias = str | int | float | bool
MAX_LINKS = 128
"""Of one span, as OpenTelemetry's SDK keeps them."""


class Span(Protocol):
    """Some work, while it is done. Of a span that is not recorded nothing is kept, whatever is said of it."""

    @property
    def traceparent(self) -> str:
        """Its name for others; empty if it is not recorded."""

    def note(self, **attributes: Value) -> None:
        """Says more of it; `__` in a name stands for a dot. Never what was used, its labels or prices."""

    def event(self, name: str, seconds: float) -> None:
        """Something happened within it, at this time since the epoch."""

    def fail(self, reason: str) -> None:
        """It came to nothing. `reason` is a word or two of ours."""


class Tracing(Protocol):
    """Where spans go."""

    @property
    def is_on(self) -> bool:
        """Whether spans may be recorded; who would have to work for one asks first."""

    def span(
        self,
        name: str,
        kind: Kind = "internal",
        *,
        parent: str | None = None,
        links: Sequence[str] = (),
        began: float | None = None,
        **attributes: Value,
    ) -> AbstractContextManager[Span]:
        """A span around a block. What is raised in it marks it as failed, by the name of the exception alone.

        `parent` is a traceparent; None: the span around this one, if any; empty: none. A span without a parent is
        recorded if one of its `links` (traceparents) is, or without links by chance. `began`: seconds since the epoch,
        if that was before now. Of the names of `attributes` `__` stands for a dot.
        """

    def headers(self) -> _Headers:
        """The record header that names the span around this call; none if it is not recorded."""


class _NoSpan:
    """Of all work that nobody traces."""

    traceparent: Final = ""

    def note(self, **attributes: Value) -> None:
        pass

    def event(self, name: str, seconds: float) -> None:
        pass

    def fail(self, reason: str) -> None:
        pass

    def __enter__(self) -> _NoSpan:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


_NO_SPAN: Final = _NoSpan()


class _Off:
    """The tracing of those who want none."""

    is_on: Final = False

    def span(
        self,
        name: str,
        kind: Kind = "internal",
        *,
        parent: str | None = None,
        links: Sequence[str] = (),
        began: float | None = None,
        **attributes: Value,
    ) -> _NoSpan:
        return _NO_SPAN

    def headers(self) -> _Headers:
        return ()


OFF: Final[Tracing] = _Off()


@contextmanager
def open_tracing(settings: TracingSettings | None, role: str, instance: str = "") -> Iterator[Tracing]:
    """Tracing of a process while the block runs; OFF without settings. `role` becomes `service.name`: `rater-worker`.

    At the end what waits is sent, for two seconds at most. Raises TracingError.
    """
    if settings is None:
        yield OFF
        return
    try:
        from rater.tracing.otel import opened
    except ImportError as fault:
        raise TracingError(
            f"observe.tracing is set and OpenTelemetry is not installed ({fault.name}): pip install 'rater[otel]', or "
            "take the section away"
        ) from fault
    with opened(settings, f"rater-{role}", instance) as tracing:
        yield tracing
