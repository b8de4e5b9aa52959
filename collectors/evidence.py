"""The arithmetic of proof: when a target answered, when it was dark, and what of a period that leaves proven.

Pure functions and values; `collectors.prometheus.evidence` asks the questions. Times are seconds since the epoch,
whole ones wherever coverage is made of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median
from typing import Literal, TypeAlias

import msgspec

from collectors.times import iso
from rater.model.interval import Interval, clip, subtract, union

__all__ = [
    "FOREVER",
    "MetricEvidence",
    "Sight",
    "Target",
    "Verdict",
    "dark_intervals",
    "grouped",
    "interval_of",
    "known_spans",
    "lost_scrapes",
    "shown",
    "together",
]

FOREVER = 253_402_300_800  # the end of a dark interval that has not ended as far as anyone has looked
_LONG_AGO = 0  # the begin of one whose begin nobody has seen

Target: TypeAlias = tuple[str, ...]
"""The values of `completeness.target_labels`."""


class Sight(msgspec.Struct, frozen=True):
    """When one target was seen to answer."""

    target: Target
    interval: float
    """Seconds between its scrapes."""
    dark: list[Interval]
    first: int
    """Its first success if it is younger than the lookback, else 0."""
    last_seen: float
    """Its latest `up` sample, successful or not; 0 if there is none near the period."""
    lost: int = 0
    """Single scrapes that failed within the period, too few in a row to be dark."""
    copies: int = 1
    """How many series of `up` it has at the same time."""

    def lit(self, span: Interval) -> list[Interval]:
        """The parts of `span` in which it answered."""
        return subtract([span], [*self.dark, Interval(_LONG_AGO, self.first)])

    def has_settled(self, end: int) -> bool:
        """Whether it is known what the target did at `end`: it was seen an interval later, or is dark from there on."""
        if self.last_seen >= end + self.interval:
            return True
        return any(dark.begin <= end + 2 * self.interval and dark.end > end for dark in self.dark)


class Verdict(msgspec.Struct, frozen=True):
    """What an answer for one scope proves."""

    covers: list[Interval]
    proof: Literal["proven", "weak"]
    note: str


class MetricEvidence(msgspec.Struct, frozen=True):
    """What is known of one metric in one period: what is missing for all scopes, and what for single ones."""

    period: Interval
    summary: str
    """Who looked, in words."""
    missing: list[Interval] = []
    missing_of: dict[str, list[Interval]] = {}
    unseen: list[Interval] = []
    """Time that nobody saw; a scope of which nothing was there before and after is covered, but weakly."""
    weak: bool = False
    lost: int = 0
    """Single scrapes that failed, of the target that lost most."""
    reasons: list[str] = []
    reasons_of: dict[str, list[str]] = {}
    suspicions_of: dict[str, list[str]] = {}
    """What looks wrong without proof, in words; under '' what concerns all scopes. It changes no coverage."""

    def holes(self, scope_id: str) -> list[Interval]:
        """What is missing of the period for one scope."""
        return clip([*self.missing, *self.missing_of.get(scope_id, ())], self.period)

    def seen(self, scope_id: str) -> list[Interval]:
        """The parts of the period in which somebody looked who would have shown usage of the scope."""
        return subtract([self.period], [*self.holes(scope_id), *self.unseen])

    def beside(self, other: MetricEvidence, scope_id: str) -> MetricEvidence:
        """What both know of a scope of which both show nothing: what either saw is seen."""
        dark = together((subtract([self.period], evidence.seen(scope_id)) for evidence in (self, other)), self.period)
        holes = [part for hole in union([*self.holes(scope_id), *other.holes(scope_id)]) for part in clip(dark, hole)]
        return MetricEvidence(
            self.period,
            self.summary,
            missing=union(holes),
            unseen=subtract(dark, holes),
            weak=self.weak or other.weak,
        )

    def of(self, scope_id: str) -> Verdict:
        """What is proven for one scope, used or not."""
        holes = self.holes(scope_id)
        covers = subtract([self.period], holes)
        reasons = [*self.reasons, *self.reasons_of.get(scope_id, ())]
        suspicions = [text for key in {"", scope_id} for text in self.suspicions_of.get(key, ())]
        unseen = clip(subtract(self.unseen, holes), self.period)
        if unseen:
            reasons.append(f"nobody looked {shown(unseen)}; nothing of this scope was there before or after")
        note = "; ".join([self.summary, *reasons, *sorted(suspicions)])
        return Verdict(covers, "weak" if self.weak or unseen else "proven", note[:2000])


def shown(intervals: Iterable[Interval], at_most: int = 5) -> str:
    """Intervals for people; an end that nobody has seen is left out."""
    listed = list(intervals)
    texts = [f"{iso(begin)} to {iso(end) if end != FOREVER else 'now'}" for begin, end in listed[:at_most]]
    if len(listed) > at_most:
        texts.append(f"{len(listed) - at_most} more")
    return ", ".join(texts)


def interval_of(sampled_at: Sequence[float]) -> float | None:
    """The scrape interval: the median distance of the samples, rounded to a second if it is one or more.

    Of a few samples the least distance, since outages may lie between most of them. None for fewer than three samples.
    """
    if len(sampled_at) < 3:
        return None
    distances = [later - earlier for earlier, later in pairwise(sampled_at)]
    typical = median(distances) if len(distances) >= 6 else min(distances)
    return float(round(typical)) if typical >= 1 else typical


def dark_intervals(
    successes: Sequence[float], interval: float, slack: float, since: float, until: float
) -> list[Interval]:
    """The times between successes that are more than `slack` intervals apart: from the last success + interval on.

    A success at t covers `[t, t + interval)`. `[since, until]` is what was looked at: dark time at its begin has begun
    long ago (0), dark time at its end lasts (FOREVER).
    """
    if not successes:
        return [Interval(_LONG_AGO, FOREVER)]
    longest = slack * interval
    dark: list[Interval] = []
    if successes[0] - since > longest:
        dark.append(Interval(_LONG_AGO, round(successes[0])))
    for last, following in pairwise(successes):
        if following - last > longest:
            dark.append(Interval(round(last + interval), round(following)))
    if until - successes[-1] > longest:
        dark.append(Interval(round(successes[-1] + interval), FOREVER))
    return dark


def lost_scrapes(successes: Sequence[float], interval: float, slack: float, period: Interval) -> int:
    """How many single scrapes are missing within the period, dark times not counted."""
    lost = 0
    for last, following in pairwise(successes):
        if period.begin <= last < period.end and following - last <= slack * interval:
            lost += max(0, round((following - last) / interval) - 1)
    return lost


def known_spans(steps: Iterable[float], interval: float, slack: float) -> list[Interval]:
    """The time that steps stand for, each for the interval before it; what lies closer than `slack` is joined."""
    spans: list[Interval] = []
    for step in sorted(steps):
        begin, end = round(step - interval), round(step)
        if spans and end - spans[-1].end <= slack * interval:
            spans[-1] = Interval(spans[-1].begin, end)
        else:
            spans.append(Interval(begin, end))
    return spans


def together(sets: Iterable[list[Interval]], span: Interval) -> list[Interval]:
    """The parts of `span` that lie in every one of the sets; all of it if there is none."""
    left = [span]
    for one in sets:
        left = [part for piece in left for part in clip(one, piece)]
    return left


def grouped(instants: Iterable[int], width: float) -> list[list[int]]:
    """Instants in groups that span at most `width`, so that one question does for each group."""
    groups: list[list[int]] = []
    for instant in sorted(set(instants)):
        if groups and instant - groups[-1][0] <= width:
            groups[-1].append(instant)
        else:
            groups.append([instant])
    return groups
