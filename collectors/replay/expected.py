"""What is expected of whom by the files of a replay, and the plans that say so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from collectors.plans import PlanBook
from collectors.replay.claims import Name
from rater.model.interval import Interval
from rater.model.usage import ScopePlan

__all__ = ["Expected"]

_Metrics: TypeAlias = dict[str, Interval]


class Expected:
    """Each metric of each scope, from the first to the last instant of the files that name both."""

    def __init__(self) -> None:
        self._spans: dict[str, _Metrics] = {}

    def note(self, names: Iterable[Name], span: Interval) -> None:
        """A file that names these scopes and metrics speaks of `span`."""
        for scope_id, metric in names:
            of_scope = self._spans.setdefault(scope_id, {})
            known = of_scope.get(metric, span)
            of_scope[metric] = Interval(min(known.begin, span.begin), max(known.end, span.end))

    def names(self) -> list[Name]:
        """All scopes and metrics of which anything is expected, sorted."""
        return [(scope_id, metric) for scope_id in sorted(self._spans) for metric in sorted(self._spans[scope_id])]

    def scopes(self) -> list[str]:
        """All scopes, sorted."""
        return sorted(self._spans)

    def span(self) -> Interval:
        """From the first to the last instant of all files."""
        spans = [span for of_scope in self._spans.values() for span in of_scope.values()]
        return Interval(min(span.begin for span in spans), max(span.end for span in spans))

    def plans(self, book: PlanBook, source: str, scope_id: str, within: Interval) -> Iterator[ScopePlan]:
        """The plans by which all this is expected within a stretch besides what `book` holds; it takes them."""
        by_stretch: dict[Interval, list[str]] = {}
        for metric, span in self._spans[scope_id].items():
            stretch = Interval(max(span.begin, within.begin), min(span.end, within.end))
            if stretch.begin < stretch.end:
                by_stretch.setdefault(stretch, []).append(metric)
        for stretch, metrics in sorted(by_stretch.items()):
            for plan in book.additions(source, scope_id, stretch, metrics):
                book.take(plan)
                yield plan
