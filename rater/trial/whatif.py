"""What usage would cost by other rules: closed frames, rated again by another book, beside what is stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import TypeAlias

import msgspec

from rater.engine.again import LinesAgain, PointsAgain, lines_again
from rater.engine.rate import MAX_NAMED as MAX_NAMED_POINTS
from rater.model.labels import canonical_series, line_id
from rater.model.rated import FrameStatus, Line, QuarantinedPoint
from rater.rating import Chain, RatingFrame, ScriptRunner, add_used, month_begin
from rater.store import LineRow
from rater.trial.pricing import iso
from rater.trial.stored import StoredFrame, StoredFrames

__all__ = ["Comparison", "Difference", "WhatIf"]

MAX_NAMED = 20  # frames that could not be compared, and failures; the rest is a number
_EXACT = Context(prec=200, rounding=ROUND_HALF_EVEN)
ZERO = Decimal(0)
_UNCOUNTED = (
    "scope {!r}: graduated prices count what was used before in the month, which is not known of {}, where the usage "
    "cannot be read: {}"
)


class Difference(msgspec.Struct):
    """Sums of one scope and metric. Exact."""

    scope_id: str
    metric: str
    lines: int = 0
    """Lines before or after."""
    changed: int = 0
    """Lines whose price or quantity is another, that vanish or that are new."""
    old: Decimal = ZERO
    """The stored price."""
    new: Decimal = ZERO
    newly_unrated: int = 0
    """Points that had a price and would have none."""
    newly_rated: int = 0
    """Points that had no price and would have one."""

    @property
    def difference(self) -> Decimal:
        """What the new rules would add."""
        return _EXACT.subtract(self.new, self.old)

    @property
    def percent(self) -> Decimal | None:
        """The difference in percent of the old price, two decimals; None where that was nothing."""
        if not self.old:
            return None
        share = _EXACT.divide(self.difference, abs(self.old))
        return _EXACT.quantize(_EXACT.multiply(share, Decimal(100)), Decimal("0.01"))


class Comparison:
    """What came of a what-if. Grows with the number of scopes and metrics, not with that of frames."""

    def __init__(self) -> None:
        self.by_key: dict[tuple[str, str], Difference] = {}
        self.frames = 0
        self.unknown = 0
        """Frames whose usage cannot be read any more: neither their old nor their new price is counted."""
        self.failed = 0
        """Frames that would fail."""
        self.faults: list[str] = []
        """Why, for the first of both."""

    def biggest_first(self) -> list[Difference]:
        """By the size of the difference, then by name."""
        return sorted(self.by_key.values(), key=lambda found: (-abs(found.difference), found.scope_id, found.metric))

    def total(self) -> Difference:
        """The sums over everything, under no name."""
        whole = Difference("", "")
        for one in self.by_key.values():
            whole.lines += one.lines
            whole.changed += one.changed
            whole.old = _EXACT.add(whole.old, one.old)
            whole.new = _EXACT.add(whole.new, one.new)
            whole.newly_unrated += one.newly_unrated
            whole.newly_rated += one.newly_rated
        return whole

    def of(self, scope_id: str, metric: str) -> Difference:
        """The sums of a scope and metric."""
        found = self.by_key.get((scope_id, metric))
        if found is None:
            found = self.by_key[scope_id, metric] = Difference(scope_id, metric)
        return found

    def note(self, fault: str) -> None:
        """Keeps one of the first faults."""
        if len(self.faults) < MAX_NAMED:
            self.faults.append(fault)


class WhatIf:
    """Rates stored frames by `chain` and adds up both prices. Touches nothing."""

    def __init__(self, frames: StoredFrames, chain: Chain, scripts: ScriptRunner) -> None:
        self.found = Comparison()
        self._frames = frames
        self._chain = chain
        self._scripts = scripts

    def scope(self, scope_id: str, begin: int, end: int) -> Iterator[int]:
        """Compares the frames of a scope whose periods begin within `[begin, end)`; gives 1 after each.

        With graduated prices the month before `begin` is gone through too, by the other rules, to know what was used: 0
        after each of its frames. Where its usage is unknown, later frames of the month that count on it are, too.
        Raises StoreError.
        """
        month, used, trouble = -1, dict[str, Decimal](), ""
        for stored in self._frames.read(scope_id, month_begin(begin) if self._chain.has_tiers else begin, end):
            period_begin = stored.frame.period_begin
            if self._chain.has_tiers and month_begin(period_begin) != month:
                month, used, trouble = month_begin(period_begin), {}, ""
            lines = self._rated(stored, used)
            for key, qty in lines.used.items() if lines is not None else ():
                used[key] = add_used(used.get(key, ZERO), qty)
            if period_begin >= begin:
                self._compare(stored, lines, trouble if lines is not None and lines.used else "")
            if lines is None and self._chain.has_tiers:
                trouble = trouble or _UNCOUNTED.format(scope_id, iso(period_begin), stored.trouble)
            yield int(period_begin >= begin)

    def _rated(self, stored: StoredFrame, used: Mapping[str, Decimal]) -> LinesAgain | None:
        """The lines by the other rules; None if it is not known what was used."""
        frame, points = stored.frame, stored.points
        if points is None:
            return None
        rating = RatingFrame(frame.scope_id, frame.period_begin, frame.period_end, tuple(points.points), used)
        outcome = self._chain.rate(rating, self._scripts)
        assert outcome is not None, "whoever runs scripts here waits for them"
        return lines_again(frame.scope_id, outcome, points)

    def _compare(self, stored: StoredFrame, again: LinesAgain | None, trouble: str) -> None:
        found, frame = self.found, stored.frame
        found.frames += 1
        if again is None or stored.points is None or trouble:
            found.unknown += 1
            found.note(f"{iso(frame.period_begin)}: {trouble}" if trouble else stored.trouble)
            return
        if again.failure:
            found.failed += 1
            found.note(f"scope {frame.scope_id!r}, {iso(frame.period_begin)}: would fail: {again.failure}")
        self._add_lines(stored.lines, again.lines, frame.scope_id)
        was, would = _unrated_before(stored, stored.points), _unrated_after(stored, stored.points, again)
        for metric, _ in would - was:
            found.of(frame.scope_id, metric).newly_unrated += 1
        for metric, _ in was - would:
            found.of(frame.scope_id, metric).newly_rated += 1

    def _add_lines(self, stored: Sequence[LineRow], again: Sequence[Line], scope_id: str) -> None:
        found = self.found
        old = {line.line_id: line for line in stored}
        for line in again:
            sums = found.of(scope_id, line.metric)
            before = old.pop(line.line_id, None)
            sums.new = _EXACT.add(sums.new, line.price)
            sums.lines += 1
            if before is None:
                sums.changed += 1
                continue
            sums.old = _EXACT.add(sums.old, before.price)
            sums.changed += (before.price, before.qty) != (line.price, line.qty)
        for gone in old.values():
            sums = found.of(scope_id, gone.metric)
            sums.old = _EXACT.add(sums.old, gone.price)
            sums.lines += 1
            sums.changed += 1


Unrated: TypeAlias = set[tuple[str, bytes]]


def _all_points(points: PointsAgain) -> Unrated:
    return {(point.metric, identity) for point, identity in zip(points.points, points.identities, strict=True)}


def _unrated_before(stored: StoredFrame, points: PointsAgain) -> Unrated:
    """The points that have no stored price, by metric and line id."""
    frame = stored.frame
    if frame.status is FrameStatus.FAILED:
        return _all_points(points)
    if len(frame.quarantined) > MAX_NAMED_POINTS:  # not each of them is named
        return _all_points(points) - {(line.metric, bytes.fromhex(line.line_id)) for line in stored.lines}
    return _identities(frame.scope_id, [point for point in frame.quarantined if not point.source])


def _unrated_after(stored: StoredFrame, points: PointsAgain, again: LinesAgain) -> Unrated:
    return _all_points(points) if again.failure else _identities(stored.frame.scope_id, again.refused)


def _identities(scope_id: str, points: Iterable[QuarantinedPoint]) -> Unrated:
    return {
        (point.metric, line_id(scope_id, point.metric, canonical_series(point.groupby, point.metadata)))
        for point in points
    }
