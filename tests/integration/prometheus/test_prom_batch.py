"""One question for many scopes gives each the same as a question of its own, on a real Prometheus."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from itertools import product

import pytest

from collectors.errors import SourceAwayError, SourceError
from collectors.metrics_yml import Metric, read
from collectors.prometheus import batch as prom_batch
from collectors.prometheus.api import Item, PrometheusApi
from collectors.prometheus.batch import Batches
from collectors.prometheus.promql import AGGREGATIONS, PrometheusArgs, each_scope_alone, read_extra_args, usage_query
from collectors.settings import PrometheusSettings
from rater.model.interval import Interval
from tests.integration.prometheus.server import LaptopPrometheus

T, HOUR = 1_767_225_600, 3600
PERIOD = Interval(T, T + HOUR)
SCOPES = [*(f"project-{n:02d}" for n in range(28)), "a.b|c", 'quo"te', "back\\slash", "line\nbreak", "*", "(x", ""]
LABELS = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def samples() -> list[str]:
    """Two resources a scope, one that only every third has; metrics that only some scopes have."""
    used, rare, wide = ["# TYPE used gauge"], ["# TYPE rare gauge"], ["# TYPE wide gauge"]
    for number, scope in enumerate(SCOPES):
        label = scope.translate(LABELS)
        for resource in ("vm-a", "vm-b", *(["vm-c"] if number % 3 == 0 else [])):
            for minute in range(-5, 61):
                value = (number + 1) * 1.1 + minute % 7 * 0.3 + len(resource)
                used.append(f'used{{project_id="{label}",id="{resource}"}} {value} {T + 60 * minute}')
    for scope in SCOPES[::2]:
        rare += [f'rare{{project_id="{scope.translate(LABELS)}",id="x"}} 1 {T + 60 * minute}' for minute in range(61)]
    for scope, resources in (("project-00", 1), ("project-01", 60)):
        wide += [f'wide{{project_id="{scope}",id="{n}"}} 1 {T + 1800}' for n in range(resources)]
    return [*used, *rare, *wide]


@pytest.fixture(scope="module")
def server(start_prometheus: Callable[[list[str]], LaptopPrometheus]) -> LaptopPrometheus:
    return start_prometheus(samples())


class Counting(PrometheusApi):
    """Counts what is asked."""

    asked = 0

    async def query(self, expression: str, at: float) -> list[Item]:
        self.asked += 1
        return await super().query(expression, at)


@pytest.fixture
async def api(server: LaptopPrometheus) -> AsyncIterator[Counting]:
    made = Counting(PrometheusSettings(url=server.url), 4)
    yield made
    await made.close()


def metric(name: str = "used", **extra: str) -> Metric:
    arguments = "".join(f"\n      {key}: {value!r}" for key, value in extra.items() if value)
    text = f"metrics:\n  {name}:\n    unit: u\n    groupby: [id]\n    extra_args:{arguments or ' {}'}\n"
    return read(text, "metrics.yml", read_extra_args).metrics[0]


async def all_of(batches: Batches, asked: Metric) -> list[list[Item]]:
    return await asyncio.gather(*(batches.items(scope, asked) for scope in SCOPES))


def batches_of(api: PrometheusApi, asked: Metric) -> Batches:
    return Batches(api, "project_id", PERIOD, {asked.internal_key: SCOPES})


def plain(items: list[Item]) -> list[tuple[list[tuple[str, str]], str]]:
    return sorted((sorted(item.metric.items()), item.value[1] if item.value else "") for item in items)


FORMS = [
    *({"aggregation_method": method} for method in AGGREGATIONS),
    *(
        {"aggregation_method": method, "range_function": over, "query_function": function, "query_suffix": suffix}
        for method, over, function, suffix in product(
            ("sum", "max"), ("rate", "delta", "changes", "deriv"), ("", "abs"), ("", "* 2", "/ 1024 != 0")
        )
    ),
    {"query_prefix": "2 *"},
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: " ".join(form.values()))
async def test_each_scope_gets_what_it_would_get_alone(
    api: Counting, form: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a form of query, asked for each scope alone
    monkeypatch.setattr(prom_batch, "SCOPES_AT_ONCE", 10)
    asked = metric(**form)
    assert isinstance(asked.extra_args, PrometheusArgs)
    alone = [
        await api.query(usage_query(asked, asked.extra_args, "project_id", [scope], HOUR), T + HOUR) for scope in SCOPES
    ]

    # when they share their questions
    api.asked = 0
    together = await all_of(batches_of(api, asked), asked)

    # then
    assert [plain(items) for items in together] == [plain(items) for items in alone]
    assert api.asked == -(-len(SCOPES) // 10)
    assert sum(map(len, alone)) > 0


async def test_a_scope_without_series_has_an_empty_answer(api: Counting) -> None:
    asked = metric("rare")
    counts = [len(items) for items in await all_of(batches_of(api, asked), asked)]
    assert counts == [1 - n % 2 for n in range(len(SCOPES))]
    assert api.asked == 1


@pytest.mark.parametrize("extra", [{"query_prefix": "topk(3,", "query_suffix": ")"}, {"query_suffix": "or rare"}])
async def test_what_may_mix_scopes_is_asked_for_each_alone(api: Counting, extra: dict[str, str]) -> None:
    asked = metric(**extra)
    assert not each_scope_alone(PrometheusArgs(**extra))
    await all_of(batches_of(api, asked), asked)
    assert api.asked == len(SCOPES)


async def test_a_scope_that_was_not_announced_is_asked_alone(api: Counting) -> None:
    asked = metric()
    batches = Batches(api, "project_id", PERIOD, {asked.internal_key: SCOPES[:5]})
    assert len(await batches.items(SCOPES[7], asked)) == 2
    assert api.asked == 1


async def test_an_answer_that_is_too_large_is_asked_in_halves(server: LaptopPrometheus) -> None:
    # given a limit that some eight scopes fit into
    api = Counting(PrometheusSettings(url=server.url, max_answer_bytes=2000), 4)
    asked = metric()
    try:
        together = await all_of(batches_of(api, asked), asked)
    finally:
        await api.close()

    # then all have their answers, by more questions
    assert [len(items) for items in together] == [3 if n % 3 == 0 else 2 for n in range(len(SCOPES))]
    assert 4 < api.asked < len(SCOPES)


async def test_a_scope_that_cannot_be_answered_fails_alone(server: LaptopPrometheus) -> None:
    # given a limit that the resources of one scope do not fit into
    api = Counting(PrometheusSettings(url=server.url, max_answer_bytes=2000), 4)
    asked = metric("wide")
    batches = Batches(api, "project_id", PERIOD, {asked.internal_key: ["project-00", "project-01", "nobody"]})
    try:
        with pytest.raises(SourceError, match="has more than 2000 bytes"):
            await batches.items("project-01", asked)
        assert len(await batches.items("project-00", asked)) == 1
        assert await batches.items("nobody", asked) == []
    finally:
        await api.close()


class Slow(Counting):
    """Fails where some scopes are asked for."""

    fails_for = ""

    async def query(self, expression: str, at: float) -> list[Item]:
        self.asked += 1
        if re.search(self.fails_for, expression):
            raise SourceError("no answer within 60 s")
        return []


@pytest.mark.parametrize(("fails_for", "questions", "failing"), [("", 16, len(SCOPES)), (r"project\W{1,3}00", 11, 1)])
async def test_a_source_that_fails_for_everybody_is_not_asked_for_each(
    fails_for: str, questions: int, failing: int
) -> None:
    """Each question may cost the whole timeout: sixteen in a row are enough, others between them are looked for."""
    api = Slow(PrometheusSettings(url="http://127.0.0.1:1/api/v1"), 4)
    api.fails_for = fails_for
    asked = metric()
    batches = batches_of(api, asked)
    told = await asyncio.gather(*(batches.items(scope, asked) for scope in SCOPES), return_exceptions=True)
    await batches.close()
    await api.close()

    assert sum(isinstance(fault, SourceError) for fault in told) == failing
    assert api.asked == questions


async def test_a_source_that_is_away_is_away_for_all_and_asked_once() -> None:
    api = Counting(PrometheusSettings(url="http://127.0.0.1:1/api/v1"), 4)
    asked = metric()
    batches = batches_of(api, asked)
    try:
        told = await asyncio.gather(*(batches.items(scope, asked) for scope in SCOPES), return_exceptions=True)
    finally:
        await batches.close()
        await api.close()
    assert all(isinstance(fault, SourceAwayError) for fault in told)
    assert api.asked == 1
