"""Asks a source and its fetcher all that `rater collect check` reports: facts, scopes, and a sample of each metric."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from collectors.bounded import run_all
from collectors.checking import (
    Advance,
    CheckReport,
    Code,
    ExaminedSource,
    Finding,
    Judge,
    MetricCheck,
    MetricFacts,
    Sampled,
    SourceFacts,
    sample_findings,
)
from collectors.errors import NotSettledError, SourceAwayError, SourceError, UnfitSourceError
from collectors.metrics_yml import Metric
from collectors.skipping import without_skipped
from collectors.source import PeriodSession, ScopeFetcher, SharingSession, Source, SourceContext
from rater.model.interval import Interval, period_of

__all__ = ["check_parts"]

_TRIES = 3  # scopes that are asked for a sample until one has any
_SETTLE = 120  # seconds after its end a period is asked for at the earliest, where `completeness.settle` says nothing
_SHOWN = 5


async def check_parts(
    context: SourceContext, source: Source, fetcher: ScopeFetcher, now: int, reach_seconds: int, advance: Advance
) -> CheckReport:
    """The report. Raises SourceError if the source or the fetcher cannot be asked at all."""
    total = 2 * len(context.metrics)
    facts = await _facts(source, context, now, reach_seconds, lambda done, of: advance(done * total // (2 * of), total))
    scopes = sorted(await fetcher.fetch(now, now))
    judge = Judge(context.settings, context.metrics, context.period_seconds)
    rows: dict[str, MetricCheck] = {}
    sampling = _Sampling(source, context, scopes, now)

    async def look(metric: Metric) -> None:
        known = facts.metrics.get(metric.name, MetricFacts())
        sampled, findings = await sampling.of(metric, known)
        rows[metric.name] = judge.metric(metric, facts, sampled, findings)
        advance(len(context.metrics) + len(rows), total)

    try:
        await run_all((partial(look, metric) for metric in context.metrics), context.settings.concurrency)
    finally:
        await sampling.close()
    return CheckReport(
        source=context.settings.source_name,
        where=facts.where,
        checked_at=now,
        period=context.period_seconds,
        reach=reach_seconds,
        retention=facts.retention,
        clock_ahead=facts.clock_ahead,
        scopes=tuple(scopes),
        findings=(*facts.findings, *_scope_findings(context, facts, scopes)),
        metrics=tuple(rows[metric.name] for metric in context.metrics),
    )


async def _facts(source: Source, context: SourceContext, now: int, reach_seconds: int, advance: Advance) -> SourceFacts:
    """What the source knows; of one that cannot be examined only whether it would start. Raises SourceError."""
    if isinstance(source, ExaminedSource):
        return await source.examine(now, reach_seconds, advance, deep=True)
    name = context.settings.source_name
    try:
        remarks = await source.check(now, reach_seconds)
    except UnfitSourceError as fault:
        return SourceFacts(name, findings=tuple(Finding(Code.SOURCE, "fail", line) for line in str(fault).splitlines()))
    return SourceFacts(name, findings=tuple(Finding(Code.SOURCE, "warn", text) for text in remarks))


def _scope_findings(context: SourceContext, facts: SourceFacts, scopes: Sequence[str]) -> list[Finding]:
    """Whether those who have usage are those who are asked for."""
    fetcher = context.settings.fetcher
    if not scopes:
        what = f"fetcher {fetcher!r} names no scope, so nothing is collected for anybody"
        return [Finding(Code.NO_SCOPES, "fail", what, "check the settings of collect.fetcher", passing=True)]
    found = {scope_id for known in facts.metrics.values() for scope_id in known.points or ()}
    unnamed = sorted(found.difference(scopes))
    if not unnamed:
        return []
    shown = ", ".join(map(repr, unnamed[:_SHOWN]))
    what = f"{len(unnamed)} scopes have usage and are not named by fetcher {fetcher!r}, such as {shown}"
    return [Finding(Code.SCOPES, "warn", what, "nobody is billed for it, unless the fetcher is to name them")]


class _Sampling:
    """Fetches the last whole period of one scope for each metric, as the collector would."""

    def __init__(self, source: Source, context: SourceContext, scopes: Sequence[str], now: int) -> None:
        settle = max(context.settings.completeness.settle or 0, _SETTLE)
        end = period_of(now - settle, context.period_seconds).begin
        length = context.period_seconds
        self._source = source
        self._now = now
        self._newest = Interval(end - length, end)
        self._before = Interval(end - 2 * length, end - length)
        self._sessions: dict[Interval, PeriodSession] = {}
        self._scopes = scopes

    async def of(self, metric: Metric, facts: MetricFacts) -> tuple[Sampled | None, list[Finding]]:
        """The sample of a metric and what it says; none where the metric is known not to be there.

        Raises SourceAwayError.
        """
        if facts.exists is False or not self._scopes:
            return None, []
        last: tuple[Sampled | None, list[Finding]] = None, []
        for scope_id in self._candidates(facts):
            try:
                last = await self._one(metric, scope_id)
            except SourceAwayError:
                raise
            except SourceError as fault:
                what = f"a sample of scope {scope_id!r} could not be fetched: {fault}"
                return None, [Finding(Code.NOT_ASKED, "fail", what, passing=True)]
            if last[0] is not None and last[0].answer.samples:
                break
        return last

    def _candidates(self, facts: MetricFacts) -> Iterable[str]:
        """Scopes that have the metric, those with the fewest points first; else any."""
        if facts.points:
            having = sorted((count, scope_id) for scope_id, count in facts.points.items() if scope_id in self._scopes)
            if having:
                return [scope_id for _, scope_id in having[:_TRIES]]
        return self._scopes[:_TRIES]

    async def _one(self, metric: Metric, scope_id: str) -> tuple[Sampled, list[Finding]]:
        """The newest period that has settled. Raises SourceError."""
        try:
            return await self._collected(metric, scope_id, self._newest)
        except NotSettledError:
            return await self._collected(metric, scope_id, self._before)

    async def _collected(self, metric: Metric, scope_id: str, period: Interval) -> tuple[Sampled, list[Finding]]:
        if period not in self._sessions:
            self._sessions[period] = self._source.session(period, self._now)
            session = self._sessions[period]
            if isinstance(session, SharingSession):
                session.expect({})
        answer = without_skipped(await self._sessions[period].collect(scope_id, metric), metric, period.begin)
        sampled = Sampled(scope_id, period, answer)
        return sampled, sample_findings(sampled, answer.skipped)

    async def close(self) -> None:
        """Nothing more is asked."""
        for session in self._sessions.values():
            if isinstance(session, SharingSession):
                await session.close()
