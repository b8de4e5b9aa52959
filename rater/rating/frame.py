"""What rating modules are given and give back: the points of one frame, priced one module after the other.

For everybody who rates: the engine, `rater rate`, what-if, and modules of third parties (`Module`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Protocol

import msgspec

from rater.model.labels import Labels
from rater.model.rules import Script
from rater.rating.book import RuleBook

__all__ = [
    "Failed",
    "Module",
    "Rated",
    "RatingFrame",
    "RatingPoint",
    "ScriptDone",
    "ScriptJob",
    "ScriptRunner",
    "UnratedPoint",
]


class RatingPoint(msgspec.Struct, frozen=True, gc=False):
    """One resource in one period: its quantity, and the price that the modules so far came to.

    `origin` is its index among the points that the frame had at first, -1 if a module added it.
    """

    metric: str
    unit: str
    qty: Decimal
    price: Decimal
    groupby: Labels
    metadata: Labels
    origin: int = -1


class RatingFrame(msgspec.Struct, frozen=True):
    """The points of one scope in one period `[period_begin, period_end)`, seconds since the epoch, UTC.

    Scope None, of a quotation, goes by the rules for everybody alone. `used` is what the scope has used before this
    period in its month, by `tier_key`; only metrics with graduated prices need it.
    """

    scope_id: str | None
    period_begin: int
    period_end: int
    points: tuple[RatingPoint, ...]
    used: Mapping[str, Decimal] = {}


class UnratedPoint(msgspec.Struct, frozen=True):
    """A point that no rule can read: it is put aside, its neighbours are rated."""

    point: RatingPoint
    reason: str


class Rated(msgspec.Struct, frozen=True):
    """A frame after all modules."""

    points: list[RatingPoint]
    unrated: list[UnratedPoint] = []
    used: dict[str, Decimal] = {}
    """What this frame adds to the counts of graduated prices, by `tier_key`."""


class Failed(msgspec.Struct, frozen=True):
    """A frame that cannot be rated: nothing of it is."""

    module: str
    script: str
    """Name of the script; empty for a module that is none."""
    line: int
    """In the script, from 1; 0 if it is not known."""
    reason: str
    by_chance: bool = False
    """It may succeed another time: a limit of time on a machine under load, a process that broke off."""

    def text(self) -> str:
        """One line: `script 'rebate', line 3: ZeroDivisionError: division by zero`."""
        place = f"script {self.script!r}" if self.script else f"module {self.module!r}"
        return f"{place}{f', line {self.line}' if self.line else ''}: {self.reason}"


class Module(Protocol):
    """A rating module of a third party, registered under its name as entry point `rater.rating`.

    A pure function: the same frame and rules always give the same points, since a frame may be rated again at any
    time, by any worker. It returns all points of the frame, in any order, with prices set or added to; what it leaves
    out is dropped. It raises any exception to fail the frame, and never changes its arguments.
    """

    def __call__(self, frame: RatingFrame, rules: RuleBook) -> Iterable[RatingPoint]:
        """The points of the frame after this module."""


class ScriptJob(msgspec.Struct, frozen=True):
    """Scripts to run over the points of a frame, one after the other."""

    scripts: tuple[Script, ...]
    frame: RatingFrame


class ScriptDone(msgspec.Struct, frozen=True):
    """The points after all scripts, by metric, and what the scripts printed (its begin)."""

    points: list[RatingPoint]
    printed: str = ""


class ScriptRunner(Protocol):
    """Who runs scripts, somewhere where they can do no harm."""

    def run(self, job: ScriptJob) -> ScriptDone | Failed | None:
        """What became of the job; None if that is not known yet: ask again later with an equal job."""
