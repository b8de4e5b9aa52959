"""Where traces begin: a question to a source, and the header with which its answer or its failure is published."""

from __future__ import annotations

import pytest

from collectors.errors import SourceAwayError, SourceError
from collectors.history import History
from collectors.publisher import Publisher
from collectors.runner import Collector
from collectors.settings import CollectorSettings
from rater.kafka import KafkaSettings, Topic
from rater.log_fields import fields_of_context
from rater.model.codec import Headers
from rater.model.interval import Interval
from tests.unit.collectors.test_runner import METRICS, P, World, _raise
from tests.unit.tracing.traced import Traced, traceparent


class Kept(Publisher):
    """Keeps the headers of what it would send to `usage`."""

    def __init__(self, traced: Traced) -> None:
        super().__init__(KafkaSettings(), tracing=traced.tracing)
        self.headers: list[Headers] = []

    async def _deliver(self, records: list[tuple[Topic, bytes | None, bytes, Headers]]) -> None:
        self.headers += [headers for _, _, _, headers in records]


def collector(world: World, kept: Kept, traced: Traced) -> Collector:
    settings = CollectorSettings(source="fake", since="2026-01-01T02:00:00Z", concurrency=1)
    return Collector(
        settings, METRICS[:1], P, world, world, kept, History("fake", P), world.clock,
        spread=lambda pause: pause, tracing=traced.tracing,
    )  # fmt: skip


@pytest.fixture
def traced() -> Traced:
    return Traced(1.0)


async def test_a_collection_is_fetched_and_published_in_one_trace(traced: Traced) -> None:
    kept = Kept(traced)
    await collector(World(), kept, traced).round()

    [collect], [fetch], [publish] = (traced.named(name) for name in ("collect", "fetch", "publish usage"))
    assert {span.parent and span.parent.span_id for span in (fetch, publish)} == {collect.context.span_id}
    assert collect.parent is None
    assert collect.attributes == {
        "rater.scope_id": "p1",
        "rater.metric": "m",
        "rater.source": "fake",
        "rater.period_begin": "2026-01-01T02:00:00Z",
    }
    plan, collection = kept.headers
    assert "traceparent" not in dict(plan)
    assert dict(collection)["traceparent"].decode() == traceparent(publish)


async def test_why_there_is_no_answer_belongs_to_the_question(traced: Traced) -> None:
    world, kept = World(), Kept(traced)
    world.answer = _raise(SourceError("a fault with vm1 in it"))
    await collector(world, kept, traced).round()

    [collect] = traced.named("collect")
    assert not collect.status.is_ok
    assert dict(kept.headers[-1])["traceparent"].decode() == traceparent(collect)
    assert not any("vm1" in span.to_json() for span in traced.spans)


async def test_a_source_that_is_away_ends_the_trace(traced: Traced) -> None:
    world = World()
    world.answer = _raise(SourceAwayError("away"))
    await collector(world, Kept(traced), traced).round()

    assert [(span.attributes or {})["error.type"] for span in traced.spans] == ["SourceAwayError"] * 2


async def test_lines_of_a_source_name_source_metric_and_period_and_no_scope() -> None:
    """Scopes share questions: which of them happened to ask first says nothing."""
    world, told = World(), []

    def answer(scope_id: str, metric: str, period: Interval) -> object:
        told.append(dict(fields_of_context()))
        raise SourceError("no")

    world.answer = answer  # type: ignore[assignment]  # it never answers
    off = Traced(0.0)
    await collector(world, Kept(off), off).round()

    assert told == [{"source": "fake", "metric": "m", "period_begin": 1_767_225_600 + 2 * P}]
    assert fields_of_context() == {}
