"""Invariants that compare a frame with its usage: nothing lost, nothing double, everything as the usage means it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Context, Decimal, localcontext
from typing import TypeAlias

import msgspec

from rater.audit.cases import Case, PriceOf, Truth
from rater.audit.truth import Cut, Span, TruePoint, left_out, spec_of
from rater.audit.violation import Invariant, RowKey, Violation, frame_row, line_row
from rater.model.labels import LabelValue, canonical_series, label_text
from rater.model.rated import FrameStatus, Line, QuarantinedPoint, RatedFrame
from rater.model.usage import Collection as Part

__all__ = ["Ledger", "best_revision_is_truth", "every_sample_once", "ledger", "quantities_add_up"]

_MORE = re.compile(r"and (\d+) more points")
"""How the rest of very many quarantined points is told: as a number."""
_EXACT = Context(prec=400)
Key: TypeAlias = tuple[str, str]
"""(metric, line id)."""


class Ledger(msgspec.Struct, frozen=True):
    """What became of the samples of a frame. `dropped`: by a rule or script; `failed`: the whole frame is unrated."""

    rated: int = 0
    dropped: int = 0
    quarantined: int = 0
    failed: int = 0
    waiting: int = 0


def ledger(case: Case) -> Ledger:
    """Counts the samples by what became of them: each is in one place."""
    truth, rated = case.truth, case.rated
    if truth is None:
        return Ledger()
    count = Counter({key: sum(_of_point(point)) for key, point in truth.points.items()})
    lines = {(line.metric, line.line_id) for line in rated.lines}
    refused, rest = _quarantined(rated, truth)
    total = sum(count.values())
    if rated.failure:
        return Ledger(failed=total, waiting=truth.waiting_samples)
    of_lines = sum(n for key, n in count.items() if key in lines)
    of_refused = sum(n for key, n in count.items() if key not in lines and key in refused)
    left = total - of_lines - of_refused
    unnamed = left if rest else 0
    return Ledger(of_lines, left - unnamed, of_refused + unnamed, 0, truth.waiting_samples)


def _of_point(point: TruePoint) -> Iterator[int]:
    for cut, part, number in point.pieces:
        yield sum(1 for of, sample in cut.samples() if of is part and sample.series == number)


# --- every sample once


def every_sample_once(case: Case) -> Iterator[Violation]:
    """Every accepted sample is in exactly one of: rated, dropped by a rule or script, quarantined, waiting.

    Waiting: late, and not reworked yet. Of a frame that failed all are unrated, and it must have no line.
    """
    truth, rated = case.truth, case.rated
    if truth is None:
        return
    yield from _collections_once(case, truth)
    if rated.failure:
        for line in rated.lines:
            yield _of_line(Invariant.EVERY_SAMPLE_ONCE, case, line.metric, line.line_id, "no line: it failed", "a line")
        return
    lines = Counter((line.metric, line.line_id) for line in rated.lines)
    refused, rest = _quarantined(rated, truth)
    nowhere = []
    for key, point in sorted(truth.points.items()):
        places = lines[key] + (key in refused)
        if places > 1:
            text = f"{lines[key]} lines" + (" and quarantined" if key in refused else "")
            yield _of_line(Invariant.EVERY_SAMPLE_ONCE, case, *key, "its samples in one place", text)
        elif not places and case.keeps and point.metric not in truth.unproven:
            nowhere.append(point)
    if len(nowhere) > rest:
        for point in nowhere:
            rows = _suspects(case, point)
            yield _violation(
                Invariant.EVERY_SAMPLE_ONCE, case, point.metric, "a line or a quarantined point", "none", rows
            )
    for key in sorted(lines):
        if key not in truth.points and case.keeps and key[0] not in truth.unproven:
            rows = _robbed(case, key[0]) or (_line_row(case, *key),)
            yield _violation(
                Invariant.EVERY_SAMPLE_ONCE, case, key[0], "samples of each line", f"none of {key[1]}", rows
            )


def _collections_once(case: Case, truth: Truth) -> Iterator[Violation]:
    """Each collection that the frame names holds, with as many samples as the frame counted.

    Logs are whole, so it must be there; where others hold that say the same, no revision was published for them. The
    store may lack usage (the auditor says when that is a fault), but it is the frame that says what holds.
    """
    for entry in case.rated.coverage:
        key = (entry.metric, entry.source)
        chosen = {cut.ref for cut in truth.held[key].chosen} if key in truth.held else set()
        absent = {ref for metric, source, ref in truth.absent if (metric, source) == key}
        for named in entry.collections:
            ref = (named.collection_id, named.attempt, named.begin, named.end)
            if ref not in chosen and (named in absent) == (case.where == "topics"):
                text = f"collection {named.collection_id} attempt {named.attempt}"
                yield _of_frame(Invariant.EVERY_SAMPLE_ONCE, case, entry.metric, "collections that hold", text)
            elif ref in chosen and truth.counts[*key, ref] != named.samples and not _differs(case, entry.metric):
                expected = f"{truth.counts[*key, ref]} samples in collection {named.collection_id or 'of pushes'}"
                yield _of_frame(Invariant.EVERY_SAMPLE_ONCE, case, entry.metric, expected, f"{named.samples} samples")


def _differs(case: Case, metric: str) -> bool:
    """Whether a point of the metric differs from its line, which then names the row better."""
    assert case.truth is not None, "asked about its collections"
    lines = {line.line_id: line.qty for line in case.rated.lines if line.metric == metric}
    points = {point.line_id: point.qty for point in case.truth.points.values() if point.metric == metric}
    return case.keeps and any(lines.get(one) != points.get(one) for one in lines.keys() | points.keys())


def _quarantined(rated: RatedFrame, truth: Truth) -> tuple[set[Key], int]:
    """(points that are named as quarantined, how many more are told as a number)."""
    found: set[Key] = set()
    rest = 0
    by_labels = {(p.metric, canonical_series(p.groupby, p.metadata)): key for key, p in truth.points.items()}
    for point in rated.quarantined:
        told = _MORE.match(point.reason)
        if told and not point.value:
            rest += int(told[1])
        elif not point.source:
            key = by_labels.get((point.metric, canonical_series(point.groupby, point.metadata)))
            key = key or _too_long(point, truth)
            if key is not None:
                found.add(key)
    return found, rest


def _too_long(point: QuarantinedPoint, truth: Truth) -> Key | None:
    """The point whose labels were left out, since they are too long to be told."""
    if point.groupby or point.metadata:
        return None
    of = [k for k, p in truth.points.items() if p.refused and p.metric == point.metric and str(p.qty) == point.value]
    return of[0] if of else None


# --- quantities


def quantities_add_up(case: Case) -> Iterator[Violation]:
    """The rated quantity of each line is what its samples add up to, so the sums per metric are equal as well.

    Only where the modules of the rules leave quantities as they are, and where all usage is there.
    """
    truth = case.truth
    if truth is None or not case.keeps or case.rated.failure:
        return
    for line in case.rated.lines:
        point = truth.points.get((line.metric, line.line_id))
        if point is not None and line.metric not in truth.unproven and line.qty != point.qty:
            rows = _suspects(case, point)
            yield _violation(Invariant.QUANTITIES_ADD_UP, case, point.metric, f"{point.qty}", f"{line.qty}", rows)


def _suspects(case: Case, point: TruePoint) -> tuple[RowKey, ...]:
    """The row that is wrong: the line if the frame's totals contradict it, the samples if only they differ."""
    if case.where != "store" or not _lines_agree(case, point.metric):
        return (_line_row(case, point.metric, point.line_id),)
    return tuple(dict.fromkeys(_usage_row(case, part, number) for _, part, number in point.pieces))


def _robbed(case: Case, metric: str) -> tuple[RowKey, ...]:
    """The stored collections that have lost samples which the frame counted, if its lines agree with its totals."""
    assert case.truth is not None, "asked about a line without samples"
    if case.where != "store" or not _lines_agree(case, metric):
        return ()
    named = {(e.metric, e.source, (c.collection_id, c.attempt, c.begin, c.end)): c.samples
             for e in case.rated.coverage for c in e.collections}  # fmt: skip
    return tuple(
        _cut_row(case, cut)
        for (of, source), held in sorted(case.truth.held.items())
        for cut in held.chosen
        if of == metric and case.truth.counts[of, source, cut.ref] < named.get((of, source, cut.ref), 0)
    )


def _lines_agree(case: Case, metric: str) -> bool:
    """Whether the lines of a metric add up to the frame's totals."""
    lines = [one for one in case.rated.lines if one.metric == metric]
    totals = [total for total in case.rated.totals if total.metric == metric]
    return (_sum_of(lines), len(lines)) == (sum((t.qty for t in totals), Decimal(0)), sum(t.n for t in totals))


def _sum_of(lines: Sequence[Line]) -> Decimal:
    with localcontext(_EXACT):
        return sum((line.qty for line in lines), Decimal(0))


# --- the truth


def best_revision_is_truth(case: Case, price_of: PriceOf | None = None) -> Iterator[Violation]:
    """The newest revision says what the usage means: collections, expected and covered time, status, lines' labels.

    And prices, if `price_of` can say them. Quantities are compared by `quantities_add_up`.
    """
    yield from _status(case)
    truth = case.truth
    if truth is None:
        return
    yield from _coverage(case, truth)
    yield from _not_finite(case, truth)
    for line in case.rated.lines:
        point = truth.points.get((line.metric, line.line_id))
        if point is None or not case.keeps or line.metric in truth.unproven:
            continue
        expected = (spec_of(case.setup, line.metric).unit, _texts(point.groupby), _texts(point.metadata))
        found = (line.unit, _texts(line.groupby), _texts(line.metadata))
        if expected != found:
            yield _of_line(Invariant.BEST_REVISION_IS_TRUTH, case, *_key(line), f"{expected}", f"{found}")
        if price_of is not None:
            price = price_of(line.metric, line.qty, line.groupby, line.metadata)
            if price != line.price:
                text = f"price {line.price}"
                yield _of_line(Invariant.BEST_REVISION_IS_TRUTH, case, *_key(line), f"price {price}", text)


def _coverage(case: Case, truth: Truth) -> Iterator[Violation]:
    rated = case.rated
    said = {(entry.metric, entry.source): entry for entry in rated.coverage}
    absent = {(metric, source) for metric, source, _ in truth.absent}
    for key in sorted(said.keys() | {key for key, one in truth.held.items() if one.chosen}):
        if key in absent:
            continue
        entry = said.get(key)
        held = truth.held.get(key)
        covers = _spans(entry.covered) if entry else []
        if covers != list(truth.covered.get(key, [])):
            text = f"{covers} from {key[1]}"
            yield _of_frame(
                Invariant.BEST_REVISION_IS_TRUTH, case, key[0], f"covered {truth.covered.get(key, [])}", text
            )
        proof = "weak" if held and any(cut.weak() for cut in held.chosen) else "proven"
        if entry and entry.proof != proof:
            yield _of_frame(Invariant.BEST_REVISION_IS_TRUTH, case, key[0], f"proof {proof}", entry.proof)
    if truth.expected is not None:
        wanted = {key: _spans(entry.expected) for key, entry in said.items() if entry.expected}
        if all(wanted != {key: list(spans) for key, spans in one.items()} for one in truth.expected):
            text = f"{wanted}"
            yield _of_frame(Invariant.BEST_REVISION_IS_TRUTH, case, "", f"expected {dict(truth.expected[0])}", text)


def _not_finite(case: Case, truth: Truth) -> Iterator[Violation]:
    if truth.absent or any(_MORE.match(point.reason) for point in case.rated.quarantined):
        return
    expected = Counter((m, s, item.value, item.reason) for m, s, item in truth.not_finite)
    found = Counter((p.metric, p.source, p.value, p.reason) for p in case.rated.quarantined if p.source)
    for key in sorted(expected.keys() | found.keys()):
        if expected[key] != found[key]:
            yield _of_frame(
                Invariant.BEST_REVISION_IS_TRUTH, case, key[0], f"{expected[key]} quarantined {key}", f"{found[key]}"
            )


def _status(case: Case) -> Iterator[Violation]:
    """Status and the mark `weak` follow from what the frame says otherwise."""
    rated = case.rated
    used, refused = bool(rated.lines), bool(rated.quarantined)
    holes = any(left_out((rated.period_begin, rated.period_end), e.expected, e.covered) for e in rated.coverage)
    if rated.failure:
        expected = FrameStatus.FAILED
    elif holes and not used and not refused and not any(e.covered for e in rated.coverage):
        expected = FrameStatus.MISSING
    elif holes or refused:
        expected = FrameStatus.PARTIAL
    else:
        expected = FrameStatus.RATED if used else FrameStatus.EMPTY
    lines_count = sum(total.n for total in rated.totals)
    if expected is not rated.status and lines_count == len(rated.lines):
        yield _of_frame(Invariant.BEST_REVISION_IS_TRUTH, case, "", f"status {expected.value}", rated.status.value)
    weak = any(entry.proof == "weak" and entry.covered for entry in rated.coverage)
    if rated.weak and not any(entry.proof == "weak" for entry in rated.coverage):
        yield _of_frame(Invariant.BEST_REVISION_IS_TRUTH, case, "", "not weak", "weak")
    elif weak and not rated.weak and _all_weak(case):
        yield _of_frame(Invariant.BEST_REVISION_IS_TRUTH, case, "", "weak", "not weak")


def _all_weak(case: Case) -> bool:
    """Whether a weak collection covers something for certain: the only one of its source."""
    return any(entry.proof == "weak" and entry.covered and len(entry.collections) == 1 for entry in case.rated.coverage)


# --- helpers


def _spans(intervals: Sequence[Span]) -> list[Span]:
    return [(begin, end) for begin, end in intervals]


def _texts(labels: dict[str, LabelValue]) -> dict[str, str]:
    return {name: label_text(value) for name, value in sorted(labels.items())}


def _key(line: Line) -> Key:
    return line.metric, line.line_id


def _of_frame(invariant: Invariant, case: Case, metric: str, expected: str, found: str) -> Violation:
    rated = case.rated
    return Violation(
        invariant, rated.scope_id, rated.period_begin, metric, expected, found, (frame_row(rated, case.where),)
    )


def _of_line(invariant: Invariant, case: Case, metric: str, line_id: str, expected: str, found: str) -> Violation:
    return _violation(invariant, case, metric, expected, found, (_line_row(case, metric, line_id),))


def _violation(
    invariant: Invariant, case: Case, metric: str, expected: str, found: str, rows: tuple[RowKey, ...]
) -> Violation:
    rated = case.rated
    return Violation(invariant, rated.scope_id, rated.period_begin, metric, expected, found, rows)


def _line_row(case: Case, metric: str, line_id: str) -> RowKey:
    rated = case.rated
    return line_row(rated.scope_id, rated.period_begin, rated.revision, metric, line_id, case.where)


def _usage_row(case: Case, part: Part, number: int) -> RowKey:
    """The row that has the samples of one series of a part."""
    key = (*_part_key(case, part), ("part", part.part), ("n", number))
    return RowKey("usage", key)


def _part_key(case: Case, part: Part) -> tuple[tuple[str, str | int], ...]:
    return (
        ("scope_id", case.rated.scope_id), ("metric", part.metric), ("source", part.source),
        ("range_begin", part.begin), ("range_end", part.end), ("attempt", part.attempt),
        ("collection_id", part.collection_id),
    )  # fmt: skip


def _cut_row(case: Case, cut: Cut) -> RowKey:
    """The collection, or the first of what was pushed."""
    return RowKey("usage", _part_key(case, next(iter(cut.pieces.values())).part))
