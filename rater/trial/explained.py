"""Stored frames explained: the samples of each line, every step to its price, and the proof that this is the price."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal

import msgspec

from rater.engine import EngineContext
from rater.engine.again import lines_again, out_of_bounds
from rater.model.errors import RaterError
from rater.model.labels import Labels, canonical_series, line_id
from rater.model.rated import FrameStatus
from rater.rating import (
    Chain,
    Failed,
    Module,
    Rated,
    RatingFrame,
    RuleBook,
    ScriptRunner,
)
from rater.rating.explain import Explained, explain_frame
from rater.rating.explanation import Explanation, Number, number_of
from rater.reports import View
from rater.store import FrameRow, LineRow
from rater.trial.counted import used_before
from rater.trial.pricing import Remembered, UnprovenPriceError, check_proven, iso
from rater.trial.stored import Sampled, StoredFrame

__all__ = ["Explainer", "FrameExplained", "LineExplained", "UsageUnknownError", "WithoutPrice"]


class LineExplained(msgspec.Struct, frozen=True, tag_field="kind", tag="line"):
    """A line of a frame: what it was made of, and each step to its price."""

    scope_id: str
    period_begin: str
    """ISO 8601, UTC."""
    period_end: str
    revision: int
    rule_version: int
    line_id: str
    metric: str
    unit: str
    qty: Number
    price: Number
    """As stored; what the steps lead to is the same."""
    groupby: dict[str, str]
    metadata: dict[str, str]
    aggregation: str
    """How samples became the quantity."""
    samples: list[Sampled]
    points: list[Explanation]
    """One, but where modules made several points alike: then they were added up."""


class WithoutPrice(msgspec.Struct, frozen=True, tag_field="kind", tag="without_price"):
    """Usage of a frame that has no price, and why."""

    metric: str
    source: str
    value: str
    reason: str
    groupby: Labels
    metadata: Labels
    samples: list[Sampled]
    steps: Explanation | None


class FrameExplained(msgspec.Struct, frozen=True):
    """All of a frame."""

    frame: FrameRow
    lines: list[LineExplained]
    without_price: list[WithoutPrice]
    dropped: list[Explanation]
    """Points that a module took out."""
    note: str = ""
    """What is missing in the explanation."""


class Explainer:
    """Explains frames by the rules that they were rated by. `book_of` gives the rule book at a version."""

    def __init__(
        self,
        view: View,
        context: EngineContext,
        book_of: Callable[[int], RuleBook],
        scripts: ScriptRunner,
        modules: Mapping[str, Module],
    ) -> None:
        self._view = view
        self._context = context
        self._book_of = book_of
        self._scripts = Remembered(scripts)
        self._modules = modules
        self._chains: dict[int, tuple[RuleBook, Chain]] = {}

    def explain(self, stored: StoredFrame) -> FrameExplained:
        """The frame with all its lines.

        Raises UnprovenPriceError if the steps lead to other prices, UsageUnknownError, CountUnknownError, StoreError.
        """
        frame, points = stored.frame, stored.points
        if frame.status is FrameStatus.FAILED:
            return FrameExplained(frame, [], _quarantined(stored, []), [], f"nothing was rated: {frame.failure}")
        if frame.status in (FrameStatus.EMPTY, FrameStatus.MISSING):
            note = "nothing was used" if frame.status is FrameStatus.EMPTY else "nothing is known of what was used"
            return FrameExplained(frame, [], [], [], note)
        if points is None:
            raise UsageUnknownError(f"{stored.trouble}. Without them the frame cannot be explained")
        book, chain = self._rules(frame.rule_version)
        used: dict[str, Decimal] = {}
        if chain.has_tiers:
            used = used_before(self._view, self._context, self._rules, self._scripts, frame)
        rating = RatingFrame(frame.scope_id, frame.period_begin, frame.period_end, tuple(points.points), used)
        outcome = chain.rate(rating, self._scripts)
        found = explain_frame(book, rating, self._scripts, self._modules)
        for ended in (outcome, found):
            if isinstance(ended, Failed):
                raise UnprovenPriceError(f"{_place(frame)}, was rated, but would not be any more: {ended.text()}")
        assert isinstance(outcome, Rated), "whoever runs scripts here waits for them"
        assert isinstance(found, list), "the same scripts have run"
        check_proven(rating, outcome, found)
        again = {line.line_id: line for line in lines_again(frame.scope_id, outcome, points).lines}
        stored_lines = {line.line_id: line for line in stored.lines}
        _compare(frame, {key: (line.qty, line.price) for key, line in again.items()}, stored_lines)
        by_line: dict[str, list[Explained]] = {}
        for one in found:
            if one.point is not None:
                by_line.setdefault(_line_of(frame, one, points.identities), []).append(one)
        lines = [self._line(stored, line, by_line.get(line.line_id, [])) for line in stored.lines]
        unrated = [one for one in found if one.explanation.error or (one.point and out_of_bounds(one.point))]
        dropped = [one.explanation for one in found if one.explanation.dropped]
        return FrameExplained(frame, lines, _quarantined(stored, unrated), dropped, stored.trouble)

    def _rules(self, version: int) -> tuple[RuleBook, Chain]:
        if version not in self._chains:
            book = self._book_of(version)
            self._chains[version] = book, Chain(book, self._modules)
        return self._chains[version]

    def _line(self, stored: StoredFrame, line: LineRow, found: Sequence[Explained]) -> LineExplained:
        frame = stored.frame
        assert stored.points is not None
        origins = [stored.points.identities[one.origin] for one in found if one.origin >= 0]
        return LineExplained(
            scope_id=frame.scope_id,
            period_begin=iso(frame.period_begin),
            period_end=iso(frame.period_end),
            revision=frame.revision,
            rule_version=frame.rule_version,
            line_id=line.line_id,
            metric=line.metric,
            unit=line.unit,
            qty=number_of(line.qty),
            price=number_of(line.price),
            groupby=line.groupby,
            metadata=line.metadata,
            aggregation=self._context.metric(line.metric).aggregation.value,
            samples=[sample for origin in origins for sample in stored.samples.get(origin, [])],
            points=[one.explanation for one in found],
        )


class UsageUnknownError(RaterError):
    """What a frame was made of cannot be read any more."""


def _line_of(frame: FrameRow, one: Explained, identities: Sequence[bytes]) -> str:
    """The line that a point went into."""
    point, said = one.point, one.explanation
    assert point is not None
    is_same = (point.metric, point.groupby, point.metadata) == (said.metric, said.groupby, said.metadata)
    if one.origin >= 0 and is_same:
        return identities[one.origin].hex()
    return line_id(frame.scope_id, point.metric, canonical_series(point.groupby, point.metadata)).hex()


def _compare(frame: FrameRow, again: Mapping[str, tuple[Decimal, Decimal]], stored: Mapping[str, LineRow]) -> None:
    """Raises UnprovenPriceError unless both have the same lines with the same quantities and prices."""
    faults: list[str] = []
    for key in sorted({*again, *stored}):
        line, found = stored.get(key), again.get(key)
        if line is None:
            faults.append(f"line {key} is not stored")
        elif found is None:
            faults.append(f"line {key} of metric {line.metric!r} follows from no usage")
        elif found != (line.qty, line.price):
            qty, price = map(number_of, found)
            faults.append(
                f"line {key} of metric {line.metric!r}: the steps lead to {qty} and price {price}, stored are "
                f"{number_of(line.qty)} and price {number_of(line.price)}"
            )
    if faults:
        rest = f"\n  and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise UnprovenPriceError(
            f"{_place(frame)}: the stored prices do not follow from the stored usage and version {frame.rule_version} "
            "of the rules. Was an earlier frame of the month revised after this one, metrics.yml changed, a module or "
            "script made to depend on something else?\n  " + "\n  ".join(faults[:5]) + rest
        )


def _place(frame: FrameRow) -> str:
    return f"scope {frame.scope_id!r}, period {iso(frame.period_begin)}, revision {frame.revision}"


def _quarantined(stored: StoredFrame, unrated: Iterable[Explained]) -> list[WithoutPrice]:
    """What the frame says has no price, with the steps up to there where they can be told."""
    steps = {_key(one.explanation.metric, one.explanation.groupby, one.explanation.metadata): one for one in unrated}
    found: list[WithoutPrice] = []
    for point in stored.frame.quarantined:
        key = _key(point.metric, point.groupby, point.metadata)
        one = steps.get(key)
        samples = stored.samples.get(line_id(stored.frame.scope_id, point.metric, key[1]), [])
        found.append(
            WithoutPrice(
                point.metric,
                point.source,
                point.value,
                point.reason,
                point.groupby,
                point.metadata,
                [] if point.source else samples,
                one.explanation if one is not None and not point.source else None,
            )
        )
    return found


def _key(metric: str, groupby: Labels, metadata: Labels) -> tuple[str, bytes]:
    return metric, canonical_series(groupby, metadata)
