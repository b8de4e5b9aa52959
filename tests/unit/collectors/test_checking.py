"""The check of a source: what verdict its facts amount to, what stops a start, and what a stranger's source can say."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from collectors.check_run import check_parts
from collectors.checking import (
    CheckReport,
    Code,
    Finding,
    Judge,
    MetricFacts,
    SourceFacts,
    clock_findings,
    retention_findings,
    start_remarks,
    worst,
)
from collectors.errors import NotSettledError, SourceAwayError, SourceError, UnfitSourceError
from collectors.metrics_yml import Metric, read
from collectors.prometheus.kinds import declared_type, function_findings, rate_finding
from collectors.prometheus.promql import PrometheusArgs, read_extra_args
from collectors.settings import CollectorSettings, CompletenessSettings, EvidenceSettings
from collectors.source import Answer, PeriodSession, SourceContext
from rater.model.interval import Interval
from rater.model.usage import QuarantinedItem, Sample, Series

HOUR = 3600
NOW = 1_767_571_200 + 900  # a quarter past
LAST = Interval(NOW - 900 - HOUR, NOW - 900)
BEFORE = Interval(LAST.begin - HOUR, LAST.begin)
METRICS = "metrics: {vm: {unit: u, alt_name: instance, groupby: [id], metadata: [flavor]}}"
ALL = frozenset({"project_id", "id", "flavor", "job"})
SOUND = MetricFacts(exists=True, granularity=60.0, labels=ALL)


def metrics(text: str = METRICS) -> tuple[Metric, ...]:
    return read(text, "metrics.yml", read_extra_args).metrics


def codes(facts: MetricFacts, text: str = METRICS, **completeness: Any) -> list[tuple[str, str]]:
    """(code, level) of what the only metric of a file amounts to."""
    settings = CollectorSettings(completeness=CompletenessSettings(**completeness))
    (metric,) = metrics(text)
    row = Judge(settings, [metric], HOUR).metric(metric, SourceFacts("here", {metric.name: facts}), None, ())
    assert row.verdict == worst(row.findings)
    return [(finding.code.value, finding.level) for finding in row.findings]


# --- facts


def test_what_is_known_and_fits_is_ok() -> None:
    assert codes(SOUND) == []


def test_what_is_not_known_is_never_ok() -> None:
    assert codes(MetricFacts()) == [
        ("metric-unknown", "warn"),
        ("labels-unknown", "warn"),
        ("granularity-unknown", "warn"),
    ]
    assert codes(MetricFacts(exists=True, labels=ALL)) == [("granularity-unknown", "warn")]


@pytest.mark.parametrize(
    ("granularity", "coarsest", "found"),
    [
        (3600.0, None, []),
        (3601.0, None, [("too-seldom", "fail")]),
        (1440.0, 1440.0, []),
        (1441.0, 1440.0, [("too-seldom", "fail")]),
        (3601.0, 7200.0, [("too-seldom", "fail")]),  # whatever a source thinks of itself
    ],
)
def test_a_source_that_stores_too_seldom_never_passes(
    granularity: float, coarsest: float | None, found: list[tuple[str, str]]
) -> None:
    assert codes(MetricFacts(exists=True, labels=ALL, granularity=granularity, coarsest=coarsest)) == found


def test_labels_that_are_missing_matter_by_what_they_are_for() -> None:
    def without(label: str) -> list[tuple[str, str]]:
        return codes(MetricFacts(exists=True, granularity=60.0, labels=ALL - {label}))

    assert without("id") == without("project_id") == [("no-label", "fail")]
    assert without("flavor") == [("no-label", "warn")]
    assert without("job") == []


def test_a_metric_that_may_be_missing_is_a_remark() -> None:
    missing = MetricFacts(exists=False)
    both = "metrics: {vm: [{unit: u, alt_name: a}, {unit: u, alt_name: b}]}"
    may_be = EvidenceSettings(expected=False)

    assert codes(missing) == [("no-metric", "fail")]
    assert codes(missing, metrics={"instance": may_be}) == [("no-metric", "warn")]
    judge = Judge(CollectorSettings(completeness=CompletenessSettings(metrics={"a": may_be})), metrics(both), HOUR)
    assert [judge.is_expected(metric) for metric in metrics(both)] == [False, False]


def test_a_million_lines_are_told() -> None:
    assert codes(MetricFacts(exists=True, granularity=60.0, labels=ALL, points={"a": 500_000})) == []
    points = {"a": 500_000, "b": 1}
    assert codes(MetricFacts(exists=True, granularity=60.0, labels=ALL, points=points)) == [("many-points", "warn")]


@pytest.mark.parametrize(
    ("kept", "found"),
    [
        (None, [("retention-unknown", "warn")]),
        (7199, [("retention", "fail")]),
        (7200, [("retention", "warn")]),
        (7200 + 7 * 86400, []),
    ],
)
def test_retention_covers_wait_and_a_week_of_catching_up(kept: int | None, found: list[tuple[str, str]]) -> None:
    assert [(one.code.value, one.level) for one in retention_findings("here", kept, 7200)] == found


@pytest.mark.parametrize(
    ("ahead", "level"),
    [(None, ""), (0.4, ""), (-5.0, ""), (5.1, "warn"), (-60.0, "warn"), (60.1, "fail"), (-61, "fail")],
)
def test_clocks_that_differ_put_usage_into_wrong_periods(ahead: float | None, level: str) -> None:
    found = clock_findings("here", ahead)

    assert [one.level for one in found] == [level] * bool(level)
    assert all(one.passing and ("behind" in one.what) is ((ahead or 0) < 0) for one in found)


# --- counter or gauge


@pytest.mark.parametrize(
    ("kind", "changes", "falls", "level"),
    [
        ("gauge", 100, 40, "fail"),
        ("gauge", 0, 0, "fail"),  # a rate of it is 0: nobody pays
        ("gauge", 100, 0, "warn"),  # called a gauge by mistake
        ("", 100, 21, "fail"),
        ("", 2, 2, "warn"),
        ("", 0, 0, "warn"),
        ("", 100, 20, "warn"),
        ("", 10, 0, ""),
    ],
)
def test_a_rate_is_for_counters(kind: str, changes: float, falls: float, level: str) -> None:
    found = rate_finding("rate", kind, changes, falls)

    assert ("" if found is None else found.level) == level


@pytest.mark.parametrize(
    ("kind", "args", "mutate", "found"),
    [
        ("counter", {}, "NONE", ["counter-as-gauge"]),
        ("counter", {"aggregation_method": "count"}, "NONE", []),
        ("counter", {}, "NUMBOOL", []),
        ("counter", {"range_function": "delta"}, "NONE", ["counter-delta"]),
        ("counter", {"range_function": "idelta"}, "NONE", ["counter-delta", "two-samples"]),
        ("counter", {"range_function": "rate"}, "NONE", []),
        ("counter", {"range_function": "irate"}, "NONE", ["two-samples"]),
        ("gauge", {}, "NONE", []),
        ("gauge", {"range_function": "delta"}, "NONE", []),
        ("", {}, "NONE", []),
    ],
)
def test_what_is_asked_of_a_counter(kind: str, args: dict[str, str], mutate: str, found: list[str]) -> None:
    (metric,) = metrics(f"metrics: {{vm: {{unit: u, mutate: {mutate}}}}}")

    assert [one.code.value for one in function_findings(metric, PrometheusArgs(**args), kind)] == found


def test_a_type_counts_if_all_targets_agree() -> None:
    assert declared_type({"a": [{"type": "gauge"}, {"type": "gauge", "help": "h"}]}, "a") == "gauge"
    assert declared_type({"a": [{"type": "gauge"}, {"type": "counter"}]}, "a") == ""
    assert declared_type({}, "a") == declared_type(None, "a") == declared_type({"a": [7]}, "a") == ""


# --- the start


def test_only_what_no_waiting_mends_stops_a_start() -> None:
    passing = Finding(Code.STALE, "fail", "it is gone", "look", passing=True)
    doubt = Finding(Code.WEAK, "warn", "it is weak")
    fault = Finding(Code.NO_METRIC, "fail", "it never was")

    assert start_remarks([("a", passing), ("b", passing), ("", doubt)]) == ["a, b: it is gone: look", "it is weak"]
    with pytest.raises(UnfitSourceError) as refused:
        start_remarks([("a", passing), ("a", fault), ("c", fault), ("", doubt)])
    assert str(refused.value) == "a, c: it never was"


# --- a source of somebody else, which has no `examine`


class Stranger:
    """A source that answers, and knows nothing of itself. Its answers: by (scope, period begin), or an error."""

    def __init__(self, answers: dict[tuple[str, int], Any], *, check: Any = ()) -> None:
        self.asked: list[tuple[str, int]] = []
        self._answers = answers
        self._check = check

    async def check(self, now: int, reach_seconds: int) -> list[str]:
        if isinstance(self._check, Exception):
            raise self._check
        return list(self._check)

    async def oldest(self, now: int) -> int:
        return 0

    def session(self, period: Interval, now: int) -> PeriodSession:
        source = self

        class Session:
            async def collect(self, scope_id: str, metric: Metric) -> Answer:
                source.asked.append((scope_id, period.begin))
                found = source._answers.get((scope_id, period.begin), Answer([period]))
                if isinstance(found, Exception):
                    raise found
                assert isinstance(found, Answer)
                return found

        return Session()

    async def close(self) -> None:
        """Nothing is open."""


class Names:
    """A fetcher."""

    def __init__(self, *scopes: str) -> None:
        self._scopes = set(scopes)

    async def fetch(self, now: int, since: int) -> set[str]:
        return self._scopes

    async def close(self) -> None:
        """Nothing is open."""


def answer(period: Interval = LAST, **more: Any) -> Answer:
    labels = Series({"project_id": "b", "id": "x"}, {"flavor": ""})
    fields = {"covers": [period], "series": [labels], "samples": [Sample(0, period.begin, period.end, Decimal(3))]}
    return Answer(**{**fields, **more})


async def check(source: Stranger, *scopes: str) -> CheckReport:
    context = SourceContext(CollectorSettings(), HOUR, metrics())
    steps: list[tuple[int, int]] = []
    report = await check_parts(context, source, Names(*scopes), NOW, 7200, lambda *step: steps.append(step))
    assert steps[-1] == (2, 2)
    return report


def found(report: CheckReport) -> list[tuple[str, str]]:
    return [(one.code.value, one.level) for one in (*report.findings, *report.metrics[0].findings)]


async def test_a_source_without_examine_is_known_by_its_sample() -> None:
    source = Stranger({("b", LAST.begin): answer()}, check=["take care"])

    report = await check(source, "a", "b", "c", "d")

    assert source.asked == [("a", LAST.begin), ("b", LAST.begin)]
    row = report.metrics[0]
    assert found(report) == [("source", "warn"), ("no-label", "warn"), ("granularity-unknown", "warn")]
    assert (row.facts.exists, row.labels, row.points) == (True, ("id", "project_id"), None)
    assert (report.verdict, report.findings[0].text, report.retention) == ("warn", "take care", None)


async def test_what_no_scope_has_is_not_known() -> None:
    source = Stranger({})

    report = await check(source, "a", "b", "c", "d")

    assert source.asked == [("a", LAST.begin), ("b", LAST.begin), ("c", LAST.begin)]
    assert found(report)[0] == ("metric-unknown", "warn")
    assert found(report)[-1] == ("sample-unknown", "warn")


async def test_a_period_that_has_not_settled_gives_way_to_the_one_before() -> None:
    source = Stranger({("b", LAST.begin): NotSettledError("soon"), ("b", BEFORE.begin): answer(BEFORE)})

    report = await check(source, "b")

    sampled = report.metrics[0].sampled
    assert sampled is not None
    assert sampled.period == BEFORE


@pytest.mark.parametrize(
    ("reply", "finding"),
    [
        (answer(covers=[Interval(LAST.begin, LAST.end - 60)]), ("gap", "warn")),
        (answer(covers=[]), ("gap", "fail")),
        (answer(proof="weak"), ("weak", "warn")),
        (answer(quarantined=[QuarantinedItem("NaN", "its value is no number", {}, {})]), ("unreadable", "warn")),
        (SourceError("it broke"), ("not-asked", "fail")),
    ],
)
async def test_the_sample_says_what_all_answers_will_be_like(reply: Any, finding: tuple[str, str]) -> None:
    report = await check(Stranger({("b", LAST.begin): reply}), "b")

    assert finding in found(report)


async def test_a_source_that_would_not_start_fails_and_one_that_is_away_raises() -> None:
    unfit = await check(Stranger({}, check=UnfitSourceError("no metric a\nno metric b")), "b")

    assert [finding.text for finding in unfit.findings] == ["no metric a", "no metric b"]
    assert unfit.verdict == "fail"
    with pytest.raises(SourceAwayError):
        await check(Stranger({}, check=SourceAwayError("away")), "b")
    with pytest.raises(SourceAwayError):
        await check(Stranger({("b", LAST.begin): SourceAwayError("away")}), "b")


async def test_nobody_to_ask_for_is_a_fault() -> None:
    source = Stranger({})

    report = await check(source)

    assert report.findings[0].code is Code.NO_SCOPES
    assert (report.verdict, source.asked) == ("fail", [])


# --- the page


def test_the_page_says_what_to_do_about_every_code() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "check.md").read_text()

    assert re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE)[: len(Code)] == [code.value for code in Code]
