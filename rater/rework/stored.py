"""Collections put together again from rows of table `usage`, cut to one period. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import groupby

import msgspec

from rater.model.interval import Interval, clip, period_of
from rater.model.labels import series_labels
from rater.model.metric import Catalog, Coverage, MetricSpec
from rater.model.rated import ClosedBy, CollectionRef, MetricCoverage
from rater.model.usage import Collection, Sample, Series, answers_rework
from rater.store import FrameRow, UsageRow

__all__ = ["Stored", "stored_collections"]


class Stored(msgspec.Struct, frozen=True):
    """What the store has of one period, as it is sent again."""

    collections: list[Collection]
    left_out: list[str]
    """What the engine refused when it came, and would refuse again."""
    missing: str
    """Why it is not all that the frame was made of; empty if it is."""
    surplus: dict[tuple[str, str], int]
    """By metric and source: pushed samples that the frame was not made of. Which they are cannot be told."""


def stored_collections(
    frame: FrameRow,
    rows: Iterable[UsageRow],
    catalog: Catalog,
    rework_id: str,
    replaced: frozenset[tuple[str, str]] = frozenset(),
    reused: frozenset[tuple[str, int]] = frozenset(),
) -> Stored:
    """The collections of the frame's period. `rows` are in the store's order.

    `replaced` are (metric, source) that are collected anew: what the frame was made of need not be there. `reused` are
    producers and numbers that came more than once for the scope: but for one, the engine refused them.
    """
    period = Interval(frame.period_begin, frame.period_end)
    parts: list[Collection] = []
    origins: list[tuple[str, int]] = []
    left_out: dict[str, int] = {}
    named = _named(frame)
    for _, of_part in groupby(rows, key=_part_of):
        whole = list(of_part)
        spec = catalog.get(whole[0].metric)
        fault = _fault(whole, spec, frame.period_end - frame.period_begin) or _untaken(whole[0], spec, frame, named)
        if fault:
            left_out[fault] = left_out.get(fault, 0) + 1
            continue
        part = _cut(whole, period, rework_id)
        if part is not None:
            parts.append(part)
            origins.append((whole[0].producer_id, whole[0].sequence))
    pushed = {name for name in {part.metric for part in parts} if _is_pushed(catalog.get(name))}
    parts, doubt = _without_reused(frame, parts, origins, pushed, reused)
    missing = doubt or _missing(frame, parts, pushed, replaced)
    remarks = [f"{count} part(s) left out: {fault}" for fault, count in sorted(left_out.items())]
    return Stored(_newest(parts, pushed), remarks, missing, _surplus(frame, parts, pushed))


def _part_of(row: UsageRow) -> tuple[str, str, int, int, int, str, int]:
    return row.metric, row.source, row.range_begin, row.range_end, row.attempt, row.collection_id, row.part


def _is_pushed(spec: MetricSpec | None) -> bool:
    return spec is not None and spec.proof is Coverage.SAMPLES


def _fault(rows: Sequence[UsageRow], spec: MetricSpec | None, period_seconds: int) -> str:
    """Why the engine does not take the part, in the words of its author; empty if it does."""
    head = rows[0]
    if spec is None:
        return f"metric {head.metric!r} is unknown now"
    if head.unit != spec.unit:
        return f"unit is {head.unit!r}, metric {head.metric!r} is declared in {spec.unit!r}"
    if not head.is_first:
        return f"collection {head.collection_id} is stored without its head"
    if spec.proof is Coverage.SAMPLES:
        ends = (
            end > period_of(begin, period_seconds).end
            for row in rows
            for begin, end in zip(row.begins, row.ends, strict=True)
        )
        if any(ends):
            return f"a sample of metric {head.metric!r} spans periods"
    return ""


def _untaken(head: UsageRow, spec: MetricSpec | None, frame: FrameRow, named: set[tuple[str, str, str, int]]) -> str:
    """Why the frame was not made of it; empty if it was, or may be.

    It was collected for a rework that was refused or given up, or came while the scope was switched off. Pushed samples
    do not say which of them were taken: of those there are too many then.
    """
    if (head.metric, head.source, head.collection_id, head.attempt) in named:
        return ""
    if answers_rework(head.producer_id, head.collection_id, head.metric, frame.period_begin):
        return "an answer to a reprocess that was not done, or that said the same"
    if frame.closed_by is ClosedBy.INACTIVE and not _is_pushed(spec):
        return "the scope was switched off, and that time is not billed"
    return ""


def _named(frame: FrameRow) -> set[tuple[str, str, str, int]]:
    """The collections that the frame was made of."""
    return {(c.metric, c.source, r.collection_id, r.attempt) for c, r in _references(frame)}


def _cut(rows: Sequence[UsageRow], period: Interval, rework_id: str) -> Collection | None:
    """One part of a collection, cut to the period; None if it does not reach into it."""
    head = rows[0]
    begin, end = max(head.range_begin, period.begin), min(head.range_end, period.end)
    if begin >= end:
        return None
    series: list[Series] = []
    samples: list[Sample] = []
    for row in rows:
        taken = [
            Sample(len(series), sampled, until, Decimal(qty))
            for sampled, until, qty in zip(row.begins, row.ends, row.qty, strict=True)
            if begin <= sampled < end
        ]
        if taken:
            series.append(Series(*series_labels(row.series.encode())))
            samples += taken
    return Collection(
        source=head.source,
        scope_id=head.scope_id,
        metric=head.metric,
        begin=begin,
        end=end,
        attempt=head.attempt,
        collection_id=head.collection_id,
        producer_id=rework_id,
        sequence=0,
        unit=head.unit,
        part=head.part,
        parts=head.parts,
        covers=clip(head.covers, Interval(begin, end)),
        proof=head.proof,
        series=series,
        samples=samples,
        quarantined=head.quarantined if begin == head.range_begin else [],  # the period where it begins bears them
        note=head.note,
        rework_id=rework_id,
        stored=True,
    )


def _place(part: Collection) -> tuple[str, str, int, int]:
    return part.metric, part.source, part.begin, part.end


def _rank(part: Collection) -> tuple[int, str]:
    return part.attempt, part.collection_id


def _newest(parts: Sequence[Collection], pushed: set[str]) -> list[Collection]:
    """Without what a later attempt at the same range has replaced."""
    seen: dict[tuple[tuple[str, str, int, int], tuple[int, str]], int] = {}
    best: dict[tuple[str, str, int, int], tuple[int, str]] = {}
    for part in parts:
        place, rank = _place(part), _rank(part)
        seen[place, rank] = seen.get((place, rank), 0) + 1
        if seen[place, rank] == part.parts:
            best[place] = max(best.get(place, rank), rank)
    return [part for part in parts if part.metric in pushed or _rank(part) >= best.get(_place(part), _rank(part))]


def _without_reused(
    frame: FrameRow,
    parts: list[Collection],
    origins: Sequence[tuple[str, int]],
    pushed: set[str],
    elsewhere: frozenset[tuple[str, int]],
) -> tuple[list[Collection], str]:
    """Without parts that used a number of their producer which another one had: the engine took only the first.

    And why that cannot be told, if so: pushed samples are not named by the frame, only counted.
    """
    users: dict[tuple[str, int], set[int]] = {}
    for number, origin in enumerate(origins):
        of_origin = users.setdefault(origin, set())
        if not any(_is_cut_of_same(parts[number], parts[other]) for other in of_origin):
            of_origin.add(number)
    reused = {number for numbers in users.values() if len(numbers) > 1 for number in numbers}
    reused.update(n for n, origin in enumerate(origins) if parts[n].metric in pushed and origin in elsewhere)
    if not reused:
        return parts, ""
    named = _named(frame)
    counts = _counts(parts, pushed)
    for number in sorted(reused):
        part = parts[number]
        taken = [r.samples for c, r in _references(frame) if (c.metric, c.source) == (part.metric, part.source)]
        if part.metric in pushed and sum(taken) != counts.get((part.metric, part.source), 0):
            return parts, (
                f"producer {origins[number][0]!r} used sequence {origins[number][1]} twice for {part.metric!r}, and "
                "which of them was taken cannot be told from the store"
            )
    kept = [
        part
        for number, part in enumerate(parts)
        if number not in reused
        or part.metric in pushed
        or (part.metric, part.source, part.collection_id, part.attempt) in named
    ]
    return kept, ""


def _is_cut_of_same(one: Collection, other: Collection) -> bool:
    return (_place(one), _rank(one), one.part) == (_place(other), _rank(other), other.part)


def _references(frame: FrameRow) -> list[tuple[MetricCoverage, CollectionRef]]:
    return [(entry, reference) for entry in frame.coverage for reference in entry.collections]


def _counts(parts: Sequence[Collection], pushed: set[str]) -> dict[tuple[str, str], int]:
    """Pushed samples by metric and source."""
    found: dict[tuple[str, str], int] = {}
    for part in parts:
        if part.metric in pushed:
            found[part.metric, part.source] = found.get((part.metric, part.source), 0) + len(part.samples)
    return found


def _surplus(frame: FrameRow, parts: Sequence[Collection], pushed: set[str]) -> dict[tuple[str, str], int]:
    more = _counts(parts, pushed)
    for entry, reference in _references(frame):
        if (entry.metric, entry.source) in more:
            more[entry.metric, entry.source] -= reference.samples
    return {key: count for key, count in more.items() if count > 0}


def _missing(
    frame: FrameRow, parts: Sequence[Collection], pushed: set[str], replaced: frozenset[tuple[str, str]]
) -> str:
    """Which collection that the frame was made of is not there with all its samples; empty if all are."""
    pushed_counts = _counts(parts, pushed)
    of_collection: dict[tuple[str, str, str, int, int, int], list[int]] = {}
    for part in parts:
        key = (part.metric, part.source, part.collection_id, part.attempt, part.begin, part.end)
        counted = of_collection.setdefault(key, [0, 0, part.parts])
        counted[0] += 1
        counted[1] += len(part.samples)
    for entry, reference in _references(frame):
        if (entry.metric, entry.source) in replaced:
            continue
        if not reference.collection_id:
            found, complete = pushed_counts.get((entry.metric, entry.source), 0), True
            enough = found >= reference.samples
        else:
            key = (
                entry.metric, entry.source, reference.collection_id, reference.attempt, reference.begin, reference.end
            )  # fmt: skip
            there, found, wanted = of_collection.get(key, [0, 0, 1])
            complete = there == wanted
            enough = complete and found == reference.samples
        if not enough:
            what = f"collection {reference.collection_id}" if reference.collection_id else "what was pushed"
            return (
                f"metric {entry.metric!r} from {entry.source}: {what} was rated with {reference.samples} samples and "
                f"the store has {found}{'' if complete else ', not all of its parts'}: usage is not stored "
                "(`sink.usage` is off), not there yet, beyond `store.retention.usage`, was deleted, or its metric was "
                "declared otherwise since"
            )
    return ""
