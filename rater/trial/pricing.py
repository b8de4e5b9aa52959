"""Prices usage as it comes, sample by sample or frame by frame, by the rules of one book and with the stream's code.

What `rater rate` does without a server: no collections, no windows, no store; each sample is one point.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeAlias

import msgspec

from rater.engine.again import canonical, out_of_bounds
from rater.model.errors import RaterError
from rater.model.labels import series_labels
from rater.rating import (
    Chain,
    Failed,
    Module,
    Rated,
    RatingFrame,
    RatingPoint,
    RuleBook,
    ScriptDone,
    ScriptJob,
    ScriptRunner,
    add_used,
    month_begin,
)
from rater.rating.chain import NOOP, PYSCRIPTS
from rater.rating.explain import Explained, explain_frame
from rater.rating.explanation import Explanation
from rater.rating.hashmap import MODULE as HASHMAP

__all__ = [
    "Measured",
    "Priced",
    "Pricer",
    "Remembered",
    "UnorderedUsageError",
    "UnprovenPriceError",
    "check_proven",
    "iso",
    "keeps_points",
]

ZERO = Decimal(0)
MAX_RUN = 2_000  # points of one frame at once where points do not see each other
NO_UNIT = "undefined"


class UnorderedUsageError(RaterError):
    """Usage comes in an order in which it cannot be priced in one pass."""


class UnprovenPriceError(RaterError):
    """The steps of an explanation do not lead to the price: a defect of rater, never of the rules."""


def keeps_points(book: RuleBook) -> bool:
    """Whether no module of the book can change anything of a point but its price, or drop or add one."""
    enabled = {module.module for module in book.modules.values() if module.enabled}
    without_effect = {HASHMAP, NOOP} | (set() if book.scripts_in_order() else {PYSCRIPTS})
    return enabled <= without_effect


class Measured(msgspec.Struct, frozen=True, gc=False):
    """A sample to price: `[begin, end)` in seconds since the epoch, UTC. `series` as `canonical_series` makes it."""

    scope_id: str
    metric: str
    begin: int
    end: int
    qty: Decimal
    unit: str | None
    series: bytes
    line: int = 0
    """Its line in the file."""
    raw: bytes = b""
    """The line itself, where that is JSON."""


_Taken: TypeAlias = tuple[Measured, RatingPoint]


class Priced(msgspec.Struct, frozen=True, gc=False):
    """What became of one sample."""

    number: int
    """Of the sample as it was taken, from 0; of a point that a module added, that of the last sample of its frame."""
    sample: Measured
    """What came; for an added point its frame's scope and period."""
    point: RatingPoint
    """As the modules left it; as it came, if it has no price."""
    error: str = ""
    dropped: bool = False
    added: bool = False
    changed: bool = False
    """Whether a module changed anything but the price."""
    because: Explanation | None = None


class Remembered:
    """Runs scripts and keeps the last outcome: pricing and explaining a frame need it both, and it runs once."""

    def __init__(self, scripts: ScriptRunner) -> None:
        self._scripts = scripts
        self._last: tuple[ScriptJob, ScriptDone | Failed | None] | None = None

    def run(self, job: ScriptJob) -> ScriptDone | Failed | None:
        """What became of the job."""
        if self._last is None or self._last[0] != job:
            self._last = job, self._scripts.run(job)
        return self._last[1]


class Pricer:
    """Takes samples in their order and gives back what they cost, in the same order.

    Where modules look at whole frames (scripts, third parties), all points of one scope and period are kept until the
    next one begins; otherwise at most MAX_RUN of them.
    """

    def __init__(
        self,
        book: RuleBook,
        scripts: ScriptRunner,
        modules: Mapping[str, Module],
        period_seconds: int,
        *,
        explain: bool = False,
    ) -> None:
        self._book = book
        self._chain = Chain(book, modules)
        self._scripts = Remembered(scripts) if explain else scripts
        self._modules = modules
        self._period = period_seconds
        self._explain = explain
        self._whole_frames = not keeps_points(book)
        self._numbers = 0
        self._key: tuple[str, int] = ("", -1)
        self._run: list[_Taken] = []
        self._used: dict[str, tuple[int, dict[str, Decimal]]] = {}
        self._last: dict[str, int] = {}

    def take(self, sample: Measured) -> Iterator[Priced]:
        """Takes a sample; gives those that are done by it. Raises UnorderedUsageError, UnprovenPriceError."""
        key = (sample.scope_id, sample.begin - sample.begin % self._period)
        if key != self._key:
            yield from self.finish()
            self._begin_frame(key)
        elif len(self._run) >= MAX_RUN and not self._whole_frames:
            yield from self.finish()
        if self._chain.tiers_of(sample.metric) is not None:
            self._check_rising(sample)
        groupby, metadata = series_labels(sample.series)
        unit, qty = sample.unit or NO_UNIT, canonical(sample.qty)
        self._run.append((sample, RatingPoint(sample.metric, unit, qty, ZERO, groupby, metadata, len(self._run))))

    def finish(self) -> Iterator[Priced]:
        """Gives what is still kept. Raises UnprovenPriceError."""
        run, self._run = self._run, []
        if run:
            first = self._numbers
            self._numbers += len(run)
            yield from self._rated(run, first)

    def _begin_frame(self, key: tuple[str, int]) -> None:
        if self._whole_frames and key < self._key:
            raise UnorderedUsageError(
                f"scope {key[0]!r}, period {iso(key[1])}, comes after scope {self._key[0]!r}, period "
                f"{iso(self._key[1])}: modules such as pyscripts see all points of a scope and period at once, so "
                "order the usage by scope_id (by its characters' numbers, as `LC_ALL=C sort` does) and begin"
            )
        self._key = key

    def _check_rising(self, sample: Measured) -> None:
        last = self._last.get(sample.scope_id, 0)
        if sample.begin < last:
            raise UnorderedUsageError(
                f"scope {sample.scope_id!r}: a sample of metric {sample.metric!r} with begin {iso(sample.begin)} comes "
                f"after one with begin {iso(last)}: graduated prices count what was used before in the month, so order "
                "the usage of each scope by begin"
            )
        self._last[sample.scope_id] = sample.begin

    def _rated(self, run: list[_Taken], first: int) -> Iterator[Priced]:
        scope_id, begin = self._key
        points = tuple([point for _, point in run])
        frame = RatingFrame(scope_id, begin, begin + self._period, points, self._used_before(scope_id, begin))
        outcome = self._chain.rate(frame, self._scripts)
        assert outcome is not None, "whoever runs scripts here waits for them"
        if isinstance(outcome, Failed):
            for number, (sample, point) in enumerate(run, first):
                yield Priced(number, sample, point, outcome.text())
            return
        if outcome.used:
            self._count(scope_id, month_begin(begin), outcome.used)
        because = self._explained(frame, outcome) if self._explain else None
        yield from _in_order(frame, run, first, outcome, because)

    def _explained(self, frame: RatingFrame, outcome: Rated) -> list[Explained]:
        found = explain_frame(self._book, frame, self._scripts, self._modules)
        assert isinstance(found, list), "the same scripts have run"
        check_proven(frame, outcome, found)
        return found

    def _used_before(self, scope_id: str, begin: int) -> Mapping[str, Decimal]:
        if scope_id not in self._used:
            return {}
        month, used = self._used[scope_id]
        return used if month == month_begin(begin) else {}

    def _count(self, scope_id: str, month: int, more: Mapping[str, Decimal]) -> None:
        known, used = self._used.get(scope_id, (month, {}))
        if known != month:
            used = {}
        self._used[scope_id] = month, used | {key: add_used(used.get(key, ZERO), qty) for key, qty in more.items()}


def check_proven(frame: RatingFrame, outcome: Rated, found: Sequence[Explained]) -> None:
    """Raises UnprovenPriceError unless the explanations end at the prices that the chain came to."""
    explained = sorted((one.origin, one.point.price) for one in found if one.point is not None)
    seen: set[int] = set()
    rated: list[tuple[int, Decimal]] = []
    for point in outcome.points:
        rated.append((-1 if point.origin in seen else point.origin, point.price))
        seen.add(point.origin)
    if explained != sorted(rated):
        wrong = [f"{number} costs {price}" for number, price in sorted(set(rated) - set(explained))]
        raise UnprovenPriceError(
            f"scope {frame.scope_id!r}, period {iso(frame.period_begin)}: the steps lead to other prices than those of "
            f"points {', '.join(wrong[:5]) or 'that are there'}: please report this as a defect of rater"
        )


def _in_order(
    frame: RatingFrame, run: list[_Taken], first: int, outcome: Rated, found: Sequence[Explained] | None
) -> Iterator[Priced]:
    """The samples of a run in their order, then what modules added."""
    done: dict[int, RatingPoint] = {}
    added: list[tuple[RatingPoint, str]] = []
    for point in outcome.points:
        if point.origin < 0 or point.origin in done:
            added.append((point, ""))
        else:
            done[point.origin] = point
    unrated: dict[int, str] = {}
    for one in outcome.unrated:
        if one.point.origin < 0 or one.point.origin in done or one.point.origin in unrated:
            added.append((one.point, one.reason))
        else:
            unrated[one.point.origin] = one.reason
    said = list(found or ())
    for number, (sample, point) in enumerate(run):
        because = said[number].explanation if said else None
        if number in done:
            yield _priced(first + number, sample, done[number], point, because)
        elif number in unrated:
            yield Priced(first + number, sample, point, unrated[number], because=because)
        else:
            yield Priced(first + number, sample, point, dropped=True, because=because)
    rest = said[len(run) :]
    for point, reason in added:
        because = next((one.explanation for one in rest if one.point is None or one.point == point), None)
        yield _added(first + len(run) - 1, frame, point, reason, because)


def _priced(number: int, sample: Measured, point: RatingPoint, was: RatingPoint, because: Explanation | None) -> Priced:
    beyond = out_of_bounds(point)
    if beyond:
        return Priced(number, sample, was, beyond, because=because)
    return Priced(number, sample, _final(point), changed=_differs(point, was), because=because)


def _added(number: int, frame: RatingFrame, point: RatingPoint, reason: str, because: Explanation | None) -> Priced:
    reason = reason or out_of_bounds(point)
    found = point if reason else _final(point)
    place = Measured(
        frame.scope_id or "", point.metric, frame.period_begin, frame.period_end, point.qty, point.unit, b""
    )
    return Priced(number, place, found, reason, added=True, changed=True, because=because)


def _final(point: RatingPoint) -> RatingPoint:
    """As it is published: at most 38 decimals."""
    return RatingPoint(
        point.metric,
        point.unit,
        canonical(point.qty),
        canonical(point.price),
        point.groupby,
        point.metadata,
        point.origin,
    )


def _differs(point: RatingPoint, was: RatingPoint) -> bool:
    """Whether a module changed anything but the price."""
    if point.groupby is was.groupby and point.metadata is was.metadata:
        return point.qty != was.qty or point.unit != was.unit or point.metric != was.metric
    before = (was.metric, was.unit, was.qty, was.groupby, was.metadata)
    return before != (point.metric, point.unit, point.qty, point.groupby, point.metadata)


def iso(instant: int) -> str:
    """`2026-01-05T09:00:00Z` for seconds since the epoch, UTC."""
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
