"""What stands in topics `rated`, `alerts` and `rejected`: everything rater says to the programs downstream.

`rated` and `alerts` are keyed by scope id and lie in the partition of the same number as the scope's usage.
"""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from rater.model.interval import Interval
from rater.model.labels import Labels
from rater.model.version import FORMAT_VERSION

__all__ = [
    "Alert",
    "AlertKind",
    "ClosedBy",
    "CollectionRef",
    "FrameStatus",
    "Gap",
    "Line",
    "MetricCoverage",
    "MetricTotal",
    "QuarantinedPoint",
    "RatedFrame",
    "RejectedHeaders",
    "ReworkResult",
]

Hex128: TypeAlias = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
Amount: TypeAlias = Annotated[Decimal, Meta(description="decimal text, exact, at most 38 decimals")]


class FrameStatus(Enum):
    """What a frame is worth as a basis for a bill."""

    RATED = "rated"
    EMPTY = "empty"  # covered, and nothing was used
    PARTIAL = "partial"  # a gap, or a point that no rule could read
    MISSING = "missing"  # nothing of what was expected is covered
    FAILED = "failed"  # a rating script or module failed: nothing of it is rated


class ClosedBy(Enum):
    """Why the frame was closed when it was."""

    COMPLETE = "complete"
    GRACE = "grace"
    FORCED = "forced"
    INACTIVE = "inactive"  # the scope was switched off: nothing is expected of it, and that time stays unbilled


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One resource in one period, rated. Absolute values: a later revision replaces, it never adds."""

    line_id: Hex128
    metric: str
    unit: str
    qty: Amount
    price: Amount
    groupby: Labels = {}
    metadata: Labels = {}


class MetricTotal(msgspec.Struct, frozen=True):
    """Sums over the lines of one metric of the frame; `n` counts the lines, those repeated with zero not among them."""

    metric: str
    unit: str
    qty: Amount
    price: Amount
    n: int


class CollectionRef(msgspec.Struct, frozen=True):
    """A collection that this revision is made of, cut to the period. `samples` counts what it holds of the period."""

    collection_id: str
    attempt: int
    begin: int
    end: int
    samples: int


class MetricCoverage(msgspec.Struct, frozen=True):
    """What was expected of one source for one metric in the period, and what it proved."""

    metric: str
    source: str
    expected: list[Interval]
    covered: list[Interval]
    proof: Literal["proven", "weak"]
    collections: list[CollectionRef]


class Gap(msgspec.Struct, frozen=True):
    """A hole: time that was expected of a source and that no collection covers."""

    gap_id: Hex128
    metric: str
    source: str
    begin: int
    end: int
    reason: str


class QuarantinedPoint(msgspec.Struct, frozen=True):
    """Usage that is known but has no price: not a finite number, or a value that no rule can read."""

    metric: str
    source: str
    value: str
    reason: str
    groupby: Labels
    metadata: Labels


class RatedFrame(msgspec.Struct, frozen=True, tag_field="type", tag="rated_frame"):
    """One part of one revision of a frame. Lines are spread over the parts, all else is the same in each part."""

    scope_id: str
    period_begin: int
    period_end: int
    revision: int
    status: FrameStatus
    closed_by: ClosedBy
    weak: bool
    rule_version: int
    closed_at: int
    part: int
    parts: int
    lines: list[Line]
    totals: list[MetricTotal]
    coverage: list[MetricCoverage]
    gaps: list[Gap]
    quarantined: list[QuarantinedPoint]
    expected_until: int | None = None
    """Until when usage of the scope is expected at all, as known when the frame closed; null: without end."""
    failure: Annotated[str, Meta(max_length=2000)] = ""
    """Of a failed frame: which script or module failed, in which line, and why."""
    digest: str = ""
    """Of what this revision says, in hex: a rework that comes to the same is not published as a revision."""
    rework_id: str = ""
    """The rework that made this revision; empty for all others."""
    version: int = FORMAT_VERSION


class AlertKind(Enum):
    """What happened."""

    GAP_OPENED = "gap_opened"
    GAP_RESOLVED = "gap_resolved"
    GAP_ACCEPTED = "gap_accepted"  # somebody has decided to live with it: `author`, and `reason` why
    LATE_USAGE = "late_usage"  # usage for a frame that has left the state: it lies whole in `rejected`
    LATE_PLAN = "late_plan"  # a plan changed what is expected of frames that have left the state: they do not say so
    QUARANTINED = "quarantined"
    RATING_FAILED = "rating_failed"  # a script or module failed: nothing of the frame is rated
    RATING_REPAIRED = "rating_repaired"  # and the next revision of that frame is rated; same alert_id
    SUSPICION = "suspicion"  # may be missing or doubled, without proof; never a gap
    BATCHES_LOST = "batches_lost"  # a producer's sequence numbers have a hole: what it sent never came
    SOURCE_SILENT = "source_silent"  # what a collector asks has proven nothing for longer than expected, of any scope
    SOURCE_BACK = "source_back"  # and it does again; same alert_id
    REWORK_DONE = "rework_done"  # the frame was rated again; `rework` says what changed, also if nothing did
    REWORK_REFUSED = "rework_refused"  # stale, or another one is under way: nothing was changed
    REWORK_ABANDONED = "rework_abandoned"  # it did not come to its end: nothing was changed; same alert_id


class ReworkResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one frame in a rework: who wanted it, why, and totals before and after."""

    rework_id: str
    kind: Literal["reprocess", "rerate"]
    author: str
    requested: str
    """The reason that was given for it."""
    base_revision: int
    revision: int
    """Equal to `base_revision` if nothing changed or nothing was done."""
    rule_version_before: int
    rule_version_after: int
    before: list[MetricTotal] = []
    after: list[MetricTotal] = []


class Alert(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="alert"):
    """Something that a person or a program should act on. `alert_id` is the gap's id for the three kinds of gaps.

    RATING_FAILED and RATING_REPAIRED of a frame share theirs, so that the one ends the other.
    """

    alert_id: Hex128
    kind: AlertKind
    scope_id: str
    metric: str
    source: str
    period_begin: int
    begin: int
    end: int
    revision: int
    raised_at: int
    reason: str = ""
    author: str = ""
    """Of an acceptance: who decided."""
    rework: ReworkResult | None = None
    """Of the three kinds of reworks."""
    version: int = FORMAT_VERSION


class RejectedHeaders(msgspec.Struct, frozen=True, omit_defaults=True, rename="kebab"):
    """Headers of a record in `rejected`. Its value and key are the refused record's own, byte for byte."""

    reason: str
    origin_topic: str = ""
    origin_partition: int = -1
    origin_offset: int = -1
    origin_timestamp_ms: int = -1
    origin_content_type: str = ""
    origin_file: str = ""
    origin_line: int = -1
