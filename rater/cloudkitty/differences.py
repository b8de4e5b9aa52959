"""Two lists of sums side by side: what differs by more than floating point explains. Pure.

CloudKitty keeps quantities and prices as doubles and adds them up as such. A double is off by at most 2^-53 of its
value, and each addition by 2^-53 of its result, so a sum of n points that are not negative is off by (n + 2) * 2^-53 of
itself, ours, which is exact and rounded once, among it. RELATIVE allows for nine million points in one sum, more than
10 000 resources in each hour of a month; one point of a hundred thousand that is missing is 10 000 times as much.
Version 1 of the API writes prices with five decimals, which is off by ROUNDED_V1.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Context, Decimal

import msgspec

from rater.cloudkitty.summaries import Amount, Group, Sums

__all__ = ["RELATIVE", "ROUNDED_V1", "Compared", "Tolerance", "compare", "tolerance_of"]

RELATIVE = Decimal("1e-9")
ROUNDED_V1 = Decimal("0.000005")
_EXACT = Context(prec=1000)  # holds the difference of any two amounts that are read: 400 digits on either side
_SHORT = Context(prec=4)
_NOTHING = Amount(Decimal(0), Decimal(0))


class Tolerance(msgspec.Struct, frozen=True):
    """How far two amounts may be apart: by `absolute`, or by `relative` times the larger one, whichever is more."""

    relative: Decimal = RELATIVE
    absolute: Decimal = Decimal(0)

    def allows(self, one: Decimal, other: Decimal) -> bool:
        """Whether these count as equal."""
        bound = max(self.absolute, _EXACT.multiply(self.relative, max(abs(one), abs(other))))
        return abs(_EXACT.subtract(one, other)) <= bound


class Compared(msgspec.Struct, frozen=True):
    """One scope and metric on both sides; None where a side has no such group."""

    group: Group
    theirs: Amount | None
    ours: Amount | None
    is_equal: bool

    @property
    def where(self) -> str:
        """Which side has it."""
        if self.theirs is None:
            return "only rater"
        return "only CloudKitty" if self.ours is None else "both"

    @property
    def qty(self) -> Decimal | None:
        """Ours less theirs; None if a side does not tell quantities."""
        theirs, ours = (self.theirs or _NOTHING).qty, (self.ours or _NOTHING).qty
        return None if theirs is None or ours is None else _EXACT.subtract(ours, theirs)

    @property
    def rate(self) -> Decimal:
        """Ours less theirs."""
        return _EXACT.subtract((self.ours or _NOTHING).rate, (self.theirs or _NOTHING).rate)

    @property
    def relative_qty(self) -> Decimal | None:
        """`qty` as a part of theirs, to 4 digits; None if theirs is nothing or unknown."""
        return None if self.qty is None else _part(self.qty, (self.theirs or _NOTHING).qty)

    @property
    def relative_rate(self) -> Decimal | None:
        """`rate` as a part of theirs, to 4 digits; None if theirs is nothing."""
        return _part(self.rate, (self.theirs or _NOTHING).rate)


def tolerance_of(theirs: Sums, ours: Sums, relative: Decimal | None, absolute: Decimal | None) -> Tolerance:
    """What is asked for, else what follows from how the two were read."""
    rounded = ROUNDED_V1 * sum(sums.version == 1 for sums in (theirs, ours))
    return Tolerance(RELATIVE if relative is None else relative, rounded if absolute is None else absolute)


def compare(theirs: Sums, ours: Sums, tolerance: Tolerance) -> Iterator[Compared]:
    """Every group of either side, by scope and metric. A side that has none has an amount of 0 of it."""
    for group in sorted(theirs.rows.keys() | ours.rows.keys()):
        one, other = theirs.rows.get(group), ours.rows.get(group)
        left, right = one or _NOTHING, other or _NOTHING
        known = left.qty is not None and right.qty is not None
        equal_qty = not known or tolerance.allows(left.qty or Decimal(0), right.qty or Decimal(0))
        yield Compared(group, one, other, equal_qty and tolerance.allows(left.rate, right.rate))


def _part(difference: Decimal, whole: Decimal | None) -> Decimal | None:
    return _SHORT.divide(difference, abs(whole)) if whole else None
