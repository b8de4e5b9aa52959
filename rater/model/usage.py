"""What stands in topic `usage`: the answers of the sources, what is expected of them, and their failures.

Key of every record: the scope id in UTF-8, so that all records of a scope lie in one partition, in order.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from rater.model.interval import Interval
from rater.model.labels import Labels
from rater.model.posted import PostedLines
from rater.model.rated import Gap, MetricTotal
from rater.model.version import FORMAT_VERSION

__all__ = [
    "MAX_SAMPLES",
    "REWORK_PRODUCER",
    "Collection",
    "CollectionFailed",
    "FrameBase",
    "FrameForced",
    "GapAccepted",
    "QuarantinedItem",
    "ReworkBegun",
    "ReworkEnded",
    "ReworkKind",
    "ReworkLines",
    "Sample",
    "ScopePlan",
    "ScopeSwitch",
    "Series",
    "UsageRecord",
    "answers_rework",
]

REWORK_PRODUCER = "rework-"
"""How the names of producers begin that send reworks."""
MAX_SAMPLES = 50_000  # a part of 50 000 samples is about 2 MB; publishers send about 500

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]
Instant: TypeAlias = Annotated[int, Meta(ge=0, le=253_402_300_800, description="seconds since the epoch, UTC")]
Text: TypeAlias = Annotated[str, Meta(max_length=2000)]


class Series(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One resource as the source describes it."""

    groupby: Labels = {}
    metadata: Labels = {}


class Sample(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One measured quantity: `[index into series, begin, end, qty]`. `end == begin` is an instant."""

    series: Annotated[int, Meta(ge=0)]
    begin: Instant
    end: Instant
    qty: Annotated[Decimal, Meta(description="decimal text, exact")]


class QuarantinedItem(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An item of an answer that is no finite number: it makes its frame partial, its neighbours are rated."""

    value: Text
    reason: Text
    groupby: Labels = {}
    metadata: Labels = {}


class Collection(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="collection",
):
    """One part of the answer of one source for one scope, one metric and the time `[begin, end)`.

    The parts `0..parts-1` share `collection_id` and everything else but `part`, `sequence`, `series`, `samples` and
    `quarantined`. A complete collection replaces those of the same source, scope, metric and range with a lower
    `attempt`; it never adds to them. `covers` are the sub-ranges that the source's own evidence proves.
    """

    source: Name
    scope_id: Name
    metric: Name
    begin: Instant
    end: Instant
    attempt: Count
    collection_id: Name
    producer_id: Name
    sequence: Count
    """Counts up by one per (producer_id, scope_id), from 0: finds repeated batches."""
    unit: Name = "undefined"
    part: Count = 0
    parts: Annotated[int, Meta(ge=1, le=100_000)] = 1
    covers: list[Interval] = []
    proof: Literal["proven", "weak"] = "proven"
    series: list[Series] = []
    samples: Annotated[list[Sample], Meta(max_length=MAX_SAMPLES)] = []
    quarantined: list[QuarantinedItem] = []
    note: Text = ""
    """What the source said of itself: its version, why an empty answer is a true zero."""
    rework_id: Annotated[str, Meta(max_length=255)] = ""
    """The rework it is for: it counts only between that one's ReworkBegun and ReworkEnded."""
    stored: bool = False
    """Of a rework: a repetition of usage that came before, which table `usage` has already."""
    version: int = FORMAT_VERSION


class ScopePlan(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="scope_plan",
):
    """Within `[begin, until)` exactly `metrics` of this scope are expected from `source`.

    A scope that is gone at T: a plan from T on, without `until` and without metrics.
    """

    source: Name
    scope_id: Name
    begin: Instant
    until: Instant | None = None
    metrics: Annotated[list[Name], Meta(max_length=10_000)] = []
    version: int = FORMAT_VERSION


class CollectionFailed(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="collection_failed",
):
    """A source gave no answer, or not a whole one. Proves nothing; its reason is shown beside the gap it leaves."""

    source: Name
    scope_id: Name
    metric: Name
    begin: Instant
    end: Instant
    reason: Text
    version: int = FORMAT_VERSION


class FrameForced(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="frame_forced",
):
    """An operator closes a frame now, with whatever gaps it has."""

    scope_id: Name
    period_begin: Instant
    author: Name
    reason: Text
    version: int = FORMAT_VERSION


class GapAccepted(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="gap_accepted",
):
    """An operator has decided to live with a gap: bills may be made without what is missing, and say so.

    Nothing is rated for it, and collectors go on trying to fill it.
    """

    gap_id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    scope_id: Name
    metric: Name
    source: Name
    period_begin: Instant
    begin: Instant
    end: Instant
    author: Name
    reason: Annotated[str, Meta(min_length=1, max_length=2000)]
    version: int = FORMAT_VERSION


class ScopeSwitch(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="scope_switch",
):
    """A scope is switched off, or on again, for all periods that begin at `begin` or later.

    While it is off nothing is expected of it, and its collections are refused.
    """

    scope_id: Name
    number: Annotated[int, Meta(ge=1, le=2**53)]
    """Counts up with each switch of the scope: one that comes a second time, or late, changes nothing."""
    active: bool
    begin: Instant
    author: Name
    inactive_time: Literal["bill", "skip"] = "bill"
    """Of a scope that is switched on: whether the time that it was off is owed now, or stays unbilled for good."""
    version: int = FORMAT_VERSION


ReworkKind: TypeAlias = Literal["reprocess", "rerate"]
"""Collected again from the source, or rated again from stored usage."""


class FrameBase(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The revision that a rework goes on from, as the store has it: the engine may have forgotten the frame."""

    revision: Count
    digest: Annotated[str, Meta(pattern="^([0-9a-f]{32})?$")]
    """As that revision says it; empty if it says none, and then the rework makes a revision in any case."""
    rule_version: Count
    closed_at: Instant
    expected_until: Instant | None = None
    failed: bool = False
    totals: list[MetricTotal] = []
    gaps: list[Gap] = []


class ReworkBegun(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="rework_begun",
):
    """A closed frame is going to be rated again. What follows for it up to ReworkEnded counts at once, or not at all.

    Refused, with an alert, if the frame has another revision than `base` or another rework of it is under way.
    """

    rework_id: Name
    kind: ReworkKind
    scope_id: Name
    period_begin: Instant
    author: Name
    reason: Text
    base: FrameBase
    version: int = FORMAT_VERSION


class ReworkLines(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="rework_lines",
):
    """Resources of one metric that the base revision has lines of: one that vanishes is repeated with zero."""

    rework_id: Name
    scope_id: Name
    period_begin: Instant
    metric: Name
    series: Annotated[list[Series], Meta(max_length=MAX_SAMPLES)]
    version: int = FORMAT_VERSION


class ReworkEnded(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="rework_ended",
):
    """All of a rework of one frame was sent: `records` of them between ReworkBegun and this one."""

    rework_id: Name
    scope_id: Name
    period_begin: Instant
    records: Count
    version: int = FORMAT_VERSION


UsageRecord: TypeAlias = (
    Collection
    | ScopePlan
    | CollectionFailed
    | FrameForced
    | ScopeSwitch
    | GapAccepted
    | ReworkBegun
    | ReworkLines
    | ReworkEnded
    | PostedLines
)


def answers_rework(producer_id: str, collection_id: str, metric: str, period_begin: int) -> bool:
    """Whether a stored collection is what a source answered to a reprocess of this period.

    It is stored before anybody knows what becomes of the rework: unless the frame names it, it was not taken.
    """
    return producer_id.startswith(REWORK_PRODUCER) and collection_id.endswith(f"/{metric}/{period_begin}")
