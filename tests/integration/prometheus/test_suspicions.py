"""What looks wrong in numbers whose time is covered: said in the note, on a real Prometheus, and never a gap."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from collectors.errors import SourceAwayError, SourceError
from collectors.metrics_yml import Metric, read
from collectors.prometheus.api import Item, PrometheusApi
from collectors.prometheus.promql import PrometheusArgs
from collectors.prometheus.source import Factory, PrometheusSource
from collectors.prometheus.suspicions import Suspicions
from collectors.settings import CollectorSettings, CompletenessSettings, PrometheusSettings
from collectors.source import Answer, SourceContext
from rater.model.interval import Interval
from tests.integration.prometheus.server import LaptopPrometheus
from tests.integration.prometheus.world import HOUR, Shown, Span, T, Target, openmetrics

LIFE = Span(0, 6 * HOUR)
METRICS = {
    metric.name: metric
    for metric in read(
        """
metrics:
  added:
    - {unit: GiB, groupby: [id], extra_args: {aggregation_method: sum}}
    - {unit: GiB, groupby: [id], alt_name: highest}
    - {unit: GiB, alt_name: everyone, extra_args: {aggregation_method: sum}}
  copied: {unit: GiB, groupby: [id], extra_args: {aggregation_method: sum}}
  counted_total: {unit: B, groupby: [id], extra_args: {range_function: rate}}
""",
        "metrics.yml",
        Factory.read_extra_args,
    ).metrics
}
HIDDEN = Span(3 * HOUR - 600, 3 * HOUR + 600)
DARK = Span(5 * HOUR - 600, 5 * HOUR + 600)

A, B = Target("volumes", "exp-a", LIFE, 5), Target("volumes", "exp-b", LIFE, 35)
NODE = Target("nodes", "node", LIFE, 15, gone=(DARK,))


def _added(by: Target, project: str, value: str, life: Span = LIFE) -> Shown:
    return Shown("added", by, life, (("project_id", project), ("id", f"v-{project}")), value)


def _counter(project: str, from_zero_at: int = 0, hidden: tuple[Span, ...] = ()) -> Shown:
    def value(at: int) -> str:
        return str(10 * (at - (from_zero_at if at >= from_zero_at else 0)))

    return Shown("counted_total", NODE, LIFE, (("project_id", project), ("id", f"c-{project}")), value, hidden)


SERIES = [
    *(_added(exporter, "p1", "7") for exporter in (A, B)),  # shown twice
    _added(A, "p2", "7"),
    _added(A, "p3", "3"),  # two shards of one thing
    _added(B, "p3", "9"),
    _added(A, "p4", "7", Span(0, HOUR + 1800)),  # moved from one to the other, in the middle of an hour
    _added(B, "p4", "7", Span(HOUR + 1800, LIFE.end)),
    _counter("p1", hidden=(HIDDEN,)),  # not shown for a while, went on
    _counter("p2", from_zero_at=HIDDEN.end, hidden=(HIDDEN,)),  # stopped, and started again
    _counter("p3"),
]


def _two_replicas() -> list[str]:
    """One target as two replicas of Prometheus write it into one store."""
    ups, copied = [], []
    for replica, offset in (("a", 2), ("b", 32)):
        for at in range(offset, LIFE.end, 60):
            ups.append(f'up{{job="copied",instance="x",replica="{replica}"}} 1 {T + at}')
            copied.append(f'copied{{job="copied",instance="x",replica="{replica}",project_id="p1",id="c"}} 5 {T + at}')
    return [*ups, "# TYPE copied gauge", *copied]


@pytest.fixture(scope="module")
def server(start_prometheus: Callable[[list[str]], LaptopPrometheus]) -> LaptopPrometheus:
    lines = openmetrics([A, B, NODE], SERIES)
    ups = [line for line in lines if line.startswith("up{")]
    copies = _two_replicas()
    more_ups = [line for line in copies if line.startswith("up{")]
    rest = [line for line in (*lines, *copies) if not line.startswith(("up{", "# TYPE up"))]
    return start_prometheus(["# TYPE up gauge", *ups, *more_ups, *rest])


class Asked:
    def __init__(self, url: str) -> None:
        settings = CollectorSettings(prometheus=PrometheusSettings(url=url))
        self.source = PrometheusSource(SourceContext(settings, HOUR, tuple(METRICS.values())))

    async def answer(self, scope_id: str, metric: str, hour: int) -> Answer:
        period = Interval(T + hour * HOUR, T + (hour + 1) * HOUR)
        return await self.source.session(period, T + 20 * HOUR).collect(scope_id, METRICS[metric])


@pytest.fixture
async def asked(server: LaptopPrometheus) -> AsyncIterator[Asked]:
    found = Asked(server.url)
    yield found
    await found.source.close()


def _whole(answer: Answer, hour: int) -> bool:
    return (answer.covers, answer.proof) == ([Interval(T + hour * HOUR, T + (hour + 1) * HOUR)], "proven")


async def test_a_resource_that_two_exporters_show_alike_is_suspected_to_be_added_twice(asked: Asked) -> None:
    answers = {scope: await asked.answer(scope, "added", 1) for scope in ("p1", "p2", "p3", "p4", "p9")}

    assert all(_whole(answer, 1) for answer in answers.values())
    suspected = {scope for scope, answer in answers.items() if "suspicion: duplicate source" in answer.note}
    assert suspected == {"p1"}
    assert "1 of its resources are shown by several targets with about the same value" in answers["p1"].note
    assert sum(sample.qty for sample in answers["p1"].samples) >= 2 * 60 * 7


@pytest.mark.parametrize("metric", ["highest", "everyone"])
async def test_what_adds_nothing_or_names_no_resource_is_not_suspected(asked: Asked, metric: str) -> None:
    assert "suspicion" not in (await asked.answer("p1", metric, 1)).note


async def test_replicas_in_one_store_without_deduplication_are_suspected_for_everybody(asked: Asked) -> None:
    for scope in ("p1", "p9"):
        answer = await asked.answer(scope, "copied", 1)
        assert _whole(answer, 1)
        assert "suspicion: duplicate source: several series of up for copied/x, as replicas" in answer.note


async def test_a_counter_that_went_on_while_nobody_showed_it_is_suspected(asked: Asked) -> None:
    """Given three counters: one hidden at 03:00 that went on, one that began again at 0, one never hidden."""
    notes = {scope: (await asked.answer(scope, "counted_total", 3)).note for scope in ("p1", "p2", "p3")}
    before = await asked.answer("p1", "counted_total", 2)

    assert {scope for scope, note in notes.items() if "suspicion" in note} == {"p1"}
    assert "1 of its counters were not shown when the period began, and came back above" in notes["p1"]
    assert _whole(await asked.answer("p1", "counted_total", 3), 3)
    assert "suspicion" not in before.note


async def test_what_a_dark_target_hid_is_a_gap_and_no_suspicion(asked: Asked) -> None:
    answer = await asked.answer("p3", "counted_total", 5)

    assert not _whole(answer, 5)
    assert "suspicion" not in answer.note


class Refusing(PrometheusApi):
    """Finds every question too much, or is away."""

    fault: SourceError = SourceError("too many samples")

    async def query(self, expression: str, at: float) -> list[Item]:
        raise self.fault


async def test_a_question_that_is_too_much_leaves_the_answer_as_it_is() -> None:
    api = Refusing(PrometheusSettings(url="http://127.0.0.1:1/api/v1"), 1)
    period = Interval(T, T + HOUR)
    suspicions = Suspicions(api, CompletenessSettings(), "project_id", ("project_id", "id"), period)
    metric: Metric = METRICS["counted_total"]
    assert isinstance(metric.extra_args, PrometheusArgs)

    assert await suspicions.of(metric, {}, 60) == {"": ["suspicions could not be looked for: too many samples"]}
    api.fault = SourceAwayError("down")
    with pytest.raises(SourceAwayError):
        await suspicions.of(metric, {}, 60)
