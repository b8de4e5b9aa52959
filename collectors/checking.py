"""Whether a source stores what billing needs: what is known of each metric, judged into a verdict with what to change.

Pure functions and values. A source says what it knows (`SourceFacts`); what it cannot say stays None, "not known", and
is never taken for sound. `collectors.check_run` asks, `rater collect check` prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from enum import Enum
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import msgspec

from collectors.errors import UnfitSourceError
from collectors.metrics_yml import Metric
from collectors.settings import CollectorSettings, EvidenceSettings
from collectors.source import Answer
from collectors.times import iso
from rater.model.interval import Interval, seconds

__all__ = [
    "Advance",
    "CheckReport",
    "Code",
    "ExaminedSource",
    "Finding",
    "Judge",
    "Kind",
    "MetricCheck",
    "MetricFacts",
    "Sampled",
    "SourceFacts",
    "Verdict",
    "clock_findings",
    "retention_findings",
    "sample_findings",
    "start_remarks",
    "worst",
]

Verdict: TypeAlias = Literal["ok", "warn", "fail"]
Kind: TypeAlias = Literal["counter", "gauge", ""]
"""'' is "not known"."""
Advance: TypeAlias = Callable[[int, int], None]
"""Called with what is done and the total."""

_SHOWN = 12  # labels or scopes that a text names
_MANY_POINTS = 500_000  # of one metric in one period: a hundred million lines in nine days
_WARN_AHEAD, _FAIL_AHEAD = 5.0, 60.0  # seconds; a period is asked for two minutes after its end at the earliest
_KEEP_MORE = "keep more there, or lower engine.wait_periods or engine.late_horizon_periods"
_CATCH_UP = 7 * 86400  # a collector that was down for a week should still find what it missed


class Code(Enum):
    """What a finding is about: a stable word for programs; docs/check.md says what to do about each."""

    NOT_A_METRIC = "not-a-metric"
    NO_METRIC = "no-metric"
    METRIC_UNKNOWN = "metric-unknown"
    STALE = "stale"
    NO_LABEL = "no-label"
    LABELS_UNKNOWN = "labels-unknown"
    TOO_SELDOM = "too-seldom"
    GRANULARITY_UNKNOWN = "granularity-unknown"
    NO_JOIN = "no-join"
    GAUGE_AS_COUNTER = "gauge-as-counter"
    COUNTER_AS_GAUGE = "counter-as-gauge"
    COUNTER_DELTA = "counter-delta"
    TWO_SAMPLES = "two-samples"
    WEAK = "weak"
    GAP = "gap"
    UNREADABLE = "unreadable"
    SAMPLE_UNKNOWN = "sample-unknown"
    NOT_ASKED = "not-asked"
    MANY_POINTS = "many-points"
    SCOPES = "scopes"
    NO_SCOPES = "no-scopes"
    RETENTION = "retention"
    RETENTION_UNKNOWN = "retention-unknown"
    CLOCK = "clock"
    SOURCE = "source"
    RULE_LABEL = "rule-label"
    NOT_PRICED = "not-priced"


class Finding(msgspec.Struct, frozen=True):
    """Something that is wrong, or doubtful, or not known, and what to do about it."""

    code: Code
    level: Literal["warn", "fail"]
    what: str
    todo: str = ""
    passing: bool = False
    """It may pass by itself, or only now be so: a collector that starts says it and starts all the same."""

    @property
    def text(self) -> str:
        """In one line."""
        return f"{self.what}: {self.todo}" if self.todo else self.what


class MetricFacts(msgspec.Struct, frozen=True):
    """What a source knows of a metric; None is "not known"."""

    exists: bool | None = None
    seen_at: int | None = None
    """Of its latest sample."""
    granularity: float | None = None
    """Seconds between two stored samples, where they are farthest apart."""
    coarsest: float | None = None
    """The largest granularity with which the source can prove a period; None: the period itself."""
    labels: frozenset[str] | None = None
    """All labels that it has."""
    kind: Kind = ""
    points: Mapping[str, int] | None = None
    """How many points a period has, by scope."""
    findings: tuple[Finding, ...] = ()
    """What only the source itself can judge."""


class SourceFacts(msgspec.Struct, frozen=True):
    """What a source knows of itself and its metrics; None is "not known"."""

    where: str
    """Its address, for people."""
    metrics: Mapping[str, MetricFacts] = {}
    """By public name."""
    retention: int | None = None
    """For how many seconds it keeps samples."""
    clock_ahead: float | None = None
    """Seconds by which its clock is ahead of ours; less than 0 if it is behind."""
    findings: tuple[Finding, ...] = ()


@runtime_checkable
class ExaminedSource(Protocol):
    """A source that can say more of itself than what one period of it shows."""

    async def examine(self, now: int, reach_seconds: int, advance: Advance, *, deep: bool) -> SourceFacts:
        """What it knows. `deep`: also what costs more than a few questions for each metric.

        `reach_seconds`: how long after its end a period may still be asked for. Raises SourceError if it cannot be
        asked; of a single metric that cannot, only a deep look says so in its findings.
        """


class Sampled(msgspec.Struct, frozen=True):
    """One period as the collector would fetch it."""

    scope_id: str
    period: Interval
    answer: Answer

    @property
    def labels(self) -> frozenset[str]:
        """The labels that have a value in at least one point."""
        return frozenset(
            label
            for series in self.answer.series
            for label, value in (*series.groupby.items(), *series.metadata.items())
            if value != ""
        )


class MetricCheck(msgspec.Struct, frozen=True):
    """A row of the billable-service table."""

    service: str
    """The public name, which rules use."""
    metric: str
    unit: str
    source: str
    period: int
    expected: bool
    facts: MetricFacts
    labels: tuple[str, ...] | None
    """Those of groupby and metadata that exist, hence usable in rules; None is "not known"."""
    sampled: Sampled | None
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of its findings; ok only if there is none."""
        return worst(self.findings)

    @property
    def points(self) -> int | None:
        """Points in a period, of all scopes."""
        return None if self.facts.points is None else sum(self.facts.points.values())


class CheckReport(msgspec.Struct, frozen=True):
    """What is known of a source, of whom it is asked for, and of each metric."""

    source: str
    where: str
    checked_at: int
    period: int
    reach: int
    retention: int | None
    clock_ahead: float | None
    scopes: tuple[str, ...]
    findings: tuple[Finding, ...]
    """Of the source as a whole, and of the scopes."""
    metrics: tuple[MetricCheck, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of all."""
        return worst([*self.findings, *(finding for metric in self.metrics for finding in metric.findings)])


def worst(findings: Iterable[Finding]) -> Verdict:
    """The verdict that findings amount to."""
    levels = {finding.level for finding in findings}
    return "fail" if "fail" in levels else "warn" if levels else "ok"


def retention_findings(
    where: str, retention: int | None, reach_seconds: int, verb: str = "keeps", todo: str = _KEEP_MORE
) -> list[Finding]:
    """Whether a source keeps its samples long enough for late collection, and for catching up after an outage."""
    if retention is None:
        what = f"for how long {where} keeps samples is not known"
        todo = f"see that it is {reach_seconds} s at least, a week more to catch up after an outage of the collector"
        return [Finding(Code.RETENTION_UNKNOWN, "warn", what, todo)]
    if retention < reach_seconds:
        what = f"{where} {verb} {retention} s, but periods are collected and corrected up to {reach_seconds} s later"
        return [Finding(Code.RETENTION, "fail", what, todo)]
    if retention < reach_seconds + _CATCH_UP:
        what = (
            f"{where} {verb} {retention} s: of an outage of the collector longer than "
            f"{(retention - reach_seconds) / 3600:.1f} h a part is lost"
        )
        return [Finding(Code.RETENTION, "warn", what, "keep at least a week more than wait and late horizon")]
    return []


def clock_findings(where: str, ahead: float | None) -> list[Finding]:
    """Whether a source's clock is near ours, as far as that is known; `ahead` in seconds."""
    if ahead is None or abs(ahead) <= _WARN_AHEAD:
        return []
    what = f"the clock of {where} is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} ours"
    level: Literal["warn", "fail"] = "fail" if abs(ahead) > _FAIL_AHEAD else "warn"
    return [
        Finding(Code.CLOCK, level, f"{what}, so usage falls into wrong periods", "let both follow NTP", passing=True)
    ]


class Judge:
    """Judges the metrics of one source."""

    def __init__(self, settings: CollectorSettings, metrics: Sequence[Metric], period_seconds: int) -> None:
        self._settings = settings
        self._metrics = tuple(metrics)
        self._period = period_seconds

    def is_expected(self, metric: Metric) -> bool:
        """Whether a gap opens where the metric is missing; not if it may be missing under any of its public names."""
        chosen = self._settings.completeness.metrics
        names = [other.name for other in self._metrics if other.metric == metric.metric]
        return all(chosen.get(name, EvidenceSettings()).expected for name in names)

    def metric(
        self, metric: Metric, source: SourceFacts, sampled: Sampled | None, more: Iterable[Finding]
    ) -> MetricCheck:
        """The row of a metric; `more` was found when it was sampled."""
        facts = self._completed(source.metrics.get(metric.name, MetricFacts()), sampled)
        wanted = (*metric.grouped_by(self._settings.scope_key), *metric.metadata)
        return MetricCheck(
            service=metric.name,
            metric=metric.metric,
            unit=metric.unit,
            source=self._settings.source_name,
            period=self._period,
            expected=self.is_expected(metric),
            facts=facts,
            labels=None if facts.labels is None else tuple(label for label in wanted if label in facts.labels),
            sampled=sampled,
            findings=(*self._findings(metric, facts, source.where), *more),
        )

    def findings(self, source: SourceFacts) -> list[tuple[str, Finding]]:
        """All findings of facts alone, without samples, each with the public name; '' is the source's own."""
        rows = [self.metric(metric, source, None, ()) for metric in self._metrics]
        return [("", finding) for finding in source.findings] + [
            (row.service, finding) for row in rows for finding in row.findings
        ]

    @staticmethod
    def _completed(facts: MetricFacts, sampled: Sampled | None) -> MetricFacts:
        """A source that says nothing of a metric may still have shown it."""
        if sampled is None or not sampled.answer.samples:
            return facts
        return msgspec.structs.replace(
            facts,
            exists=True if facts.exists is None else facts.exists,
            labels=sampled.labels if facts.labels is None else facts.labels,
        )

    def _findings(self, metric: Metric, facts: MetricFacts, where: str) -> list[Finding]:
        if facts.exists is False:
            return [*facts.findings, *self._missing(metric, facts, where)]
        found = list(facts.findings)
        if facts.exists is None:
            what = f"whether {where} has {metric.metric!r} is not known"
            found.append(Finding(Code.METRIC_UNKNOWN, "warn", what, "check it again when there is usage"))
        found += self._label_findings(metric, facts)
        found += self._granularity_findings(metric, facts)
        points = sum(facts.points.values()) if facts.points is not None else 0
        if points > _MANY_POINTS:
            what = f"a period has {points} points"
            todo = "take labels that often change, such as names of pods or requests, out of groupby and metadata"
            found.append(Finding(Code.MANY_POINTS, "warn", what, todo))
        return found

    def _missing(self, metric: Metric, facts: MetricFacts, where: str) -> list[Finding]:
        if any(finding.code is Code.NOT_A_METRIC for finding in facts.findings):
            return []
        what = f"metric {metric.metric!r} does not exist on {where}"
        if not self.is_expected(metric):
            return [Finding(Code.NO_METRIC, "warn", what)]
        key = f"collect.completeness.metrics.{metric.name}.expected"
        return [Finding(Code.NO_METRIC, "fail", what, f"check its name, or set {key} to false if it may be missing")]

    def _label_findings(self, metric: Metric, facts: MetricFacts) -> list[Finding]:
        if facts.labels is None:
            wanted = ", ".join((*metric.grouped_by(self._settings.scope_key), *metric.metadata))
            what = f"whether the labels {wanted} exist is not known"
            return [Finding(Code.LABELS_UNKNOWN, "warn", what, "check it again when there is usage")]
        found = []
        scope_key = self._settings.scope_key
        for label in metric.grouped_by(scope_key):
            if label in facts.labels:
                continue
            if label == scope_key:
                why, todo = "no usage is ever found for any scope", "set collect.scope_key to the label that names it"
            else:
                why, todo = "what should be told apart becomes one line", "correct groupby in metrics.yml"
            found.append(_no_label("fail", label, f"{why}", facts.labels, todo))
        for label in metric.metadata:
            if label not in facts.labels:
                why = "rules see it as ''"
                found.append(
                    _no_label("warn", label, why, facts.labels, "correct metadata in metrics.yml, or take it out")
                )
        return found

    def _granularity_findings(self, metric: Metric, facts: MetricFacts) -> list[Finding]:
        needed = min(self._period, facts.coarsest or self._period)
        if facts.granularity is None:
            key = f"collect.completeness.metrics.{metric.name}.interval"
            what = f"how often the source has a sample is not known: every {needed:g} s is needed"
            return [Finding(Code.GRANULARITY_UNKNOWN, "warn", what, f"if you know it, set {key}")]
        if facts.granularity > needed:
            what = (
                f"a sample every {facts.granularity:g} s is too seldom for a period of {self._period} s, which needs "
                f"one every {needed:g} s"
            )
            todo = "measure more often there, or set a longer engine.period"
            return [Finding(Code.TOO_SELDOM, "fail", what, todo)]
        return []


def _no_label(level: Literal["warn", "fail"], label: str, why: str, known: frozenset[str], todo: str) -> Finding:
    close = get_close_matches(label, sorted(known), 1)
    there = f"did you mean {close[0]!r}? " if close else ""
    listed = sorted(known)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    what = f"no series has the label {label!r}, so {why}; {there}there are {', '.join(listed[:_SHOWN]) or 'none'}{more}"
    return Finding(Code.NO_LABEL, level, what, todo)


def sample_findings(sampled: Sampled, skipped: int) -> list[Finding]:
    """What the answer for one scope and period says of all that will be asked."""
    answer, period = sampled.answer, sampled.period
    when = f"{iso(period.begin)} to {iso(period.end)} of scope {sampled.scope_id!r}"
    found = []
    missing = period.end - period.begin - seconds(answer.covers)
    if missing > 0:
        what = f"of {when} {missing} s are missing ({answer.note[:300]})"
        level: Literal["warn", "fail"] = "warn" if answer.covers else "fail"
        found.append(Finding(Code.GAP, level, what, "see whether the source had an outage", passing=True))
    elif answer.proof == "weak":
        what = (
            f"nothing proves that {when} is complete ({answer.note[:300]})"
            if answer.note
            else f"nothing proves that {when} is complete"
        )
        found.append(
            Finding(Code.WEAK, "warn", what, "name what proves it in collect.completeness or collect.rest.proof")
        )
    if answer.quarantined:
        count, first = len(answer.quarantined), answer.quarantined[0]
        what = (
            f"{count} of {count + len(answer.samples)} points of {when} cannot be read, the first: {first.reason[:200]}"
        )
        found.append(Finding(Code.UNREADABLE, "warn", what, "correct it at the source, or the metric's mutate or skip"))
    if not answer.samples and not answer.quarantined and not skipped:
        what = f"no point in {when}: what the metric gives was not seen"
        found.append(Finding(Code.SAMPLE_UNKNOWN, "warn", what, "check it again when there is usage", passing=True))
    return found


def start_remarks(findings: Iterable[tuple[str, Finding]]) -> list[str]:
    """What a collector that starts has to say. Raises UnfitSourceError with all that no waiting can mend."""
    said: dict[str, list[str]] = {}
    final: set[str] = set()
    for service, finding in findings:
        said.setdefault(finding.text, []).append(service)
        if finding.level == "fail" and not finding.passing:
            final.add(finding.text)
    texts = {text: _of(services, text) for text, services in said.items()}
    if final:
        raise UnfitSourceError("\n".join(line for text, line in texts.items() if text in final))
    return list(texts.values())


def _of(services: Sequence[str], text: str) -> str:
    named = [service for service in dict.fromkeys(services) if service]
    more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
    return f"{', '.join(named[:_SHOWN])}{more}: {text}" if named else text
