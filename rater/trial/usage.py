"""A usage file through the pricer: lines in, priced lines and totals out, in one pass and constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import ROUND_HALF_EVEN, Context, Decimal

import msgspec

from collectors.errors import ReplayError
from collectors.replay.usage_file import Used
from collectors.replay.usage_reader import Line, open_file
from rater.model.errors import RaterError
from rater.trial.pricing import Measured, Priced, Pricer

__all__ = ["FileTotals", "Refused", "TotalKey", "UsageFileError", "price_file"]

LINES_PER_STEP = 2_000  # between two looks at how far the file is read
_EXACT = Context(prec=200, rounding=ROUND_HALF_EVEN)
_ZERO = Decimal(0)
NOTHING_PUBLISHED = ". Nothing of it was published"  # what a replay has to say of a damaged file, and this has not


class UsageFileError(RaterError):
    """A usage file that cannot be read, or only in part: what stands before the damage was priced."""


class Refused(msgspec.Struct, frozen=True):
    """A line that could not be read."""

    line: int
    reason: str


class TotalKey(msgspec.Struct, frozen=True, order=True):
    """What is added up together."""

    scope_id: str
    metric: str
    unit: str


class _Sum:
    """Exact sums of one key; `failed` counts points without a price."""

    __slots__ = ("failed", "points", "price", "qty")

    def __init__(self) -> None:
        self.points = self.failed = 0
        self.qty = self.price = _ZERO


class FileTotals:
    """Sums per scope, metric and unit, and what went wrong. Grows with the number of these, not with the file."""

    def __init__(self) -> None:
        self.by_key: dict[TotalKey, _Sum] = {}
        self.refused = 0
        self.failed = 0
        self._known: dict[tuple[str, str, str], _Sum] = {}

    def add(self, found: Priced) -> None:
        """Counts a point."""
        point = found.point
        key = (found.sample.scope_id, point.metric, point.unit)
        total = self._known.get(key)
        if total is None:
            total = self._known[key] = self.by_key[TotalKey(*key)] = _Sum()
        if found.error:
            self.failed += 1
            total.failed += 1
        elif not found.dropped:
            total.points += 1
            total.qty = _EXACT.add(total.qty, point.qty)
            total.price = _EXACT.add(total.price, point.price)


def price_file(
    path: str,
    pricer: Pricer,
    totals: FileTotals,
    refuse: Callable[[Refused], None],
    watch: Callable[[int, int], None],
) -> Iterator[Priced]:
    """Prices the samples of a usage file, `-` for standard input, in its order; `covers` lines say nothing here.

    `refuse` is told of each line that cannot be read, `watch` now and then how many of how many bytes are read.
    Raises UsageFileError for a file that cannot be read, UnorderedUsageError, UnprovenPriceError.
    """
    try:
        for sample in _samples(path, totals, refuse, watch):
            for found in pricer.take(sample):
                totals.add(found)
                yield found
    except ReplayError as fault:
        yield from _finished(pricer, totals)
        raise UsageFileError(str(fault).removesuffix(NOTHING_PUBLISHED)) from fault
    yield from _finished(pricer, totals)


def _finished(pricer: Pricer, totals: FileTotals) -> Iterator[Priced]:
    for found in pricer.finish():
        totals.add(found)
        yield found


def _samples(
    path: str, totals: FileTotals, refuse: Callable[[Refused], None], watch: Callable[[int, int], None]
) -> Iterator[Measured]:
    with open_file(path) as file:
        for count, line in enumerate(file.lines(), start=1):
            sample = _measured(line)
            if sample is not None:
                yield sample
            elif line.item is None:
                totals.refused += 1
                refuse(Refused(line.number, line.fault))
            if count % LINES_PER_STEP == 0:
                watch(file.position(), file.total_bytes)


def _measured(line: Line) -> Measured | None:
    item = line.item
    if not isinstance(item, Used):
        return None
    return Measured(
        item.scope_id, item.metric, item.begin, item.end, item.qty, item.unit, item.series, line.number, line.raw
    )
