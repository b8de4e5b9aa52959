"""What a keeper traces: records, frames, checkpoints; and that nothing but headers is different for it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from rater.engine import Record
from rater.model.usage import UsageRecord
from rater.stream import traces
from rater.stream.keeper import Keeper
from rater.stream.traces import Traces
from rater.tracing.header import written
from tests.unit.engine.builders import HOUR, T, collection, context, failed, plan
from tests.unit.stream.test_keeper import PIN, Bench, DiedError
from tests.unit.tracing.traced import Traced, links, traceparent

FIRST, SECOND, OTHER = written(1, 2), written(3, 4), written(5, 6)


class Traceable(Bench):
    """A bench whose keepers trace."""

    def __init__(self) -> None:
        super().__init__()
        self.traced = Traced(0.0)  # nothing begins here: all follows

    async def restart(self, pin: Any = PIN) -> Keeper:
        kafka: Any = self.kafka
        made = Traces(self.traced.tracing, 0, "rater.usage", lambda: self.now)
        keeper = self.keeper = Keeper(0, context(), kafka, kafka, lambda: self.now, self.kafka.at, traces=made)
        await keeper.restore(1, pin)
        return keeper

    def add(self, usage: UsageRecord, header: str) -> Record:
        assert self.keeper is not None
        record = self.usage.add(usage)
        named = msgspec.structs.replace(record, headers=(*record.headers, ("traceparent", header.encode())))
        self.keeper.apply(named)
        return named

    def headers(self, topic: str) -> list[str]:
        """The traceparents of what was published, empty where there is none."""
        items = [item for item in self.kafka.published if item.topic == topic]
        return [dict(item.headers).get("traceparent", b"").decode() for item in items]


@pytest.fixture
async def bench() -> Traceable:
    made = Traceable()
    await made.restart()
    await made.take(plan("cpu", until=T + 3 * HOUR))
    return made


async def test_a_frame_links_to_its_collections_and_its_records_name_it(bench: Traceable) -> None:
    # given two collections of the frame, one of another hour
    half = T + HOUR // 2
    bench.add(collection(end=half), FIRST)
    bench.add(collection(half, T + HOUR), SECOND)
    bench.add(collection(T + HOUR, T + 2 * HOUR), OTHER)

    await bench.checkpoint()

    # then
    applied = bench.traced.named("apply usage")
    assert [span.parent and span.parent.span_id for span in applied] == [2, 4, 6]
    assert [(span.attributes or {})["messaging.kafka.offset"] for span in applied] == [1, 2, 3]
    [frame] = bench.traced.named("close frame")
    assert links(frame) == [FIRST, SECOND]
    assert frame.parent is None
    found = dict(frame.attributes or {})
    assert (found["rater.scope_id"], found["rater.revision"], found["rater.status"]) == ("A", 0, "rated")
    assert found["rater.period_begin"] == "2026-01-01T00:00:00+00:00"
    assert bench.headers("rated") == [traceparent(frame)]
    [checkpoint] = bench.traced.named("checkpoint")
    assert links(checkpoint) == [traceparent(frame)]
    assert [event.name for event in checkpoint.events] == [
        "cut",
        "chunks_written",
        "before_commit",
        "committed",
        "before_publish",
        "published",
    ]


async def test_what_is_published_again_after_a_crash_has_the_same_bytes(bench: Traceable) -> None:
    bench.add(collection(), FIRST)
    await bench.checkpoint()
    before = list(bench.kafka.published)
    await bench.restart()

    assert bench.kafka.published == before * 2
    assert all(bench.headers("rated"))


async def test_without_a_recorded_collection_nothing_is_traced(bench: Traceable) -> None:
    bench.add(collection(end=T + HOUR // 2), FIRST[:-1] + "0")
    bench.add(collection(T + HOUR // 2, T + HOUR), "nonsense")

    await bench.checkpoint()

    assert bench.traced.names == []
    assert bench.headers("rated") == [""]


async def test_the_output_is_the_same_but_for_that_header(bench: Traceable) -> None:
    plain = Bench()
    await plain.restart()
    await plain.take(plan("cpu", until=T + 3 * HOUR), collection())
    await plain.checkpoint()
    bench.add(collection(), FIRST)

    await bench.checkpoint()

    assert [
        msgspec.structs.replace(item, headers=tuple(pair for pair in item.headers if pair[0] != "traceparent"))
        for item in bench.kafka.published
    ] == plain.kafka.published
    assert bench.kafka.published != plain.kafka.published


async def test_a_gap_and_its_alert_link_to_the_question_that_failed(bench: Traceable) -> None:
    bench.add(failed(), FIRST)
    bench.now = T + 4 * HOUR

    await bench.checkpoint()

    frames = bench.traced.named("close frame")
    assert [links(frame) for frame in frames] == [[FIRST]]
    assert bench.headers("rated")[0] == bench.headers("alerts")[0] == traceparent(frames[0])
    assert not any(bench.headers("rated")[1:])


async def test_memory_of_what_was_traced_is_bounded(bench: Traceable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "MAX_KNOWN", 2)
    third = HOUR // 3
    for number in range(3):
        bench.add(collection(T + number * third, T + (number + 1) * third), written(1, number + 1))

    await bench.checkpoint()

    [frame] = bench.traced.named("close frame")
    assert links(frame) == [written(1, 2), written(1, 3)]


async def test_a_checkpoint_that_failed_is_traced_once_it_is_done(bench: Traceable) -> None:
    bench.add(collection(), FIRST)
    bench.kafka.dies_at = "before_commit"
    with pytest.raises(DiedError):
        await bench.checkpoint()
    assert bench.traced.named("checkpoint") == []
    bench.kafka.dies_at = ""
    await bench.checkpoint()

    [checkpoint] = bench.traced.named("checkpoint")
    assert [event.name for event in checkpoint.events].count("cut") == 1
