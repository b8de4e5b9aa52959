"""Two revisions of a frame side by side, line by line. Pure: the caller has found them, in the store or in `rated`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Literal

import msgspec

from rater.model.labels import label_text
from rater.model.rated import FrameStatus, Gap, MetricCoverage, RatedFrame
from rater.store import FrameRow, LineRow

__all__ = ["DiffLine", "LinePair", "Revision", "compare", "facts", "revision_of_rows", "revision_of_topic"]


class DiffLine(msgspec.Struct, frozen=True):
    """A line of one revision; labels as text."""

    metric: str
    unit: str
    qty: Decimal
    price: Decimal
    groupby: dict[str, str]
    metadata: dict[str, str]


class Revision(msgspec.Struct, frozen=True):
    """One revision of a frame, whole."""

    number: int
    status: FrameStatus
    closed_by: str
    weak: bool
    closed_at: int
    rule_version: int
    rework_id: str
    coverage: list[MetricCoverage]
    gaps: list[Gap]
    quarantined: int
    failure: str
    lines: dict[str, DiffLine]
    """By line id."""
    origin: Literal["store", "topic rated"]


class LinePair(msgspec.Struct, frozen=True):
    """A line in both revisions; None where it is not in one of them."""

    line_id: str
    before: DiffLine | None
    after: DiffLine | None

    @property
    def either(self) -> DiffLine:
        """The line as the later revision has it, if it does."""
        found = self.after or self.before
        assert found is not None, "one of them has it"
        return found

    @property
    def is_changed(self) -> bool:
        """Whether quantity, price or unit differ."""
        return self.before != self.after


def revision_of_rows(frame: FrameRow, lines: Iterable[LineRow]) -> Revision | None:
    """A revision as the store has it; None if some of its lines are not there any more."""
    found = {
        row.line_id: DiffLine(row.metric, row.unit, row.qty, row.price, row.groupby, row.metadata) for row in lines
    }
    if len(found) != frame.line_count:
        return None
    return Revision(
        number=frame.revision,
        status=frame.status,
        closed_by=frame.closed_by.value,
        weak=frame.weak,
        closed_at=frame.closed_at,
        rule_version=frame.rule_version,
        rework_id=frame.rework_id,
        coverage=frame.coverage,
        gaps=frame.gaps,
        quarantined=len(frame.quarantined),
        failure=frame.failure,
        lines=found,
        origin="store",
    )


def revision_of_topic(parts: Sequence[RatedFrame]) -> Revision:
    """A revision as topic `rated` has it, of all its parts in order."""
    head = parts[0]
    count = sum(total.n for total in head.totals)
    whole = [line for part in parts for line in part.lines][:count]  # after them come those that vanished, with zero
    return Revision(
        number=head.revision,
        status=head.status,
        closed_by=head.closed_by.value,
        weak=head.weak,
        closed_at=head.closed_at,
        rule_version=head.rule_version,
        rework_id=head.rework_id,
        coverage=head.coverage,
        gaps=head.gaps,
        quarantined=len(head.quarantined),
        failure=head.failure,
        lines={
            line.line_id: DiffLine(
                line.metric,
                line.unit,
                line.qty,
                line.price,
                {name: label_text(value) for name, value in line.groupby.items()},
                {name: label_text(value) for name, value in line.metadata.items()},
            )
            for line in whole
        },
        origin="topic rated",
    )


def compare(before: Revision, after: Revision) -> list[LinePair]:
    """The lines of both, by metric and line id."""
    pairs = [
        LinePair(line_id, before.lines.get(line_id), after.lines.get(line_id))
        for line_id in before.lines.keys() | after.lines.keys()
    ]
    return sorted(pairs, key=lambda pair: (pair.either.metric, pair.line_id))


def facts(revision: Revision) -> list[tuple[str, str]]:
    """What else a revision says, as (name, text), in an order that two revisions share as far as possible."""
    found = [
        ("status", revision.status.value + (" (weak)" if revision.weak else "")),
        ("closed by", revision.closed_by),
        ("rules version", str(revision.rule_version)),
        ("rework", revision.rework_id),
        ("lines", str(len(revision.lines))),
        ("quarantined", str(revision.quarantined)),
        ("failure", revision.failure),
    ]
    for entry in revision.coverage:
        name = f"{entry.metric} from {entry.source}"
        covered = sum(end - begin for begin, end in entry.covered)
        expected = sum(end - begin for begin, end in entry.expected)
        attempts = ", ".join(f"{one.attempt} ({one.samples} samples)" for one in entry.collections)
        found += [
            (f"{name}: covered", f"{covered} s of {expected} s, {entry.proof}"),
            (f"{name}: attempts", attempts),
        ]
    found += [
        (f"gap {gap.metric} from {gap.source}, {gap.begin} to {gap.end}", gap.reason or "open") for gap in revision.gaps
    ]
    return found
