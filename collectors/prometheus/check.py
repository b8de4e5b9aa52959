"""What a Prometheus says of itself and of each metric before it is asked for usage: a few cheap questions for each.

Everything is asked with plain queries where that is possible, since not every server that speaks the API has the rest
of its endpoints: what such a one cannot say is "not known".
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterable, Sequence
from functools import partial
from typing import TypeVar

from collectors.bounded import run_all
from collectors.checking import (
    Advance,
    Code,
    Finding,
    Kind,
    MetricFacts,
    SourceFacts,
    clock_findings,
    retention_findings,
    worst,
)
from collectors.errors import SourceAwayError, SourceError
from collectors.evidence import Target, interval_of
from collectors.metrics_yml import Metric
from collectors.prometheus.api import Item, PrometheusApi
from collectors.prometheus.kinds import declared_type, function_findings, only_rises, rate_finding
from collectors.prometheus.promql import PrometheusArgs, among, is_metric_name, names_in, quoted, selector
from collectors.settings import CollectorSettings, EvidenceSettings
from collectors.times import iso

__all__ = ["examine", "retention_of"]

T = TypeVar("T")

_DURATION = re.compile(r"(\d+)(ms|y|w|d|h|m|s)")
_SECONDS = {"y": 365 * 86400, "w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 0}
_QUOTED = re.compile(r"""["']([a-zA-Z_][a-zA-Z0-9_]*)["']""")  # such as `label_replace` names what it makes
_JOBS = 10  # whose scrape intervals are measured; a metric is rarely shown by more than two
_LABELLED = 50  # series whose labels are read where the server has no list of labels
_SHOWN = 5
_STEP = 60
_LONG_AGO = 90 * 86400  # how far back the last sample of a metric that has none any more is looked for
_COARSE = 6 * 3600


async def examine(
    replicas: Sequence[PrometheusApi],
    settings: CollectorSettings,
    metrics: Sequence[Metric],
    period_seconds: int,
    now: int,
    reach_seconds: int,
    advance: Advance,
    *,
    deep: bool,
) -> SourceFacts:
    """The facts of the servers that can be asked, of several those of the one that has most of each metric.

    `period_seconds`, `reach_seconds` and `deep` as `ExaminedSource.examine` has them. Raises SourceAwayError if none
    can be asked, SourceError.
    """
    found: list[SourceFacts] = []
    away: list[SourceAwayError] = []
    for number, api in enumerate(replicas):

        def told(done: int, total: int, before: int = number) -> None:
            advance(before * total + done, len(replicas) * total)

        try:
            check = _Check(api, settings, metrics, period_seconds, now, deep=deep)
            found.append(await check.facts(reach_seconds, told))
        except SourceAwayError as fault:
            away.append(fault)
    if not found:
        raise away[0]
    return _together(found, away)


async def retention_of(api: PrometheusApi) -> int | None:
    """For how many seconds the server keeps samples; None if it does not say."""
    found = await api.look_up("status/runtimeinfo", {})
    if not isinstance(found, dict):
        return None
    parts = _DURATION.findall(str(found.get("storageRetention", "")).split(" or ")[0])
    return sum(int(number) * _SECONDS[unit] for number, unit in parts) or None


def _together(found: Sequence[SourceFacts], away: Iterable[SourceAwayError]) -> SourceFacts:
    """Of each metric the facts of the replica that has fewest faults; which one is away is a finding."""
    first = found[0]
    if len(found) == 1 and not away:
        return first
    ranks = {"ok": 0, "warn": 1, "fail": 2}
    metrics = {
        name: min(
            (one.metrics[name] for one in found),
            key=lambda facts: (facts.exists is False, ranks[worst(facts.findings)]),
        )
        for name in first.metrics
    }
    findings = [finding for one in found for finding in one.findings]
    findings += [Finding(Code.SOURCE, "warn", f"a replica is passed over: {fault}", passing=True) for fault in away]
    for one in found:
        lacking = sorted(name for name, facts in one.metrics.items() if facts.exists is False and metrics[name].exists)
        if lacking:
            what = f"{one.where} lacks {', '.join(lacking[:_SHOWN])}, which another replica has"
            findings.append(
                Finding(Code.SOURCE, "warn", what, "let all replicas scrape the same targets", passing=True)
            )
    known = [one.retention for one in found if one.retention is not None]
    clocks = [one.clock_ahead for one in found if one.clock_ahead is not None]
    return SourceFacts(
        where=", ".join(one.where for one in found),
        metrics=metrics,
        retention=max(known, default=None),
        clock_ahead=max(clocks, key=abs, default=None),
        findings=tuple(dict.fromkeys(findings)),
    )


class _Check:
    """One server at one time."""

    def __init__(
        self,
        api: PrometheusApi,
        settings: CollectorSettings,
        metrics: Sequence[Metric],
        period_seconds: int,
        now: int,
        *,
        deep: bool,
    ) -> None:
        self._api = api
        self._settings = settings
        self._completeness = settings.completeness
        self._metrics = metrics
        self._period = period_seconds
        self._now = now
        self._deep = deep

    async def facts(self, reach_seconds: int, advance: Advance) -> SourceFacts:
        """All of them. Raises SourceAwayError."""
        done: dict[str, MetricFacts] = {}

        async def look(metric: Metric) -> None:
            done[metric.name] = await self._metric(metric)
            advance(len(done), len(self._metrics))

        await run_all((partial(look, metric) for metric in self._metrics), self._settings.concurrency)
        findings: list[Finding] = []
        retention = await self._try("retention", self._retention(reach_seconds), findings)
        ahead = self._api.clock_ahead
        findings += retention_findings(self._api.url, retention, reach_seconds)
        findings += clock_findings(self._api.url, ahead)
        if self._completeness.mode == "off":
            what = "no evidence is asked for (collect.completeness.mode off), so all coverage is weak"
            findings.append(Finding(Code.WEAK, "warn", what, "set it to strict"))
        return SourceFacts(
            self._api.url, {m.name: done[m.name] for m in self._metrics}, retention, ahead, tuple(findings)
        )

    async def _try(self, what: str, question: Awaitable[T], findings: list[Finding]) -> T | None:
        """The answer; None and a finding if there is none. Raises SourceAwayError."""
        try:
            return await question
        except SourceAwayError:
            raise
        except SourceError as fault:
            findings.append(
                Finding(Code.NOT_ASKED, "fail", f"its {what} could not be asked for: {fault}", passing=True)
            )
            return None

    async def _retention(self, reach_seconds: int) -> int | None:
        """What the server says, else what samples prove: some that are a week older than needed."""
        said = await retention_of(self._api)
        if said is not None:
            return said
        needed = reach_seconds + 7 * 86400
        old = await self._api.query(f"count({self._completeness.up})", self._now - needed)
        return needed if old else None

    # --- one metric

    async def _metric(self, metric: Metric) -> MetricFacts:
        if not is_metric_name(metric.metric):
            fault = Finding(
                Code.NOT_A_METRIC,
                "fail",
                f"metric {metric.metric!r} is no name of a metric",
                "correct its name in metrics.yml",
            )
            return MetricFacts(exists=False, findings=(fault,))
        findings: list[Finding] = []
        seen_at = await self._try("latest sample", self._seen_at(metric.metric), findings)
        exists = True if seen_at is not None else await self._exists(metric.metric)
        if exists is False:
            return MetricFacts(exists=False, findings=tuple(findings))
        findings += await self._staleness(metric.metric, seen_at)
        at = seen_at if seen_at is not None else self._now
        measured = await self._try("granularity", self._granularity(metric.metric, at), findings)
        labels = await self._try("labels", self._labels_with_joins(metric, at, findings), findings)
        kind = await self._try("kind", self._kind(metric, at, findings), findings)
        if seen_at is not None:
            await self._try("targets", self._targets(metric, at, findings), findings)
        points = await self._try("number of points", self._points(metric, at), findings) if self._deep else None
        own = self._own(metric)
        return MetricFacts(
            exists=exists,
            seen_at=seen_at,
            granularity=measured if measured is not None else float(own.interval) if own.interval else None,
            coarsest=self._coarsest(own),
            labels=labels,
            kind=kind or "",
            points=points,
            findings=tuple(findings),
        )

    def _own(self, metric: Metric) -> EvidenceSettings:
        return self._completeness.metrics.get(metric.name, EvidenceSettings())

    def _coarsest(self, own: EvidenceSettings) -> float:
        """Two samples in a period at least, as rates need them too; what sees gaps by scrapes needs `slack` of them."""
        by_scrapes = self._completeness.mode == "strict" and not own.evidence
        return self._period / max(2.0, self._completeness.slack if by_scrapes else 2.0)

    async def _seen_at(self, name: str) -> int | None:
        """When the metric had its latest sample within the lookback."""
        for expression in (
            f"max(timestamp({name}))",
            f"max(max_over_time(timestamp({name})[{self._completeness.lookback}s:{_STEP}s]))",
        ):
            items = await self._api.query(expression, self._now)
            times = [float(item.value[1]) for item in items if item.value is not None]
            if times:
                return int(max(times))
        return None

    async def _exists(self, name: str) -> bool | None:
        """Whether the server has any sample of the metric, however old; None where it cannot tell."""
        found = await self._api.look_up("label/__name__/values", {"match[]": name})
        return None if found is None else name in found

    async def _staleness(self, name: str, seen_at: int | None) -> list[Finding]:
        lookback = self._completeness.lookback
        todo = "see whether its exporter still shows it, and under which name"
        if seen_at is None:
            last = await self._long_ago(name) if self._deep else ""
            what = f"{name} has no sample in the last {lookback} s{last}: each period is a gap until it has"
            return [Finding(Code.STALE, "fail", what, todo, passing=True)]
        if self._now - seen_at > self._period:
            what = f"the last sample of {name} is of {iso(seen_at)}: each period since is a gap until it has more"
            return [Finding(Code.STALE, "warn", what, todo, passing=True)]
        return []

    async def _long_ago(self, name: str) -> str:
        """When it was last there, to some hours, in words."""
        since = self._now - _LONG_AGO
        query = f"count(count_over_time({name}[{_COARSE}s]))"
        items = await self._api.query_range(query, since, self._now, _COARSE)
        steps = [at for item in items for at, _ in item.values]
        return f", the last is of about {iso(max(steps) - _COARSE / 2)}" if steps else ""

    # --- how often it is sampled

    async def _granularity(self, name: str, at: int) -> float | None:
        """Seconds between two samples: of each job of the target with most and of that with fewest, the longest.

        None if the only target of a job has fewer than three samples within the lookback.
        """
        window = 4 * self._period
        labels = ", ".join(self._completeness.target_labels)
        items = await self._api.query(f"max by ({labels}) (count_over_time({name}[{window}s]))", at)
        jobs: dict[str, list[tuple[float, Target]]] = {}
        for item in items:
            target = tuple(item.metric.get(label, "") for label in self._completeness.target_labels)
            jobs.setdefault(target[0], []).append((float(item.value[1]) if item.value else 0.0, target))
        longest: list[float] = []
        for _, members in sorted(jobs.items())[:_JOBS]:
            most = await self._interval(name, max(members)[1], at, window)
            if most is None:
                return None
            fewest = await self._interval(name, min(members)[1], at, window) if len(members) > 1 else None
            longest.append(max(most, fewest or 0.0))
        return max(longest) if longest and len(jobs) <= _JOBS else None

    async def _interval(self, name: str, target: Target, at: int, window: int) -> float | None:
        """Seconds between the samples of the series of a target that has most."""
        for length in sorted({window, max(window, self._completeness.lookback)}):
            matchers = [
                among(label, [value]) for label, value in zip(self._completeness.target_labels, target, strict=True)
            ]
            items = await self._api.query(f"topk(1, count_over_time({selector(name, matchers)}[{length}s]))", at)
            for item in items:
                series = [among(quoted(label), [value]) for label, value in item.metric.items() if label != "__name__"]
                found = await self._api.query(f"{selector(name, series)}[{length}s]", at)
                interval = interval_of(_instants(found))
                if interval is not None:
                    return interval
        return None

    # --- labels and points

    async def _labels_with_joins(self, metric: Metric, at: int, findings: list[Finding]) -> frozenset[str] | None:
        """The labels that the metric has, that it gets from others which its query joins, and that its query makes."""
        args = metric.extra_args
        assert isinstance(args, PrometheusArgs), "metrics.yml was read for Prometheus"
        found = await self._labels(metric.metric, at)
        if found is not None:
            found |= set(_QUOTED.findall(f"{args.query_prefix} {args.query_suffix}"))
        also = self._own(metric).also
        joined = names_in(args.query_prefix, args.query_suffix)
        for name in dict.fromkeys([*(also or ()), *joined]):
            if name == metric.metric:
                continue
            if await self._seen_at(name) is None:
                there = await self._exists(name)
                what = f"{name}, which the query joins, has no sample in the last {self._completeness.lookback} s"
                todo = "check query_prefix and query_suffix in metrics.yml, and collect.completeness"
                findings.append(Finding(Code.NO_JOIN, "fail", what, todo, passing=there is not False))
            elif name in joined and found is not None:
                found |= await self._labels(name, at) or frozenset()
        return found

    async def _labels(self, name: str, at: int) -> frozenset[str] | None:
        """The labels of all its series, or of some, where the server has no list of them."""
        found = await self._api.look_up("labels", {"match[]": name})
        if isinstance(found, list):
            labels = {label for label in found if isinstance(label, str)}
        else:
            items = await self._api.query(f"topk({_LABELLED}, {name})", at)
            labels = {label for item in items for label in item.metric}
        return frozenset(labels - {"__name__"}) or None

    async def _points(self, metric: Metric, at: int) -> dict[str, int]:
        """How many lines a period has, by scope: a line for each set of values of groupby and metadata."""
        scope_key = self._settings.scope_key
        by = ", ".join((*metric.grouped_by(scope_key), *metric.metadata))
        query = f"count by ({scope_key}) (count by ({by}) (last_over_time({metric.metric}[{self._period}s])))"
        items = await self._api.query(query, at)
        found = {item.metric.get(scope_key, ""): int(float(item.value[1])) for item in items if item.value is not None}
        found.pop("", None)  # no scope is ever asked for these
        return found

    async def _targets(self, metric: Metric, at: int, findings: list[Finding]) -> None:
        """Whether the targets that show the metric have `up`, which proves that they were asked."""
        if self._completeness.mode == "off" or self._own(metric).evidence:
            return
        labels = ", ".join(self._completeness.target_labels)
        up = self._completeness.up
        query = f"count(count by ({labels}) ({metric.metric}) unless on ({labels}) count by ({labels}) ({up}))"
        items = await self._api.query(query, at)
        if items:
            what = f"some targets show {metric.metric} and have no `{up}` with the same {labels}, so coverage is weak"
            key = f"collect.completeness.metrics.{metric.name}.evidence"
            findings.append(Finding(Code.WEAK, "warn", what, f"set collect.completeness.target_labels or {key}"))

    # --- counter or gauge

    async def _kind(self, metric: Metric, at: int, findings: list[Finding]) -> Kind:
        """What it is by name, by what was declared when it was scraped, or by how it behaves."""
        kind = await self._declared(metric.metric)
        args = metric.extra_args
        assert isinstance(args, PrometheusArgs), "metrics.yml was read for Prometheus"
        if args.range_function in ("rate", "irate") and kind != "counter":
            changes, falls = await self._moves(metric.metric, at)
            found = rate_finding(args.range_function, kind, changes, falls)
            findings += [found] if found is not None else []
            kind = kind or ("counter" if only_rises(changes, falls) else "")
        findings += function_findings(metric, args, kind)
        return kind

    async def _declared(self, name: str) -> Kind:
        if name.endswith(("_total", "_bucket")):
            return "counter"
        families = [name, name.removesuffix("_count"), name.removesuffix("_sum")]
        for family in dict.fromkeys(families):
            declared = declared_type(await self._api.look_up("metadata", {"metric": family}), family)
            if declared == "counter" or (family != name and declared in ("histogram", "summary")):
                return "counter"
            if declared == "gauge" and family == name:
                return "gauge"
        return ""

    async def _moves(self, name: str, at: int) -> tuple[float, float]:
        """How often its series changed within some periods, and how often they fell."""
        window = f"[{4 * self._period}s]"
        changes = await self._api.query(f"sum(changes({name}{window}))", at)
        falls = await self._api.query(f"sum(resets({name}{window}))", at)
        return _number(changes), _number(falls)


def _number(items: Sequence[Item]) -> float:
    return max((float(item.value[1]) for item in items if item.value is not None), default=0.0)


def _instants(items: Sequence[Item]) -> list[float]:
    return [at for item in items for at, _ in item.values]
