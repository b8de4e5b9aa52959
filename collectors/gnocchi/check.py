"""What Gnocchi says of itself and of each metric before it is asked for usage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Literal

import msgspec

from collectors.bounded import run_all
from collectors.checking import Advance, Code, Finding, MetricFacts, SourceFacts, clock_findings, retention_findings
from collectors.errors import NotSettledError, SourceAwayError, SourceError
from collectors.gnocchi.answer import Policy
from collectors.gnocchi.api import GnocchiApi
from collectors.gnocchi.args import GnocchiArgs, combination, needed_methods
from collectors.gnocchi.evidence import Book, GnocchiEvidence
from collectors.gnocchi.judgement import Judged, granularity_of, policy_fault
from collectors.metrics_yml import Metric
from collectors.settings import CollectorSettings
from rater.model.interval import Interval, period_of

__all__ = ["examine", "kept_for"]

_OF_ALL = (
    "id", "type", "creator", "project_id", "user_id", "original_resource_id", "started_at", "ended_at",
    "revision_start", "revision_end", "created_by_user_id", "created_by_project_id",
)  # fmt: skip
_FOR_EVER = 100 * 366 * 86400


async def examine(
    api: GnocchiApi,
    book: Book,
    settings: CollectorSettings,
    metrics: Sequence[Metric],
    period_seconds: int,
    now: int,
    reach_seconds: int,
    advance: Advance,
) -> SourceFacts:
    """The facts, as `ExaminedSource.examine` has them. Raises SourceAwayError, SourceError if it cannot be asked."""
    end = period_of(now - period_seconds, period_seconds).begin
    strict = msgspec.structs.replace(settings.completeness, mode="strict")
    looked_at = Interval(end - period_seconds, end)
    evidence = GnocchiEvidence(api, book, msgspec.structs.replace(settings, completeness=strict), looked_at, now)
    await api.backlog()  # refuses who may not see it, before anything else does
    check = _Check(api, book, settings, period_seconds, evidence)
    done: dict[str, MetricFacts] = {}

    async def look(metric: Metric) -> None:
        done[metric.name] = await check.of(metric)
        advance(len(done), len(metrics))

    await run_all((partial(look, metric) for metric in metrics), settings.concurrency)
    where = await api.url()
    retention = min(check.kept, default=None)
    ahead = _ahead(api.date)
    findings = retention_findings(where, retention, reach_seconds) + clock_findings(where, ahead)
    if settings.completeness.mode == "off":
        what = "no evidence is asked for (collect.completeness.mode off), so all coverage is weak"
        findings.append(Finding(Code.WEAK, "warn", what, "set it to strict"))
    if settings.gnocchi.insecure:
        what = "collect.gnocchi.insecure is set: whoever answers is believed to be the server"
        findings.append(Finding(Code.SOURCE, "warn", what, "set ca_file"))
    return SourceFacts(where, {metric.name: done[metric.name] for metric in metrics}, retention, ahead, tuple(findings))


def kept_for(policies: Iterable[Policy], metrics: Iterable[Metric]) -> float:
    """For how many seconds any archive policy keeps what any of the metrics needs; 0 if none has it."""
    found = 0.0
    for metric in metrics:
        args = _args(metric)
        for policy in policies:
            known = [policy.has(float(args.force_granularity))] if args.force_granularity else policy.definitions
            found = max([found, *(one.timespan for one in known if one is not None)])
    return found


class _Check:
    """One look at all metrics."""

    def __init__(
        self,
        api: GnocchiApi,
        book: Book,
        settings: CollectorSettings,
        period_seconds: int,
        evidence: GnocchiEvidence,
    ) -> None:
        self._api = api
        self._book = book
        self._settings = settings
        self._period = period_seconds
        self._evidence = evidence
        self.kept: list[int] = []
        """Seconds for which the metrics in use are kept."""

    async def of(self, metric: Metric) -> MetricFacts:
        """The facts of a metric. Raises SourceAwayError."""
        args = _args(metric)
        try:
            attributes = await self._api.attributes(args.resource_type)
            if attributes is None:
                what = f"there is no resource type {args.resource_type!r}"
                return MetricFacts(False, findings=(Finding(Code.SOURCE, "fail", what, "correct resource_type"),))
            judged = await self._judged(metric)
            policies = await self._policies(metric, judged)
        except SourceAwayError:
            raise
        except SourceError as fault:
            what = f"it could not be looked at: {fault}"
            return MetricFacts(findings=(Finding(Code.NOT_ASKED, "fail", what, passing=True),))
        return MetricFacts(
            exists=bool(policies),
            seen_at=judged.seen_at if judged else None,
            granularity=judged.interval if judged else None,
            labels=frozenset(attributes) | frozenset(_OF_ALL),
            points=dict(judged.owned) if judged else None,
            findings=tuple(self._findings(metric, args, policies, judged)),
        )

    async def _judged(self, metric: Metric) -> Judged | None:
        """The evidence of the period before the last one; None if it is still too early for it."""
        try:
            return await self._evidence.of(metric)
        except NotSettledError:
            return None

    async def _policies(self, metric: Metric, judged: Judged | None) -> list[Policy]:
        """Those of the metric's resources that lived lately; if there are none, those of any."""
        found = dict(judged.policies) if judged else {}
        if not found:
            names = set((await self._api.policies_of(metric.metric)).values())
            found = {name: policy for name, policy in (await self._api.policies()).items() if name in names}
        return [found[name] for name in sorted(found)]

    def _findings(
        self, metric: Metric, args: GnocchiArgs, policies: Sequence[Policy], judged: Judged | None
    ) -> list[Finding]:
        found: list[Finding] = []
        methods = needed_methods(metric.metric, args)
        faults = {policy.name: policy_fault(policy, args, methods, self._period) for policy in policies}
        for policy in policies:
            definition = granularity_of(policy, args)
            if faults[policy.name]:
                what = f"{faults[policy.name]}, so resources with it cannot be billed"
                level: Literal["warn", "fail"] = "fail" if all(faults.values()) else "warn"
                todo = "give their metrics another policy, or correct extra_args"
                found.append(Finding(Code.TOO_SELDOM, level, what, todo))
            elif definition is not None:
                self.kept.append(int(min(definition.timespan, _FOR_EVER)))
                found += self._granule_findings(metric, args, definition.granularity)
        if judged is not None:
            found += self._proof_findings(metric, judged)
        return list(dict.fromkeys(found))

    def _granule_findings(self, metric: Metric, args: GnocchiArgs, granularity: float) -> list[Finding]:
        """What becomes of granules that are shorter than the period."""
        if granularity == self._period:
            return []
        settings = self._settings.gnocchi
        if self._period % granularity:
            what = f"granules of {granularity:g} s do not divide a period of {self._period} s"
            return [Finding(Code.TOO_SELDOM, "fail", what, "force another granularity")]
        if settings.granules == "first":
            what = f"of {self._period / granularity:g} granules of a period only the first is billed"
            return [Finding(Code.SOURCE, "warn", what, "set collect.gnocchi.granules to all")]
        if combination(args) is None and metric.name not in settings.combine:
            what = f"how {self._period / granularity:g} granules become the quantity of a period is not known"
            todo = f"set collect.gnocchi.combine.{metric.name}, or force a granularity of {self._period}"
            return [Finding(Code.SOURCE, "fail", what, todo)]
        return []

    def _proof_findings(self, metric: Metric, judged: Judged) -> list[Finding]:
        if not judged.is_coarse:
            return []
        what = "its granules are as long as the period: a part of it that was not measured cannot be seen"
        todo = f"keep finer granules, or name another metric in collect.completeness.metrics.{metric.name}.evidence"
        return [Finding(Code.WEAK, "warn", what, todo)]


def _args(metric: Metric) -> GnocchiArgs:
    args = metric.extra_args
    assert isinstance(args, GnocchiArgs), "metrics.yml was read for Gnocchi"
    return args


def _ahead(date: str) -> float | None:
    """Seconds by which a clock is ahead of ours that says so in a header; None if it says nothing."""
    try:
        return (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return None
