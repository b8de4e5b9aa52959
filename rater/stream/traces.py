"""Spans of one partition: records that are applied, frames that close, the checkpoint that makes them public.

A frame is made of many collections, so its span is a child of none of them and has a link to each that was traced.
What was traced is known in memory only, and a worker that takes over knows nothing of it. The span of a frame stands
in its records, which are in the snapshot with it: what is published again has the same bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

import msgspec

from rater.engine import OutboxItem, Record
from rater.model.codec import JSON, MSGPACK, content_type
from rater.tracing import MAX_LINKS, TRACEPARENT, Tracing, sampled_header

__all__ = ["Traces"]

MAX_KNOWN = 5_000  # traced records of a partition: 2 MB
MAX_SCOPE = 255  # characters, as the model takes them: a key that is longer was refused
At = Callable[[str, int], None]
_Known: TypeAlias = tuple[int, int, str]
"""Begin and end of a record's range, and its traceparent."""
Clock = Callable[[], float]


class _Range(msgspec.Struct):
    """Of a record of `usage`, what says which frames it is for."""

    begin: int = 0
    end: int = 0


class _Frame(msgspec.Struct):
    """Of a record of `rated`. Posted lines have no period."""

    period_begin: int = -1
    period_end: int = -1
    revision: int = 0
    parts: int = 0
    status: str = ""
    rule_version: int = 0


class _Alert(msgspec.Struct):
    """Of a record of `alerts`."""

    period_begin: int = -1


_ranges = {JSON: msgspec.json.Decoder(_Range).decode, MSGPACK: msgspec.msgpack.Decoder(_Range).decode}
_frame, _alert = msgspec.json.Decoder(_Frame).decode, msgspec.json.Decoder(_Alert).decode


class Traces:
    """What one keeper traces, under one membership."""

    def __init__(self, tracing: Tracing, partition: int, topic: str, clock: Clock) -> None:
        """`topic` is the name of `usage` at the broker; `clock` gives seconds since the epoch."""
        self._tracing = tracing
        self._partition = partition
        self._topic = topic
        self._clock = clock
        self._known: dict[str, dict[_Known, None]] = {}
        """What was applied, by scope, oldest first."""
        self._order: OrderedDict[tuple[str, _Known], None] = OrderedDict()
        """The same, of all scopes."""
        self._closed: list[str] = []
        """Frames that the next checkpoint makes public."""
        self._points: list[tuple[str, float]] = []

    def applied(self, record: Record, scope_id: str, apply: Callable[[], bool]) -> bool:
        """What `apply` gives or raises; with a span if the record belongs to a trace that is recorded."""
        traceparent = sampled_header(record.headers)
        if not traceparent:
            return apply()
        with self._tracing.span(
            "apply usage",
            "consumer",
            parent=traceparent,
            rater__scope_id=scope_id,
            messaging__system="kafka",
            messaging__operation__type="process",
            messaging__destination__name=self._topic,
            messaging__destination__partition__id=str(self._partition),
            messaging__kafka__offset=record.offset,
        ) as span:
            taken = apply()
            span.note(rater__taken=taken)
        if taken:
            self._remember(scope_id, record, traceparent)
        return taken

    def _remember(self, scope_id: str, record: Record, traceparent: str) -> None:
        decode = _ranges.get(content_type(record.headers))
        try:
            found = decode(record.value) if decode is not None else _Range()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return  # it went to `rejected`, or has no range
        if found.begin < found.end and len(scope_id) <= MAX_SCOPE:
            known = (found.begin, found.end, traceparent)
            self._known.setdefault(scope_id, {})[known] = None
            self._order[scope_id, known] = None
            if len(self._order) > MAX_KNOWN:
                self._forget_oldest()

    def _forget_oldest(self) -> None:
        (scope_id, known), _ = self._order.popitem(last=False)
        del self._known[scope_id][known]
        if not self._known[scope_id]:
            del self._known[scope_id]

    def decided(self, outbox: list[OutboxItem], first: int, scope_id: str, began: float) -> None:
        """A scope was decided between `began` and now, and from `first` on the outbox has what came of it.

        Frames of traced collections get spans, and their records and alerts the header that names them. To be called
        before the outbox is part of a snapshot.
        """
        known = self._known.get(scope_id)
        if known is None:
            return
        spans: dict[int, str] = {}
        for place in range(first, len(outbox)):
            item = outbox[place]
            if item.topic == "rated":
                header = self._frame_span(_frame(item.value), spans, known, scope_id, began)
            else:
                header = spans.get(_alert(item.value).period_begin, "") if item.topic == "alerts" else ""
            if header:
                named = (*item.headers, (TRACEPARENT, header.encode()))
                outbox[place] = msgspec.structs.replace(item, headers=named)

    def _frame_span(
        self, frame: _Frame, spans: dict[int, str], known: Iterable[_Known], scope_id: str, began: float
    ) -> str:
        """The traceparent of the frame's span, which its first part makes; empty without traced collections."""
        begin = frame.period_begin
        if begin not in spans:
            links = list(
                dict.fromkeys(head for since, until, head in known if since < frame.period_end and begin < until)
            )
            spans[begin] = self._made(frame, links, scope_id, began) if links else ""
            self._closed += filter(None, [spans[begin]])
        return spans[begin]

    def _made(self, frame: _Frame, links: Sequence[str], scope_id: str, began: float) -> str:
        with self._tracing.span(
            "close frame",
            parent="",
            links=links,
            began=began,
            rater__scope_id=scope_id,
            rater__period_begin=datetime.fromtimestamp(frame.period_begin, UTC).isoformat(),
            rater__revision=frame.revision,
            rater__status=frame.status,
            rater__rule_version=frame.rule_version,
            rater__records=frame.parts,
            rater__linked_collections=len(links),
            messaging__destination__partition__id=str(self._partition),
        ) as span:
            return span.traceparent

    def telling(self, at: At) -> At:
        """The same `at`, and a span of each checkpoint that makes traced frames public."""

        def told(point: str, partition: int) -> None:
            at(point, partition)
            if self._closed:
                self._reached(point)

        return told

    def _reached(self, point: str) -> None:
        if point == "cut":  # of one that failed before nobody was told
            self._points = []
        self._points.append((point, self._clock()))
        if point != "published":
            return
        with self._tracing.span(
            "checkpoint",
            parent="",
            links=self._closed[:MAX_LINKS],
            began=self._points[0][1],
            rater__linked_frames=len(self._closed),
            messaging__destination__partition__id=str(self._partition),
        ) as span:
            for name, seconds in self._points:
                span.event(name, seconds)
        self._closed, self._points = [], []
