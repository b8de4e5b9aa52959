"""Rated frames, alerts and collections as rows of the tables: checked, in the types that cost least on the wire.

Times go as integers; quantities and prices as plain text that the engine reads into Decimal(76, 38): a fifth of what
Decimal objects cost. What the columns could not keep exactly raises UnstorableError, before anything is inserted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import lru_cache
from time import gmtime
from typing import Any, NamedTuple, TypeAlias

from rater.model.codec import MAX_MAGNITUDE, encode_json
from rater.model.labels import Labels, canonical_series, label_text
from rater.model.rated import Alert, AlertKind, Line, MetricTotal, RatedFrame
from rater.model.usage import Collection, Series
from rater.store.client import Column
from rater.store.errors import UnstorableError

__all__ = [
    "FRAMES",
    "GAPS",
    "LINES",
    "REWORKS",
    "USAGE",
    "LineColumns",
    "Row",
    "Table",
    "amount_text",
    "frame_row",
    "gap_row",
    "month_of",
    "rework_row",
    "text_labels",
    "usage_rows",
]

Row: TypeAlias = tuple[Any, ...]

SCALE = 38
SUM_LIMIT = Decimal("1e37")  # a total may exceed what a line may; Decimal(76, 38) ends at 1e38
LAST_INSTANT = 2**32 - 1  # of a DateTime: in 2106
LAST_COUNT = 2**32 - 1  # of a UInt32
_NAME = "LowCardinality(String)"
_LABELS = f"Map({_NAME}, {_NAME})"
_OUTCOMES = {
    AlertKind.REWORK_DONE: "done",
    AlertKind.REWORK_REFUSED: "refused",
    AlertKind.REWORK_ABANDONED: "abandoned",
}
_RANKS = {AlertKind.REWORK_REFUSED: 1, AlertKind.REWORK_ABANDONED: 2, AlertKind.REWORK_DONE: 3}
"""Of two alerts of one rework of a frame, the one that counts: 0007_reworks.sql."""


class Table(NamedTuple):
    """A table and the columns that are written, with their types on the wire."""

    name: str
    wire_types: tuple[tuple[str, str], ...]

    def block(self, values: Iterable[Sequence[Any]]) -> list[Column]:
        """A block of these columns, in the order of `wire_types`."""
        return [
            Column(name, wire_type, column) for (name, wire_type), column in zip(self.wire_types, values, strict=True)
        ]


LINES = Table(
    "lines",
    (
        ("scope_id", _NAME),
        ("period_begin", "UInt32"),
        ("revision", "UInt32"),
        ("rule_version", "UInt32"),
        ("metric", _NAME),
        ("line_id", "FixedString(16)"),
        ("qty", "String"),
        ("price", "String"),
        ("unit", _NAME),
        ("groupby", _LABELS),
        ("metadata", _LABELS),
    ),
)
FRAMES = Table(
    "frames",
    (
        ("scope_id", _NAME),
        ("period_begin", "UInt32"),
        ("period_end", "UInt32"),
        ("revision", "UInt32"),
        ("status", _NAME),
        ("closed_by", _NAME),
        ("weak", "Bool"),
        ("rule_version", "UInt32"),
        ("closed_at", "UInt32"),
        ("expected_until", "UInt32"),
        ("line_count", "UInt32"),
        ("gap_count", "UInt32"),
        ("quarantined_count", "UInt32"),
        ("totals.metric", f"Array({_NAME})"),
        ("totals.unit", f"Array({_NAME})"),
        ("totals.qty", "Array(String)"),
        ("totals.price", "Array(String)"),
        ("totals.n", "Array(UInt32)"),
        ("coverage", "String"),
        ("gaps", "String"),
        ("quarantined", "String"),
        ("failure", "String"),
        ("digest", "String"),
        ("rework_id", "String"),
    ),
)
GAPS = Table(
    "gaps",
    (
        ("scope_id", _NAME),
        ("period_begin", "UInt32"),
        ("metric", _NAME),
        ("source", _NAME),
        ("gap_begin", "UInt32"),
        ("gap_end", "UInt32"),
        ("gap_id", "FixedString(16)"),
        ("opened", "String"),
        ("resolved", "String"),
    ),
)
REWORKS = Table(
    "reworks",
    (
        ("scope_id", _NAME),
        ("period_begin", "UInt32"),
        ("rework_id", "String"),
        ("kind", _NAME),
        ("author", _NAME),
        ("requested", "String"),
        ("outcome", _NAME),
        ("base_revision", "UInt32"),
        ("revision", "UInt32"),
        ("rule_version_before", "UInt32"),
        ("rule_version_after", "UInt32"),
        *(
            (f"{when}.{name}", kind)
            for when in ("before", "after")
            for name, kind in (
                ("metric", f"Array({_NAME})"),
                ("unit", f"Array({_NAME})"),
                ("qty", "Array(String)"),
                ("price", "Array(String)"),
                ("n", "Array(UInt32)"),
            )
        ),
        ("raised_at", "UInt32"),
        ("reason", "String"),
        ("rank", "UInt8"),
    ),
)
USAGE = Table(
    "usage",
    (
        ("scope_id", _NAME),
        ("metric", _NAME),
        ("source", _NAME),
        ("range_begin", "UInt32"),
        ("range_end", "UInt32"),
        ("attempt", "UInt64"),
        ("collection_id", "String"),
        ("part", "UInt32"),
        ("parts", "UInt32"),
        ("n", "UInt32"),
        ("producer_id", _NAME),
        ("sequence", "UInt64"),
        ("unit", _NAME),
        ("proof", _NAME),
        ("covers", "String"),
        ("note", "String"),
        ("quarantined", "String"),
        ("series", "String"),
        ("sample_begin", "Array(UInt32)"),
        ("sample_end", "Array(UInt32)"),
        ("qty", "Array(String)"),
    ),
)


class LineColumns:
    """Rows of LINES, kept as columns.

    Nothing in them is looked at by the garbage collector: kept as row tuples they cost 3 us a line in full collections.
    """

    def __init__(self) -> None:
        self._values: list[list[Any]] = [[] for _ in LINES.wire_types]

    def __len__(self) -> int:
        return len(self._values[0])

    def add(self, frame: RatedFrame, lines: Sequence[Line]) -> None:
        """Takes these lines of the frame: all, or none and raises UnstorableError."""
        count = len(lines)
        added: tuple[list[Any], ...] = (
            [frame.scope_id] * count,
            [_instant(frame.period_begin)] * count,
            [_count(frame.revision)] * count,
            [_count(frame.rule_version)] * count,
            [line.metric for line in lines],
            [bytes.fromhex(line.line_id) for line in lines],
            [amount_text(line.qty) for line in lines],
            [amount_text(line.price) for line in lines],
            [line.unit for line in lines],
            [text_labels(line.groupby) for line in lines],
            [text_labels(line.metadata) for line in lines],
        )
        for column, values in zip(self._values, added, strict=True):
            column += values

    def block(self) -> list[Column]:
        """All rows."""
        return LINES.block(self._values)


def frame_row(frame: RatedFrame, line_count: int) -> Row:
    """The row of FRAMES for a revision that has `line_count` rows in `lines`. Raises UnstorableError."""
    return (
        frame.scope_id,
        _instant(frame.period_begin),
        _instant(frame.period_end),
        _count(frame.revision),
        frame.status.value,
        frame.closed_by.value,
        frame.weak,
        _count(frame.rule_version),
        _instant(frame.closed_at),
        LAST_INSTANT if frame.expected_until is None else min(frame.expected_until, LAST_INSTANT),
        line_count,
        len(frame.gaps),
        len(frame.quarantined),
        *_totals(frame.totals),
        encode_json(frame.coverage),
        encode_json(frame.gaps),
        encode_json(frame.quarantined),
        frame.failure,
        frame.digest,
        frame.rework_id,
    )


def _totals(totals: Sequence[MetricTotal]) -> Row:
    """The five columns of a Nested of totals."""
    return (
        tuple([total.metric for total in totals]),
        tuple([total.unit for total in totals]),
        tuple([amount_text(total.qty, SUM_LIMIT) for total in totals]),
        tuple([amount_text(total.price, SUM_LIMIT) for total in totals]),
        tuple([_count(total.n) for total in totals]),
    )


def rework_row(alert: Alert) -> Row | None:
    """The row of REWORKS for an alert that says what became of a rework; None for every other alert.

    Raises UnstorableError.
    """
    said = alert.rework
    if said is None or alert.kind not in _RANKS:
        return None
    outcome = _OUTCOMES[alert.kind]
    if outcome == "done" and said.revision == said.base_revision:
        outcome = "unchanged"
    return (
        alert.scope_id,
        _instant(alert.period_begin),
        said.rework_id,
        said.kind,
        said.author,
        said.requested,
        outcome,
        _count(said.base_revision),
        _count(said.revision),
        _count(said.rule_version_before),
        _count(said.rule_version_after),
        *_totals(said.before),
        *_totals(said.after),
        _instant(alert.raised_at),
        alert.reason,
        _RANKS[alert.kind],
    )


def gap_row(alert: Alert) -> Row | None:
    """The row of GAPS for an alert that a gap opened or was resolved; None for every other alert."""
    if alert.kind not in (AlertKind.GAP_OPENED, AlertKind.GAP_RESOLVED):
        return None
    said = f"{_count(alert.revision):010}{_instant(alert.raised_at):010}{alert.reason}"
    opened = alert.kind is AlertKind.GAP_OPENED
    return (
        alert.scope_id,
        _instant(alert.period_begin),
        alert.metric,
        alert.source,
        _instant(alert.begin),
        _instant(alert.end),
        bytes.fromhex(alert.alert_id),
        said if opened else "",
        "" if opened else said,
    )


def usage_rows(part: Collection) -> list[Row]:
    """The rows of USAGE for one part of a collection, one per series, at least one. Raises UnstorableError."""
    begins: list[list[int]] = [[] for _ in part.series]
    ends: list[list[int]] = [[] for _ in part.series]
    quantities: list[list[str]] = [[] for _ in part.series]
    for sample in part.samples:
        number = sample.series
        begins[number].append(sample.begin)
        ends[number].append(sample.end)
        quantities[number].append(str(sample.qty))
    _instant(part.begin)
    _instant(max((sample.end for sample in part.samples), default=part.end))
    head = (part.scope_id, part.metric, part.source, part.begin, _instant(part.end), part.attempt, part.collection_id)
    origin = (part.producer_id, part.sequence, part.unit, part.proof)
    said = (encode_json(part.covers), part.note, encode_json(part.quarantined))
    rows = []
    for number, series in enumerate(part.series or [None]):
        samples = (
            (tuple(begins[number]), tuple(ends[number]), tuple(quantities[number])) if part.series else ((), (), ())
        )
        once = (b"", "", b"") if number else said
        rows.append((*head, part.part, part.parts, number, *origin, *once, _series_text(series), *samples))
    return rows


def _series_text(series: Series | None) -> bytes:
    return canonical_series(series.groupby, series.metadata) if series else b""


@lru_cache(maxsize=4096)
def month_of(instant: int) -> int:
    """The partition of a row, as ClickHouse's toYYYYMM. Raises UnstorableError beyond the range of DateTime."""
    begin = gmtime(_instant(instant))
    return begin.tm_year * 100 + begin.tm_mon


def amount_text(amount: Decimal, limit: Decimal = MAX_MAGNITUDE) -> str:
    """The number as text. Raises UnstorableError where Decimal(76, 38) would cut digits off or overflow."""
    if not amount.is_finite() or not -limit <= amount <= limit:  # abs() would round to 28 digits first
        raise UnstorableError(f"the number {amount:.6E} cannot be stored: its magnitude may be at most {limit:E}")
    text = str(amount)
    if len(text) > SCALE or "E" in text:  # what is shorter and has no exponent has no 39 decimals
        _check_scale(amount)
    return text


def _check_scale(amount: Decimal) -> None:
    _, digits, exponent = amount.as_tuple()
    assert isinstance(exponent, int), "only finite numbers come here"
    superfluous = -exponent - SCALE
    if superfluous > 0 and any(digits[-superfluous:]):
        raise UnstorableError(f"the number {amount:.6E} has more than {SCALE} decimals: it must be rounded before")


def _instant(instant: int) -> int:
    if not 0 <= instant <= LAST_INSTANT:
        raise UnstorableError(f"the instant {instant} cannot be stored: only those from 1970 to 2106 can")
    return instant


def _count(number: int) -> int:
    if not 0 <= number <= LAST_COUNT:
        raise UnstorableError(f"the number {number} cannot be stored: only those from 0 to {LAST_COUNT} can")
    return number


def text_labels(labels: Labels) -> dict[str, str]:
    """The labels as text, as rules match them."""
    return {name: value if type(value) is str else label_text(value) for name, value in labels.items()}
