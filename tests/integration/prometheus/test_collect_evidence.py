"""The rules of completeness on a real Prometheus: every planted hole is named, nothing else is.

A day of a small cloud with outages of single targets, of a redundant pair, of an exporter's backend and of Prometheus
itself. The truth is computed from what was planted, without any of the code under test.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from decimal import Decimal

import pytest

from collectors.errors import NotSettledError, SourceError
from collectors.metrics_yml import Metric, read
from collectors.prometheus.source import Factory, PrometheusSource
from collectors.settings import CollectorSettings, CompletenessSettings, EvidenceSettings, PrometheusSettings
from collectors.source import Answer, SourceContext
from rater.model.interval import Interval, clip, subtract
from tests.integration.prometheus.server import LaptopPrometheus
from tests.integration.prometheus.world import HOUR, STEP, Shown, Span, T, Target, openmetrics
from tests.integration.prometheus.world import missing as missing_of

DAY = Span(0, 24 * HOUR)
OUTAGE = Span(18 * HOUR, 18 * HOUR + 1800)  # of Prometheus itself: no sample of anything

METRICS = """
metrics:
  vm:
    unit: instance
    groupby: [id, project_id]
    metadata: [flavor]
    mutate: NUMBOOL
    alt_name: instance
  volume: {unit: GiB, groupby: [id, project_id]}
  object: {unit: GiB, groupby: [id, project_id], extra_args: {aggregation_method: sum}}
  traffic:
    unit: B
    groupby: [id, project_id]
    extra_args: {query_suffix: '* on (id, project_id) group_left (flavor) vm_info'}
  recorded: {unit: x, groupby: [project_id]}
  pushed: {unit: x, groupby: [project_id]}
"""
SCOPES = ("p1", "p2", "p3", "p9")


def _target(job: str, instance: str, offset: int, life: Span = DAY, **dark: tuple[Span, ...]) -> Target:
    dark["gone"] = (*dark.get("gone", ()), OUTAGE)
    return Target(job, instance, life, offset, **dark)


# hypervisors: node-2 silent for two hours, node-3 down (`up` 0) for 40 minutes, node-4 taken away at 03:00 for good
N1 = _target("libvirt", "node-1:9177", 7)
N2 = _target("libvirt", "node-2:9177", 11, gone=(Span(10 * HOUR, 12 * HOUR),))
N3 = _target("libvirt", "node-3:9177", 13, down=(Span(14 * HOUR + 600, 14 * HOUR + 3000),))
N4 = _target("libvirt", "node-4:9177", 17, Span(0, 3 * HOUR))
# a pair that shows the same volumes: one of them dark for four hours, later both at once for half an hour
A = _target("openstack", "exp-a:9180", 3, gone=(Span(5 * HOUR, 9 * HOUR), Span(20 * HOUR, 21 * HOUR)))
B = _target("openstack", "exp-b:9180", 33, down=(Span(20 * HOUR + 1800, 21 * HOUR),))
S = _target("swift", "swift:9999", 21)
TARGETS = [N1, N2, N3, N4, A, B, S]


def _vm(target: Target, project: str, name: str, life: Span = DAY) -> Shown:
    return Shown("vm", target, life, (("project_id", project), ("id", name), ("flavor", "m1")))


def _both(project: str, name: str, life: Span = DAY) -> list[Shown]:
    return [Shown("volume", exporter, life, (("project_id", project), ("id", name))) for exporter in (A, B)]


SILENT = Span(15 * HOUR, 16 * HOUR)  # swift answers its scrapes, but shows nothing
NO_JOIN = Span(6 * HOUR + 1800, 7 * HOUR + 600)

SERIES = [
    _vm(N1, "p1", "a"),
    _vm(N1, "p2", "b"),
    _vm(N2, "p1", "c"),
    _vm(N2, "p3", "d"),
    _vm(N3, "p2", "e"),
    _vm(N4, "p3", "f", Span(0, 2 * HOUR + 3000)),  # migrated to node-1 before node-4 went
    _vm(N1, "p3", "f", Span(2 * HOUR + 3000, 24 * HOUR)),
    _vm(N3, "p1", "g", Span(0, 13 * HOUR)),  # deleted an hour before node-3 went down
    _vm(N2, "p2", "h", Span(11 * HOUR, 24 * HOUR)),  # made while nobody looked at node-2
    *_both("p1", "v1"),
    *_both("p2", "v2"),
    *_both("p2", "v3", Span(0, 6 * HOUR)),  # deleted while one of the pair was dark
    *_both("p3", "v4", Span(8 * HOUR + 1800, 24 * HOUR)),  # made while one of the pair was dark
    Shown("object", S, DAY, (("project_id", "p1"), ("id", "o1")), "2", (SILENT,)),
    Shown("object", S, DAY, (("project_id", "p2"), ("id", "o2")), "3", (SILENT,)),
    Shown("traffic", N1, DAY, (("project_id", "p1"), ("id", "a")), "NaN"),
    Shown("traffic", N1, DAY, (("project_id", "p1"), ("id", "a2")), "5"),
    Shown("traffic", N1, DAY, (("project_id", "p2"), ("id", "b")), "7"),
    Shown("vm_info", S, DAY, (("project_id", "p1"), ("id", "a"), ("flavor", "m1"))),
    Shown("vm_info", S, DAY, (("project_id", "p1"), ("id", "a2"), ("flavor", "m2"))),
    Shown("vm_info", S, DAY, (("project_id", "p2"), ("id", "b"), ("flavor", "m1")), "1", (NO_JOIN,)),
]


def _truth(metric: str, scope: str, hour: int) -> list[Interval]:
    """When a resource of the scope lived and nobody that would have shown it answered."""
    holes = missing_of(SERIES, "vm" if metric == "instance" else metric, scope)
    return clip(holes, Interval(T + hour * HOUR, T + (hour + 1) * HOUR))


def _settings(server: LaptopPrometheus, **completeness: object) -> CollectorSettings:
    return CollectorSettings(
        prometheus=PrometheusSettings(url=server.url), completeness=CompletenessSettings(**completeness)
    )


def _metrics() -> dict[str, Metric]:
    return {metric.name: metric for metric in read(METRICS, "metrics.yml", Factory.read_extra_args).metrics}


class Asked:
    """A source and the world it was asked about."""

    def __init__(self, settings: CollectorSettings) -> None:
        self.metrics = _metrics()
        self.source = PrometheusSource(SourceContext(settings, HOUR, tuple(self.metrics.values())))

    async def answer(self, scope: str, metric: str, hour: int, now: int = T + 30 * HOUR) -> Answer:
        period = Interval(T + hour * HOUR, T + (hour + 1) * HOUR)
        return await self.source.session(period, now).collect(scope, self.metrics[metric])


@pytest.fixture(scope="module")
def server(start_prometheus: Callable[[list[str]], LaptopPrometheus]) -> LaptopPrometheus:
    recorded = [
        f'recorded{{project_id="{scope}"}} 1 {T + at}'
        for scope in ("p1", "p2")
        for at in range(0, 24 * HOUR, 300)
        if not (scope == "p2" and 2 * HOUR < at < 2 * HOUR + 2400) and not 4 * HOUR < at < 4 * HOUR + 1800
    ]
    pushed = [f'pushed{{project_id="p1",job="push"}} 1 {T + at}' for at in range(0, 24 * HOUR, 60)]
    pushes = [
        f'push_time_seconds{{job="batch"}} {T + at - at % 600} {T + at}'
        for at in range(0, 24 * HOUR, 60)
        if not 8 * HOUR <= at < 8 * HOUR + 1200
    ]
    lines = openmetrics(TARGETS, SERIES)
    lines += ["# TYPE recorded gauge", *recorded, "# TYPE pushed gauge", *pushed]
    lines += ["# TYPE push_time_seconds gauge", *pushes]
    return start_prometheus(lines)


@pytest.fixture
async def asked(server: LaptopPrometheus) -> AsyncIterator[Asked]:
    found = Asked(_settings(server))
    yield found
    await found.source.close()


@pytest.mark.parametrize("metric", ["instance", "volume"])
async def test_every_planted_hole_is_named_and_nothing_else(asked: Asked, metric: str) -> None:
    """Given a day with planted outages; when each hour is asked; then what is missing is what was planted.

    Borders are those of the scrapes: within one interval of when the hole really began and ended.
    """
    named: set[tuple[str, int]] = set()
    planted: set[tuple[str, int]] = set()
    for hour in range(1, 23):
        session = asked.source.session(Interval(T + hour * HOUR, T + (hour + 1) * HOUR), T + 30 * HOUR)
        for scope in SCOPES:
            answer = await session.collect(scope, asked.metrics[metric])
            period = Interval(T + hour * HOUR, T + (hour + 1) * HOUR)
            missing = subtract([period], answer.covers)
            truth = _truth(metric, scope, hour)
            if missing:
                named.add((scope, hour))
                assert answer.note
            if truth:
                planted.add((scope, hour))
            wrong = subtract(missing, truth) + subtract(truth, missing)
            assert all(part.end - part.begin <= STEP for part in wrong), (scope, hour, missing, truth, answer.note)

    slivers = {(scope, hour) for scope, hour in planted ^ named if _sliver(metric, scope, hour)}
    assert named - slivers == planted - slivers
    assert len(planted) >= 6


def _sliver(metric: str, scope: str, hour: int) -> bool:
    """Whether what was planted in the hour is less than a scrape, the end of a hole of the hour before."""
    return sum(part.end - part.begin for part in _truth(metric, scope, hour)) <= STEP


async def test_the_two_hour_hole_of_one_shard_is_found_to_the_scrape(asked: Asked) -> None:
    """Given node-2 dark between its scrapes at 09:59:11 and 12:00:11; then that is the hole, for its tenants only."""
    begin, end = T + 10 * HOUR + 11, T + 12 * HOUR + 11
    for scope in ("p1", "p3"):
        covers = [part for hour in range(9, 13) for part in (await asked.answer(scope, "instance", hour)).covers]
        assert subtract([Interval(T + 9 * HOUR, T + 13 * HOUR)], covers) == [Interval(begin, end)]
    answer = await asked.answer("p3", "instance", 10)
    assert "dark: libvirt/node-2:9177" in answer.note
    assert re.match(r"Prometheus \d+\.", answer.note)


async def test_usage_that_began_in_the_dark_is_not_taken_for_whole(asked: Asked) -> None:
    """Given a resource that the first answer after the dark shows; then the dark is missing for its scope, too."""
    hole = Interval(T + 11 * HOUR, T + 12 * HOUR)

    assert subtract([hole], (await asked.answer("p2", "instance", 11)).covers) == [hole]


async def test_a_true_zero_is_proven_and_says_who_looked(asked: Asked) -> None:
    answer = await asked.answer("p9", "instance", 8)

    assert answer.covers == [Interval(T + 8 * HOUR, T + 9 * HOUR)]
    assert (answer.proof, answer.samples) == ("proven", [])
    assert "4 targets looked at" in answer.note  # the one taken away at 03:00 is still known


async def test_nobody_looked_but_nothing_was_there_before_or_after_is_weak(asked: Asked) -> None:
    """Given an outage of Prometheus itself; then it is a hole for who used something, and weak for who did not."""
    used = await asked.answer("p1", "instance", 18)
    unused = await asked.answer("p9", "instance", 18)

    assert subtract([Interval(T + 18 * HOUR, T + 19 * HOUR)], used.covers) == [
        Interval(T + 18 * HOUR + 7, T + 18 * HOUR + 1800 + 11)
    ]
    assert unused.covers == [Interval(T + 18 * HOUR, T + 19 * HOUR)]
    assert unused.proof == "weak"
    assert "nobody looked 2026-01-05T18:00:13Z to 2026-01-05T18:30:07Z" in unused.note


async def test_a_silent_family_is_missing_for_all_that_had_it(asked: Asked) -> None:
    for scope in ("p1", "p2"):
        missing = subtract([Interval(T + 15 * HOUR, T + 16 * HOUR)], (await asked.answer(scope, "object", 15)).covers)
        assert missing == [Interval(T + 15 * HOUR + 21, T + 16 * HOUR)]
    assert (await asked.answer("p9", "object", 15)).covers == [Interval(T + 15 * HOUR, T + 16 * HOUR)]


async def test_a_join_without_partner_at_the_end_is_a_hole_of_the_whole_period(asked: Asked) -> None:
    """Given vm_info absent for p2 at 07:00; then the query answers nothing and the period is missing, not zero."""
    absent = await asked.answer("p2", "traffic", 6)
    present = await asked.answer("p2", "traffic", 7)

    assert (absent.covers, absent.samples) == ([], [])
    assert "vm_info is missing at the end of the period" in absent.note
    assert present.covers == [Interval(T + 7 * HOUR, T + 8 * HOUR)]
    assert [sample.qty for sample in present.samples] == [Decimal(7)]
    assert (await asked.answer("p9", "traffic", 6)).covers == [Interval(T + 6 * HOUR, T + 7 * HOUR)]


async def test_nan_is_quarantined_and_its_neighbour_is_taken(asked: Asked) -> None:
    answer = await asked.answer("p1", "traffic", 8)

    assert [(item.value, item.groupby["id"]) for item in answer.quarantined] == [("NaN", "a")]
    assert "it must be a finite number" in answer.quarantined[0].reason
    assert [sample.qty for sample in answer.samples] == [Decimal(5)]
    assert answer.covers == [Interval(T + 8 * HOUR, T + 9 * HOUR)]


async def test_samples_are_cloudkittys_one_per_resource_and_period(asked: Asked) -> None:
    answer = await asked.answer("p1", "instance", 3)

    assert [(s.begin, s.end, str(s.qty)) for s in answer.samples] == [(T + 3 * HOUR, T + 4 * HOUR, "1.0")] * 3
    assert sorted(series.groupby["id"] for series in answer.series) == ["a", "c", "g"]
    assert answer.series[0].groupby.keys() == {"id", "project_id"}
    assert answer.series[0].metadata == {"flavor": "m1"}


async def test_a_period_that_is_not_settled_is_asked_again(asked: Asked) -> None:
    """Given now just after a period, or a Prometheus that got no sample since; then nothing is claimed yet."""
    with pytest.raises(NotSettledError, match="over for less than 120 s"):
        await asked.answer("p1", "instance", 3, T + 4 * HOUR + 119)
    assert (await asked.answer("p1", "instance", 3, T + 4 * HOUR + 120)).proof == "proven"
    with pytest.raises(NotSettledError, match="was not yet seen after the end"):
        await asked.answer("p9", "instance", 23, T + 24 * HOUR + 600)


async def test_the_end_of_the_last_sample_is_never_a_zero(asked: Asked) -> None:
    """Given that nothing came after midnight and a whole period passed; then what lies behind is missing for all."""
    answer = await asked.answer("p9", "instance", 24, T + 26 * HOUR)

    assert answer.covers == [Interval(T + 24 * HOUR, T + 24 * HOUR + 13)]
    assert "no target answers from 2026-01-06T00:00:13Z on" in answer.note


async def test_before_the_first_sample_the_source_holds_nothing(asked: Asked) -> None:
    for scope in ("p1", "p9"):
        answer = await asked.answer(scope, "instance", 0)
        assert answer.covers == [Interval(T + 7, T + HOUR)]
        assert "the source holds nothing before 2026-01-05T00:00:07Z" in answer.note
    answer = await asked.answer("p9", "instance", -3)
    assert answer.covers == []
    assert "no target has shown vm within 86400 s" in answer.note


async def test_a_metric_without_up_of_its_own_is_weak_and_judged_by_its_samples(asked: Asked) -> None:
    whole = await asked.answer("p1", "recorded", 2)
    own_hole = await asked.answer("p2", "recorded", 2)
    all_hole = await asked.answer("p9", "recorded", 4)

    assert (whole.covers, whole.proof) == ([Interval(T + 2 * HOUR, T + 3 * HOUR)], "weak")
    assert subtract([Interval(T + 2 * HOUR, T + 3 * HOUR)], own_hole.covers) == [
        Interval(T + 2 * HOUR + 300, T + 2 * HOUR + 2400)
    ]
    assert subtract([Interval(T + 4 * HOUR, T + 5 * HOUR)], all_hole.covers) == [
        Interval(T + 4 * HOUR + 300, T + 4 * HOUR + 1800)
    ]


async def test_evidence_of_the_configuration_takes_the_place_of_targets(server: LaptopPrometheus) -> None:
    """Given a metric that a batch job pushes; when its push time is the evidence; then that says what is known."""
    evidence = EvidenceSettings(evidence="changes(push_time_seconds[11m]) > 0", interval=60)
    asked = Asked(_settings(server, metrics={"pushed": evidence}))
    try:
        known = await asked.answer("p1", "pushed", 5)
        hole = await asked.answer("p1", "pushed", 8)
    finally:
        await asked.source.close()

    assert (known.covers, known.proof) == ([Interval(T + 5 * HOUR, T + 6 * HOUR)], "proven")
    missing = subtract([Interval(T + 8 * HOUR, T + 9 * HOUR)], hole.covers)
    assert len(missing) == 1
    assert missing[0].begin <= T + 8 * HOUR + 700
    assert T + 8 * HOUR + 1100 <= missing[0].end <= T + 8 * HOUR + 1900


async def test_without_evidence_every_whole_answer_covers_but_weakly(server: LaptopPrometheus) -> None:
    asked = Asked(_settings(server, mode="off"))
    try:
        answer = await asked.answer("p3", "instance", 10)
    finally:
        await asked.source.close()

    assert (answer.covers, answer.proof) == ([Interval(T + 10 * HOUR, T + 11 * HOUR)], "weak")


async def test_scrapes_too_far_apart_for_the_period_are_refused(server: LaptopPrometheus) -> None:
    asked = Asked(_settings(server, scrape_interval=1800))
    try:
        with pytest.raises(SourceError, match="scraped every 1800 s: too seldom to see a gap in a period of 3600 s"):
            await asked.answer("p1", "instance", 3)
    finally:
        await asked.source.close()
