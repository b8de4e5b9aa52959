"""Signs that a number of Prometheus is too high or too low though its time was covered: listed, never a gap.

Asked per metric and period, never per scope: a cheap question whether there is anything to look at, and one more, of
the scopes that have it. What is found stands in the notes of the collections that it concerns.
"""

from __future__ import annotations

from collections.abc import Iterable

from collectors.errors import SourceAwayError, SourceError
from collectors.evidence import Sight, Target
from collectors.metrics_yml import Metric
from collectors.prometheus.api import PrometheusApi
from collectors.prometheus.promql import PrometheusArgs, among, selector
from collectors.settings import CompletenessSettings
from rater.model.interval import Interval

__all__ = ["Suspicions"]

_STEPS = 4  # instants of a period that are looked at for duplicates
_DOUBLED_STEPS = 2  # so that a migration, which two targets may show for a moment, is none
_MANY_SCOPES = 100
_ALIKE = 0.05  # two exporters of one thing differ by what it changes between their scrapes; shards of it by more
_SHOWN = 3
_COUNTERS = ("rate", "irate")


class Suspicions:
    """What looks wrong in the numbers of one metric in one period."""

    def __init__(
        self,
        api: PrometheusApi,
        settings: CompletenessSettings,
        scope_key: str,
        grouping: tuple[str, ...],
        period: Interval,
    ) -> None:
        """`grouping`: the labels that name a resource, the scope first, without those of targets."""
        self._api = api
        self._settings = settings
        self._scope_key = scope_key
        self._grouping = grouping
        self._period = period

    async def of(self, metric: Metric, sights: dict[Target, Sight], interval: float) -> dict[str, list[str]]:
        """In words, by scope; '' stands for all of them. Raises SourceAwayError.

        A question that the server finds too much is no reason to do without the answer that it gives to others.
        """
        args = metric.extra_args
        assert isinstance(args, PrometheusArgs), "metrics.yml was read for Prometheus"
        found: dict[str, list[str]] = {}
        try:
            if args.aggregation_method in ("sum", "count"):
                _note(found, self._copies(sights, args.aggregation_method))
                _note(found, await self._shown_twice(metric.metric, args.aggregation_method, interval))
            if args.range_function in _COUNTERS and not self._is_dark_at_begin(sights.values(), interval):
                _note(found, await self._went_on_unseen(metric.metric, interval))
        except SourceAwayError:
            raise
        except SourceError as fault:
            _note(found, {"": f"suspicions could not be looked for: {fault}"[:300]})
        return found

    def _copies(self, sights: dict[Target, Sight], method: str) -> dict[str, str]:
        """Two replicas of Prometheus in one store, without deduplication."""
        doubled = sorted("/".join(target) for target, sight in sights.items() if sight.copies > 1)
        if not doubled:
            return {}
        more = f" and {len(doubled) - _SHOWN} more" if len(doubled) > _SHOWN else ""
        return {
            "": f"suspicion: duplicate source: several series of {self._settings.up} for {', '.join(doubled[:_SHOWN])}"
            f"{more}, as replicas without deduplication write them ({method} takes each of them), or several endpoints "
            "of one target, which collect.completeness.target_labels should tell apart"
        }

    async def _shown_twice(self, metric: str, method: str, interval: float) -> dict[str, str]:
        """Two targets that show the same resource with about the same value, and the query adds them."""
        if len(self._grouping) < 2:
            return {}  # a scope on several targets is as good as always made of several resources
        length = self._period.end - self._period.begin
        ids = ", ".join(self._grouping)
        per_target = ", ".join((*self._settings.target_labels, *self._grouping))
        several = f"count by ({ids}) (count by ({per_target}) (count_over_time({metric}[{length}s]))) > 1"
        scopes = {scope_id for scope_id, _ in await self._by_scope(f"count by ({self._scope_key}) ({several})")}
        if not scopes:
            return {}
        chosen = self._of_scopes(metric, scopes)
        each = f"sum by ({per_target}) ({chosen})"
        alike = f"stddev by ({ids}) ({each}) <= {_ALIKE / 2} * avg by ({ids}) ({each})"
        twice = f"({alike}) and count by ({ids}) ({each}) > 1"
        step = max(round(interval), length // _STEPS, 1)
        query = f"count by ({self._scope_key}) (count_over_time(({twice})[{length}s:{step}s]) >= {_DOUBLED_STEPS})"
        return {
            scope_id: f"suspicion: duplicate source: {number} of its resources are shown by several targets with about "
            f"the same value, and {method} takes each of them"
            for scope_id, number in await self._by_scope(query)
        }

    async def _went_on_unseen(self, metric: str, interval: float) -> dict[str, str]:
        """Counters absent when the period began, though their target answered, that came back above their last value.

        What is turned off comes back at zero; what is only not shown goes on counting, and between the last sample
        before the period and the first one in it nobody bills that.
        """
        length = self._period.end - self._period.begin
        near = round(self._settings.slack * interval * 1000)

        def absent(what: str, chosen: str) -> str:
            at_begin = f"count_over_time({chosen}[{2 * near}ms] offset {length * 1000 - near}ms)"
            return f"count by ({self._scope_key}) ({what} unless {at_begin})"

        scopes = await self._by_scope(absent(metric, metric))  # those that are shown at the end of the period
        if not scopes:
            return {}
        chosen = self._of_scopes(metric, {scope_id for scope_id, _ in scopes})
        before = f"last_over_time({chosen}[{self._settings.lookback}s] offset {length}s)"
        query = absent(f"(min_over_time({chosen}[{length}s]) > {before})", chosen)
        return {
            scope_id: f"suspicion: {number} of its counters were not shown when the period began, and came back above "
            "their last value: what they counted in between is in no period"
            for scope_id, number in await self._by_scope(query)
        }

    def _of_scopes(self, metric: str, scopes: set[str]) -> str:
        return selector(metric, [among(self._scope_key, scopes)] if len(scopes) <= _MANY_SCOPES else [])

    def _is_dark_at_begin(self, sights: Iterable[Sight], interval: float) -> bool:
        near = self._settings.slack * interval
        begin = self._period.begin
        return any(part.begin <= begin + near and part.end >= begin - near for sight in sights for part in sight.dark)

    async def _by_scope(self, query: str) -> list[tuple[str, str]]:
        items = await self._api.query(query, self._period.end)
        return [(item.metric.get(self._scope_key, ""), item.value[1]) for item in items if item.value is not None]


def _note(found: dict[str, list[str]], texts: dict[str, str]) -> None:
    for scope_id, text in texts.items():
        found.setdefault(scope_id, []).append(text)
