"""Gathers what Prometheus itself proves of a metric in a period, by questions per metric and target, never per scope.

The rules and their order are those of EVIDENCE.md beside this file. Each question must get a whole answer, else there
is no evidence at all (SourceError).
"""

from __future__ import annotations

import asyncio

import msgspec

from collectors.bounded import remembered
from collectors.errors import NotSettledError
from collectors.evidence import (
    MetricEvidence,
    Sight,
    Target,
    dark_intervals,
    interval_of,
    known_spans,
    shown,
    together,
)
from collectors.metrics_yml import Metric
from collectors.prometheus.api import Item, PrometheusApi
from collectors.prometheus.darkness import Darkness
from collectors.prometheus.promql import PrometheusArgs, names_in, selector
from collectors.prometheus.scrapes import Scrapes
from collectors.prometheus.suspicions import Suspicions
from collectors.settings import CompletenessSettings, EvidenceSettings
from collectors.times import iso
from rater.model.interval import Interval, clip, subtract, union

__all__ = ["PrometheusEvidence"]

_DEFAULT_INTERVAL = 60.0
_STALENESS = 300.0  # how long Prometheus shows a sample that has no successor
_LEAST_SETTLE = 120.0


class PrometheusEvidence:
    """The evidence of one period, as it is at `now` (seconds since the epoch)."""

    def __init__(
        self, api: PrometheusApi, settings: CompletenessSettings, scope_key: str, period: Interval, now: float
    ) -> None:
        self._api = api
        self._settings = settings
        self._scope_key = scope_key
        self._period = period
        self._now = now
        self._scrapes = Scrapes(api, settings, period, now)
        self._found: dict[str, asyncio.Future[MetricEvidence]] = {}

    async def of(self, metric: Metric) -> MetricEvidence:
        """What is known of a metric; asked once. Raises SourceError, NotSettledError if it is too early to know."""
        future = self._found.get(metric.name)
        if future is None:
            future = self._found[metric.name] = remembered(self._gather(metric))
        return await asyncio.shield(future)

    async def _gather(self, metric: Metric) -> MetricEvidence:
        settings = self._settings.metrics.get(metric.name, EvidenceSettings())
        if self._settings.mode == "off":
            return MetricEvidence(self._period, "no evidence was asked for (completeness.mode off)", weak=True)
        if settings.evidence:
            found = await self._by_expression(settings)
        else:
            found = await self._by_targets(metric, settings)
        return await self._with_joins(found, metric, settings)

    # --- rules 2 to 5: targets

    async def _by_targets(self, metric: Metric, settings: EvidenceSettings) -> MetricEvidence:
        targets = await self._targets(metric.metric)
        if not targets:
            self._check_age(_DEFAULT_INTERVAL)
            return MetricEvidence(
                self._period,
                f"no target has shown {metric.metric} within {self._settings.lookback} s before the end of the period: "
                "nobody could have seen it",
                missing=[self._period],
            )
        sights = await self._scrapes.sights(targets)
        if not sights:
            return await self._by_own_samples(metric, settings)
        interval = float(settings.interval or max(sight.interval for sight in sights.values()))
        self._check_age(interval)
        self._check_settled(sights)
        found = await self._by_sights(metric, sights, interval, doubtful=len(targets) > len(sights))
        suspicions = Suspicions(self._api, self._settings, self._scope_key, self._grouping(metric), self._period)
        return msgspec.structs.replace(found, suspicions_of=await suspicions.of(metric, sights, interval))

    async def _targets(self, metric: str) -> set[Target]:
        """Rule 2: who has shown the metric within the lookback."""
        labels = self._settings.target_labels
        query = f"count by ({', '.join(labels)}) (count_over_time({metric}[{self._settings.lookback}s]))"
        items = await self._api.query(query, self._period.end)
        return {tuple(item.metric.get(label, "") for label in labels) for item in items}

    def _check_age(self, interval: float) -> None:
        """Rule 8, first half: some time has to pass after the end of a period."""
        settle = self._settings.settle if self._settings.settle is not None else max(2 * interval, _LEAST_SETTLE)
        if self._now < self._period.end + settle:
            raise NotSettledError(f"the period is over for less than {settle:g} s")

    def _check_settled(self, sights: dict[Target, Sight]) -> None:
        """Rule 8, second half: every target that is not dark was seen after the end of the period."""
        end = self._period.end
        if any(sight.last_seen >= end + sight.interval for sight in sights.values()):
            waiting = [target for target, sight in sights.items() if not sight.has_settled(end)]
        elif self._now < end + (end - self._period.begin):
            waiting = list(sights)  # not one sample after the end: the server lags (remote write), or it is down
        else:
            waiting = []
        if waiting:
            raise NotSettledError(f"target {'/'.join(sorted(waiting)[0])} was not yet seen after the end of the period")

    async def _by_sights(
        self, metric: Metric, sights: dict[Target, Sight], interval: float, *, doubtful: bool
    ) -> MetricEvidence:
        period = self._period
        reasons: list[str] = []
        first = min(sight.first for sight in sights.values())
        missing = clip([Interval(0, first)], period)
        if missing:
            reasons.append(f"the source holds nothing before {iso(first)}")
        unseen = subtract(_blind(sights, period), missing)
        if unseen and unseen[-1].end == period.end and not await self._ends(sights):
            missing += [unseen.pop()]
            reasons.append(f"no target answers from {iso(missing[-1].begin)} on")
        darkness = Darkness(self._api, self._settings, self._scrapes, self._grouping(metric), period, metric.metric)
        concerned = await darkness.concerned(sights)
        silent, silent_reasons, silent_of = await self._silent(metric.metric, interval, sights)
        for scope_id, parts in silent_of.items():
            concerned.setdefault(scope_id, []).extend(parts)
        lost = max(sight.lost for sight in sights.values())
        return MetricEvidence(
            period,
            self._summary(sights, lost, doubtful=doubtful),
            missing=union(missing),
            missing_of={scope_id: union(parts) for scope_id, parts in concerned.items()},
            unseen=unseen,
            weak=doubtful or (lost > self._settings.max_lost_scrapes and _counts_samples(metric)),
            lost=lost,
            reasons=reasons + silent_reasons,
            reasons_of=_reasons(concerned, sights, period, silent),
        )

    async def _ends(self, sights: dict[Target, Sight]) -> bool:
        """Whether any target that is dark at the end of the period has answered since."""
        until = self._scrapes.until()
        if any(dark.begin < self._period.end < dark.end < until for s in sights.values() for dark in s.dark):
            return True
        return await self._scrapes.any_success_since(sights, until)

    def _grouping(self, metric: Metric) -> tuple[str, ...]:
        """What names a resource: the scope and groupby, without what names the target."""
        labels = (self._scope_key, *metric.grouped_by(self._scope_key))
        return tuple(dict.fromkeys(label for label in labels if label not in self._settings.target_labels))

    def _summary(self, sights: dict[Target, Sight], lost: int, *, doubtful: bool) -> str:
        dark = sum(1 for sight in sights.values() if clip(sight.dark, self._period))
        parts = [f"{len(sights)} target{'s' if len(sights) > 1 else ''} looked at"]
        if dark:
            parts.append(f"{dark} of them dark for a time")
        if lost:
            parts.append(f"up to {lost} single scrapes lost of one target")
        if doubtful:
            parts.append("some show the metric without `up` of their own")
        return ", ".join(parts)

    # --- rule 5: the family is silent

    async def _silent(
        self, metric: str, interval: float, sights: dict[Target, Sight]
    ) -> tuple[list[Interval], list[str], dict[str, list[Interval]]]:
        """When nobody had a sample although targets answered: the time, remarks, and the scopes that it concerns."""
        since, until = self._period.begin - _STALENESS - interval, self._scrapes.until()
        items = await self._api.query_range(f"max(timestamp({metric}))", since, until, interval)
        sampled_at = sorted({float(value) for item in items for _, value in item.values})
        dark = dark_intervals(sampled_at, interval, self._settings.slack, since, until)
        span = Interval(round(since), round(until))
        though_seen = subtract(clip(dark, span), _blind(sights, span))
        long = [part for part in though_seen if part.end - part.begin > self._settings.slack * interval]
        silent = clip(long, self._period)
        if not silent:
            return [], [], {}
        scopes = await self._scopes_with(f"count_over_time({metric}[{self._settings.lookback}s])")
        if len(scopes) < 2:
            return [], [f"suspicion: {metric} has no sample {shown(silent)}, but only one scope ever had"], {}
        return silent, [], {scope_id: list(silent) for scope_id in scopes}

    async def _scopes_with(self, expression: str) -> set[str]:
        """The scopes for which an expression has a result at the end of the period; '' stands for no such label."""
        items = await self._api.query(f"count by ({self._scope_key}) ({expression})", self._period.end)
        return {item.metric.get(self._scope_key, "") for item in items}

    # --- metrics without targets of their own

    async def _by_own_samples(self, metric: Metric, settings: EvidenceSettings) -> MetricEvidence:
        """Recording rules, federation, Pushgateway: nothing but the samples themselves, hence weak."""
        step = float(settings.interval or _DEFAULT_INTERVAL)
        since, until = self._period.begin - _STALENESS - step, self._scrapes.until()
        query = f"max by ({self._scope_key}) (timestamp({metric.metric}))"
        items = await self._api.query_range(query, since, until, step)
        by_scope = {item.metric.get(self._scope_key, ""): _sample_times(item) for item in items}
        everyone = sorted({at for times in by_scope.values() for at in times})
        interval = float(settings.interval or interval_of(everyone) or _DEFAULT_INTERVAL)
        self._check_age(interval)
        slack = self._settings.slack
        silent = clip(dark_intervals(everyone, interval, slack, since, until), self._period)
        missing_of = {}
        for scope_id, times in by_scope.items():
            inner = [part for part in dark_intervals(times, interval, slack, times[0], times[-1]) if part.begin > 0]
            if clip(inner, self._period):
                missing_of[scope_id] = clip(inner, self._period)
        return MetricEvidence(
            self._period,
            f"{metric.metric} has no `up` of its own: judged by its samples alone, every {interval:g} s",
            missing=silent,
            missing_of=missing_of,
            weak=True,
            reasons=[f"nobody had a sample {shown(silent)}"] if silent else [],
            reasons_of={scope_id: [f"no sample {shown(parts)}"] for scope_id, parts in missing_of.items()},
        )

    async def _by_expression(self, settings: EvidenceSettings) -> MetricEvidence:
        """`evidence` of the configuration: each step with a result is known time."""
        step = float(settings.interval or self._settings.scrape_interval or _DEFAULT_INTERVAL)
        self._check_age(step)
        since = self._period.begin - self._settings.slack * step
        items = await self._api.query_range(settings.evidence, since, self._scrapes.until(), step)
        known = known_spans({at for item in items for at, _ in item.values}, step, self._settings.slack)
        missing = subtract([self._period], known)
        return MetricEvidence(
            self._period,
            f"known by {settings.evidence[:200]}",
            missing=missing,
            reasons=[f"no evidence {shown(missing)}"] if missing else [],
        )

    # --- rule 6: other selectors of the query

    async def _with_joins(self, found: MetricEvidence, metric: Metric, settings: EvidenceSettings) -> MetricEvidence:
        """Metrics that the query joins must be there at the end of the period for each scope that had usage."""
        args = metric.extra_args
        assert isinstance(args, PrometheusArgs), "metrics.yml was read for Prometheus"
        joined = settings.also
        if joined is None:
            joined = [name for name in names_in(args.query_prefix, args.query_suffix) if name != metric.metric]
        if not joined:
            return found
        length = self._period.end - self._period.begin
        having = await self._scopes_with(f"count_over_time({selector(metric.metric)}[{length}s])")
        missing_of = dict(found.missing_of)
        reasons_of = dict(found.reasons_of)
        for name in joined:
            there = await self._scopes_with(name)
            lacking = set() if "" in there else having - there
            for scope_id in lacking:
                missing_of[scope_id] = [self._period]
                reasons_of[scope_id] = [*reasons_of.get(scope_id, ()), f"{name} is missing at the end of the period"]
        return msgspec.structs.replace(found, missing_of=missing_of, reasons_of=reasons_of)


def _blind(sights: dict[Target, Sight], span: Interval) -> list[Interval]:
    """When no target answered at all."""
    return together((subtract([span], sight.lit(span)) for sight in sights.values()), span)


def _sample_times(item: Item) -> list[float]:
    return sorted({float(value) for _, value in item.values})


def _counts_samples(metric: Metric) -> bool:
    args = metric.extra_args
    return isinstance(args, PrometheusArgs) and not args.range_function and args.aggregation_method in ("sum", "count")


def _reasons(
    concerned: dict[str, list[Interval]], sights: dict[Target, Sight], period: Interval, silent: list[Interval]
) -> dict[str, list[str]]:
    """Why something is missing, in words, for each scope."""
    dark = sorted("/".join(target) for target, sight in sights.items() if clip(sight.dark, period))
    who = f"dark: {', '.join(dark[:5])}{f' and {len(dark) - 5} more' if len(dark) > 5 else ''}" if dark else ""
    why = "; ".join(filter(None, [who, f"all silent {shown(silent)}" if silent else ""]))
    return {scope_id: [f"missing {shown(union(parts))} ({why})"] for scope_id, parts in concerned.items()}
