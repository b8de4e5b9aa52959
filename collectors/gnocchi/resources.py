"""Resources and their revisions as Gnocchi's index shows them: who lived when, and whose it was then.

Pure functions and values. Times are seconds since the epoch, UTC, with fractions as Gnocchi has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from math import ceil, floor
from typing import Any, NamedTuple

import msgspec

from collectors.evidence import FOREVER
from collectors.gnocchi.answer import instant
from rater.model.interval import Interval
from rater.model.labels import Labels, LabelValue

__all__ = ["Piece", "Resource", "Revision", "life_search", "not_long_ended", "resources_of", "whole_search"]

_DAY = 86400


class Revision(NamedTuple):
    """What a resource was for a time; `end` of the latest one is FOREVER."""

    begin: float
    end: float
    attributes: Mapping[str, Any]


class Piece(NamedTuple):
    """A stretch in which a resource had the same attributes, as far as anyone asks."""

    span: Interval
    attributes: Mapping[str, Any]

    def labels(self, names: Iterable[str]) -> Labels:
        """The attributes of those names as labels; None where it has no such attribute."""
        return {name: label_value(self.attributes.get(name)) for name in names}


class Resource(msgspec.Struct, frozen=True):
    """One resource, with all its revisions that lie in what was asked for."""

    resource_id: str
    started_at: float
    ended_at: float
    """FOREVER while nobody knows of an end."""
    revisions: tuple[Revision, ...]
    metrics: Mapping[str, str]
    """Ids by name."""

    def lives(self, span: Interval) -> bool:
        """Whether it lived at any time of the span."""
        return self.started_at < span.end and self.ended_at > span.begin

    def metric_ids(self, name: str) -> list[str]:
        """Of the metrics of that name, which may be a pattern, as Gnocchi takes it."""
        if name in self.metrics:
            return [self.metrics[name]]
        return [self.metrics[one] for one in sorted(self.metrics) if fnmatchcase(one, name)]

    def pieces(self, span: Interval) -> list[Piece]:
        """Its revisions within the span, as far as it lived; the first counts from when it started."""
        found = []
        for number, revision in enumerate(self.revisions):
            begin = self.started_at if number == 0 else max(revision.begin, self.started_at)
            piece = _within(begin, min(revision.end, self.ended_at), span)
            if piece is not None:
                found.append(Piece(piece, revision.attributes))
        return found

    def shares(self, span: Interval) -> list[Piece]:
        """Its revisions within the span as Gnocchi divides a granule by them: the first from its begin, the last to
        its end, whenever the resource itself began and ended."""
        known = [one for one in self.revisions if one.begin < span.end and one.end > span.begin]
        found = []
        for number, revision in enumerate(known):
            begin = span.begin if number == 0 else revision.begin
            piece = _within(begin, span.end if number == len(known) - 1 else revision.end, span)
            if piece is not None:
                found.append(Piece(piece, revision.attributes))
        return found


def resources_of(rows: Iterable[Mapping[str, Any]]) -> list[Resource]:
    """The resources that rows of a search with history show, ordered by id. Raises KeyError, TypeError, ValueError."""
    by_id: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_id.setdefault(row["id"], []).append(row)
    return [_resource(resource_id, by_id[resource_id]) for resource_id in sorted(by_id)]


def _resource(resource_id: str, rows: Sequence[Mapping[str, Any]]) -> Resource:
    known = sorted(rows, key=lambda row: (instant(row["revision_start"]), _end(row["revision_end"])))
    begins = [instant(row["revision_start"]) for row in known]
    ends = [
        min(_end(row["revision_end"]), following) for row, following in zip(known, [*begins[1:], FOREVER], strict=True)
    ]
    last = known[-1]  # a revision that ended while pages were read was shown twice: each lasts to the next one
    return Resource(
        resource_id,
        instant(last["started_at"]),
        _end(last["ended_at"]),
        tuple(map(Revision, begins, ends, known)),
        dict(last.get("metrics") or {}),
    )


def _end(text: str | None) -> float:
    return float(FOREVER) if text is None else instant(text)


def _within(begin: float, end: float, span: Interval) -> Interval | None:
    """Whole seconds, the last begun one included, within the span."""
    found = Interval(max(span.begin, floor(begin)), min(span.end, ceil(end)))
    return found if found.begin < found.end else None


def label_value(value: Any) -> LabelValue:
    """An attribute as a label: as Gnocchi shows it; what is no single value as text."""
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def life_search(span: Interval) -> dict[str, Any]:
    """A search with history for all that lived within the span, as far as is known by now.

    A revision that is told after the begin of the span is found whatever it says: it may be the one that says when the
    resource ended. Without it the revision before would seem to last.
    """
    begin, end = (datetime.fromtimestamp(at, UTC).isoformat() for at in span)
    return {
        "and": [
            {"<": {"started_at": end}},
            {"or": [{"=": {"revision_end": None}}, {">": {"revision_end": begin}}]},
            {"or": [{"=": {"ended_at": None}}, {">": {"ended_at": begin}}, {">=": {"revision_start": begin}}]},
        ]
    }


def not_long_ended(span: Interval) -> dict[str, Any]:
    """Part of a search: leaves out who ended a day before the span, and was known to have. Measures that come all the
    same make Gnocchi take back the end."""
    begin, before = (datetime.fromtimestamp(at, UTC).isoformat() for at in (span.begin, span.begin - _DAY))
    return {"or": [{"=": {"ended_at": None}}, {">": {"ended_at": before}}, {">=": {"revision_start": begin}}]}


def whole_search(span: Interval) -> dict[str, Any]:
    """CloudKitty's search for the resources of which it takes metadata; without the scope, which it adds."""
    begin, end = (datetime.fromtimestamp(at, UTC).isoformat() for at in span)
    return {
        "and": [
            {"or": [{"=": {"ended_at": None}}, {">=": {"ended_at": begin}}]},
            {"<=": {"started_at": end}},
        ]
    }
