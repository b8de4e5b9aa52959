"""Whom a dark target concerns: the resources it showed just before, and those its first answer afterwards shows.

Time in which another target that was not dark showed the same resource is not missing: so an exporter of a redundant
pair, a live migration and a decommissioned host are no gap, while a dark shard of several is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import NamedTuple, TypeAlias

from collectors.evidence import Sight, Target, grouped, known_spans
from collectors.prometheus.api import Item, PrometheusApi
from collectors.prometheus.promql import among, selector
from collectors.prometheus.scrapes import Scrapes
from collectors.settings import CompletenessSettings
from rater.model.interval import Interval, clip, overlaps, subtract

__all__ = ["Darkness"]

_STEPS_BEFORE = 6  # scrapes looked at before a target went dark
_STEPS_TOGETHER = 3  # of them two targets must share to be a redundant pair: a migration shares none or one
_MANY_SCOPES = 100

Resource: TypeAlias = tuple[str, ...]


class _Dark(NamedTuple):
    target: Target
    span: Interval


class _Concern(NamedTuple):
    """A resource that a dark target may have shown."""

    dark: _Dark
    resource: Resource
    before: bool
    """Shown just before; else only by the first answer afterwards."""


class Darkness:
    """The dark targets of one metric in one period."""

    def __init__(
        self,
        api: PrometheusApi,
        settings: CompletenessSettings,
        scrapes: Scrapes,
        grouping: tuple[str, ...],
        period: Interval,
        metric: str,
    ) -> None:
        """`grouping`: the labels that name a resource, the scope first."""
        self._api = api
        self._settings = settings
        self._scrapes = scrapes
        self._grouping = grouping
        self._period = period
        self._metric = metric

    async def concerned(self, sights: dict[Target, Sight]) -> dict[str, list[Interval]]:
        """What is missing, by scope. Raises SourceError."""
        darks = [
            _Dark(target, dark)
            for target, sight in sights.items()
            for dark in sight.dark
            if overlaps(dark, self._period)
        ]
        if not darks:
            return {}
        interval = max(sight.interval for sight in sights.values())
        before, after = await asyncio.gather(self._shown_before(darks, interval), self._shown_after(darks, interval))
        concerns = [_Concern(*pair, before=True) for pair in before]
        concerns += [_Concern(*pair, before=False) for pair in after - before]
        if not concerns:
            return {}
        others = await self._others(concerns, sights, interval)
        missing: dict[str, list[Interval]] = {}
        for concern in concerns:
            hole = subtract(clip([concern.dark.span], self._period), others(concern))
            if hole:
                missing.setdefault(concern.resource[0], []).extend(hole)
        return missing

    async def _shown_before(self, darks: list[_Dark], interval: float) -> set[tuple[_Dark, Resource]]:
        """The resources in the last scrapes before each target went dark."""
        known = [dark for dark in darks if dark.span.begin > 0]
        window = self._settings.slack * interval

        async def ask(group: list[int]) -> set[tuple[_Dark, Resource]]:
            chosen = {dark.target: dark for dark in known if dark.span.begin in group}
            return await self._shown(chosen, group[-1], window + group[-1] - group[0])

        return await _each(ask, grouped((dark.span.begin for dark in known), interval / 2))

    async def _shown_after(self, darks: list[_Dark], interval: float) -> set[tuple[_Dark, Resource]]:
        """The resources in the first scrape after each target was dark, as far as that has been."""
        until = self._scrapes.until()
        known = [dark for dark in darks if dark.span.begin > 0 and dark.span.end + interval / 4 <= until]

        async def ask(group: list[int]) -> set[tuple[_Dark, Resource]]:
            chosen = {dark.target: dark for dark in known if dark.span.end in group}
            return await self._shown(chosen, group[-1] + interval / 4, group[-1] - group[0] + interval / 2)

        return await _each(ask, grouped((dark.span.end for dark in known), interval / 4))

    async def _shown(self, chosen: dict[Target, _Dark], at: float, window: float) -> set[tuple[_Dark, Resource]]:
        metric = self._scrapes.selected(self._metric, chosen)
        items = await self._api.query(self._counted(metric, window), at)
        return {
            (chosen[target], resource)
            for target, resource in map(self._names, items)
            if target in chosen and resource[0]
        }

    def _counted(self, metric: str, window: float) -> str:
        labels = ", ".join((*self._settings.target_labels, *self._grouping))
        return f"count by ({labels}) (count_over_time({metric}[{round(window * 1000)}ms]))"

    def _names(self, item: Item) -> tuple[Target, Resource]:
        labels = item.metric
        return (
            tuple(labels.get(label, "") for label in self._settings.target_labels),
            tuple(labels.get(label, "") for label in self._grouping),
        )

    # --- who else showed them

    async def _others(
        self, concerns: list[_Concern], sights: dict[Target, Sight], interval: float
    ) -> Callable[[_Concern], list[Interval]]:
        """A function that gives the time in which others knew of a resource that a dark target concerns."""
        if len(sights) < 2:
            return lambda concern: []
        steps = await self._steps(concerns, interval)
        slack = self._settings.slack
        span = Interval(self._period.begin, self._period.end)

        def known(concern: _Concern) -> list[Interval]:
            found: list[Interval] = []
            for target, seen in steps.get(concern.resource, {}).items():
                sight = sights.get(target)
                if sight is None or target == concern.dark.target:
                    continue
                lit = sight.lit(span)
                own = steps[concern.resource].get(concern.dark.target, set())
                if self._is_pair(own & seen, concern.dark.span.begin, interval):
                    found += lit  # it would have gone on to show the resource if that had lived on
                    continue
                spans = known_spans(seen, interval, slack)
                shown = [part for piece in lit for part in clip(spans, piece)]
                if shown and not concern.before:
                    return [span]  # it was here before the dark target showed it: nothing is hidden
                found += shown
            return found

        return known

    def _is_pair(self, shared: set[float], dark_begin: int, interval: float) -> bool:
        """Whether two targets showed a resource together before one of them went dark."""
        early = dark_begin - (_STEPS_BEFORE + 1) * interval
        return sum(1 for step in shared if early <= step <= dark_begin) >= _STEPS_TOGETHER

    async def _steps(self, concerns: list[_Concern], interval: float) -> dict[Resource, dict[Target, set[float]]]:
        """At which steps (one interval long each) every target showed the resources in question."""
        reach = _STEPS_BEFORE * interval
        begins = {concern.dark.span.begin for concern in concerns}
        fresh = [begin for begin in begins if begin > self._period.begin - reach]
        ranges = [(min([self._period.begin, *fresh]) - reach, min(self._period.end + interval, self._scrapes.until()))]
        old = grouped((begin for begin in begins if begin not in fresh), interval)
        ranges += [(group[0] - reach, group[-1]) for group in old]
        scopes = {concern.resource[0] for concern in concerns}
        matchers = [among(self._grouping[0], scopes)] if len(scopes) <= _MANY_SCOPES else []
        query = self._counted(selector(self._metric, matchers), interval)
        answers = await asyncio.gather(*(self._api.query_range(query, begin, end, interval) for begin, end in ranges))
        found: dict[Resource, dict[Target, set[float]]] = {}
        for items in answers:
            for item in items:
                target, resource = self._names(item)
                found.setdefault(resource, {}).setdefault(target, set()).update(at for at, _ in item.values)
        return found


async def _each(
    ask: Callable[[list[int]], Coroutine[None, None, set[tuple[_Dark, Resource]]]], groups: list[list[int]]
) -> set[tuple[_Dark, Resource]]:
    answers = await asyncio.gather(*(ask(group) for group in groups))
    return {pair for answer in answers for pair in answer}
