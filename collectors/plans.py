"""What a source has said to be expected of its scopes: the scope plans, read in order, as one function of time.

A plan replaces what was said before of its time. So whoever publishes a plan for a stretch that is already planned
must know the earlier one, or it would silently take metrics out of what is expected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from rater.model.interval import Interval
from rater.model.usage import ScopePlan

__all__ = ["FOREVER", "PlanBook", "Stretch"]

FOREVER = 253_402_300_800  # a plan without `until`

_NOTHING: frozenset[str] = frozenset()


class Stretch(NamedTuple):
    """`[begin, end)` in which exactly `metrics` are expected."""

    begin: int
    end: int
    metrics: frozenset[str]


class PlanBook:
    """The plans of one source, by scope."""

    def __init__(self) -> None:
        self._stretches: dict[str, list[Stretch]] = {}

    def scopes(self) -> list[str]:
        """Every scope that was planned at some time."""
        return sorted(self._stretches)

    def forget(self, is_wanted: Callable[[str], bool]) -> None:
        """Keep only the scopes that are wanted."""
        self._stretches = {scope_id: found for scope_id, found in self._stretches.items() if is_wanted(scope_id)}

    def add(self, other: PlanBook) -> None:
        """Take over the scopes of another book, of which nothing is known here."""
        self._stretches.update(other._stretches)

    def take(self, plan: ScopePlan) -> None:
        """Note a plan; it replaces what was planned for its time."""
        until = FOREVER if plan.until is None else plan.until
        kept: list[Stretch] = []
        for stretch in self._stretches.get(plan.scope_id, []):
            if stretch.begin < plan.begin:
                kept.append(stretch._replace(end=min(stretch.end, plan.begin)))
            if stretch.end > until:
                kept.append(stretch._replace(begin=max(stretch.begin, until)))
        kept.append(Stretch(plan.begin, until, frozenset(plan.metrics)))
        self._stretches[plan.scope_id] = _joined(kept)

    def stretches(self, scope_id: str, within: Interval) -> list[Stretch]:
        """What is expected of a scope, in order and without holes; time without plan is a stretch without metrics."""
        found: list[Stretch] = []
        reached = within.begin
        for stretch in self._stretches.get(scope_id, []):
            begin, end = max(stretch.begin, within.begin), min(stretch.end, within.end)
            if begin >= end:
                continue
            if begin > reached:
                found.append(Stretch(reached, begin, _NOTHING))
            found.append(Stretch(begin, end, stretch.metrics))
            reached = end
        if reached < within.end:
            found.append(Stretch(reached, within.end, _NOTHING))
        return _joined(found)

    def additions(self, source: str, scope_id: str, span: Interval, metrics: Iterable[str]) -> list[ScopePlan]:
        """The plans by which `metrics` are expected within `span` besides whatever was expected there before."""
        wanted = frozenset(metrics)
        changed = [
            stretch._replace(metrics=stretch.metrics | wanted)
            for stretch in self.stretches(scope_id, span)
            if not wanted <= stretch.metrics
        ]
        return [
            ScopePlan(source, scope_id, begin, None if end == FOREVER else end, sorted(names))
            for begin, end, names in _joined(changed)
        ]


def _joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    """In order of time; neighbours with the same metrics are one."""
    joined: list[Stretch] = []
    for stretch in sorted(stretches, key=lambda s: s.begin):
        if joined and joined[-1].end == stretch.begin and joined[-1].metrics == stretch.metrics:
            joined[-1] = joined[-1]._replace(end=stretch.end)
        else:
            joined.append(stretch)
    return joined
