"""Publisher, replay and what is read back, on a real Kafka; the worker's own code judges what was published."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from itertools import count
from pathlib import Path

import pytest

from collectors.errors import PublishError
from collectors.history import read_history
from collectors.publisher import CollectionDraft, Publisher
from collectors.replay.run import ReplayOptions, replay_file
from collectors.times import iso
from deploy.local.kafka import LaptopKafka
from rater.kafka import KafkaSettings, Topic, create_topics
from rater.model.codec import CONTENT_TYPE, MSGPACK
from rater.model.interval import Interval
from rater.model.metric import Catalog, MetricSpec
from rater.model.partition import partition_of
from rater.model.rated import AlertKind, FrameStatus, RejectedHeaders
from rater.model.usage import Collection, CollectionFailed, Sample, ScopePlan, Series
from tests.conftest import OwnKafka
from tests.integration.judged import Judgement, records, usage

T = 1_767_225_600  # 2026-01-01T00:00:00Z
P = 3600
CATALOG = Catalog([MetricSpec("instance", "instance"), MetricSpec("volume", "GiB")])
LATER = T + 30 * P  # when every frame has closed
_numbers = count()


@pytest.fixture
async def settings(kafka: LaptopKafka) -> KafkaSettings:
    found = KafkaSettings(bootstrap=kafka.bootstrap, prefix=f"collect{next(_numbers)}.", partitions=4)
    await create_topics(found)
    return found


def _draft(scope_id: str, number: int = 0, samples: int = 1) -> CollectionDraft:
    begin = T + number * P
    return CollectionDraft(
        "test", scope_id, "instance", begin, begin + P, 1, "instance",
        covers=[Interval(begin, begin + P)],
        series=[Series({"id": str(n)}) for n in range(samples)],
        samples=[Sample(n, begin, begin + P, Decimal(1)) for n in range(samples)],
    )  # fmt: skip


async def test_what_is_published_lies_in_order_in_the_partition_of_its_scope(settings: KafkaSettings) -> None:
    """Given collections of many scopes at once; when confirmed; then each has its sequence, key and content type."""
    async with Publisher(settings) as publisher:
        await asyncio.gather(*(publisher.publish(_draft(f"p{n % 9}", n // 9, 1200)) for n in range(90)))
        await publisher.plan(ScopePlan("test", "p1", T, None, ["instance"]))
        await publisher.failed(CollectionFailed("test", "p2", "instance", T, T + P, "away"))
        await publisher.reject(b"\xffline", RejectedHeaders("no JSON", origin_file="f", origin_line=7))

    sequences: dict[str, list[int]] = {}
    found = await records(settings, Topic.USAGE)
    for record, read in zip(found, await usage(settings), strict=True):
        assert record.partition == partition_of(read.scope_id.encode(), settings.partitions)
        assert record.key == read.scope_id.encode()
        assert record.headers == ((CONTENT_TYPE, MSGPACK.encode()),)
        if isinstance(read, Collection):
            assert read.producer_id == publisher.producer_id
            sequences.setdefault(read.scope_id, []).append(read.sequence)
    assert sequences == {f"p{n}": list(range(20)) for n in range(9)}
    assert len(found) == 182
    (rejected,) = await records(settings, Topic.REJECTED)
    assert (rejected.value, dict(rejected.headers)) == (
        b"\xffline",
        {"reason": b"no JSON", "origin-file": b"f", "origin-line": b"7"},
    )


async def test_a_missing_topic_or_another_number_of_partitions_is_refused(
    kafka: LaptopKafka, settings: KafkaSettings
) -> None:
    missing = KafkaSettings(bootstrap=kafka.bootstrap, prefix="nobody-made-this.")
    with pytest.raises(PublishError, match=r"topic nobody-made-this\.usage is missing: run `rater"):
        await Publisher(missing).start()
    other = KafkaSettings(bootstrap=kafka.bootstrap, prefix=settings.prefix, partitions=5)
    with pytest.raises(PublishError, match=r"has 4 partitions, kafka\.partitions says 5"):
        await Publisher(other).start()
    with pytest.raises(PublishError, match="is missing"):
        await read_history(missing, "test", P)


async def test_a_broker_that_is_away_is_an_error_and_later_works_again(own_kafka: OwnKafka) -> None:
    """Given a broker killed under way; then publish raises, and after its return a new try is confirmed."""
    broker = own_kafka()
    settings = KafkaSettings(bootstrap=broker.bootstrap, partitions=2)
    await create_topics(settings)
    publisher = Publisher(settings, confirm_seconds=5)
    await publisher.start()
    try:
        await publisher.publish(_draft("p1"))
        broker.pause()
        with pytest.raises(PublishError, match="did not confirm within 5 s"):
            await publisher.publish(_draft("p1", 1))
        broker.resume()
        await _publish_again(publisher, _draft("p1", 1))
    finally:
        await publisher.stop()

    held = {(read.begin - T) // P for read in await usage(settings) if isinstance(read, Collection)}
    assert held == {0, 1}
    numbers: dict[str, set[int]] = {}
    for read in await usage(settings):
        if isinstance(read, Collection):
            numbers.setdefault(read.producer_id, set()).add(read.sequence)
    assert len(numbers) > 1  # a failed delivery may have arrived or not: its numbers are not counted on from
    assert all(found == set(range(len(found))) for found in numbers.values())
    assert Judgement(settings, await records(settings, Topic.USAGE), CATALOG, LATER).rejected() == []


async def _publish_again(publisher: Publisher, draft: CollectionDraft) -> None:
    """As the service does it: a broker that was away may need some time until it leads its partitions again."""
    async with asyncio.timeout(90):
        while True:
            try:
                await publisher.restart()
                await publisher.publish(draft)
            except PublishError:
                await asyncio.sleep(0.5)
            else:
                return


def _line(at: int, scope_id: str, metric: str, qty: str = "1") -> str:
    unit = {"instance": "instance", "volume": "GiB"}[metric]
    return json.dumps(
        {"scope_id": scope_id, "metric": metric, "begin": iso(T + at), "end": iso(T + at + 600), "qty": qty,
         "unit": unit, "groupby": {"id": f"{scope_id}-{metric}"}}
    )  # fmt: skip


def _covers(begin: int, end: int, scope_id: str = "*", metric: str = "*") -> str:
    return json.dumps(
        {"covers": {"scope_id": scope_id, "metric": metric, "begin": iso(T + begin), "end": iso(T + end)}}
    )


async def test_a_hole_in_a_replayed_file_is_a_gap_and_the_missing_window_fills_it(
    settings: KafkaSettings, tmp_path: Path
) -> None:
    """Given a day in which p1 is not covered from 10:20 to 12:20; when that window is replayed; then it is whole.

    The frames in between say what was missing, to the minute, and quantities add up as if nothing had happened.
    """
    first, second = tmp_path / "day.jsonl", tmp_path / "hole.jsonl"
    begin, end = 10 * P + 1200, 12 * P + 1200
    samples = [(at, s, m) for at in range(0, 24 * P, 600) for s in ("p1", "p2") for m in ("instance", "volume")]
    hidden = [sample for sample in samples if sample[1] == "p1" and begin <= sample[0] < end]
    first.write_text(
        "\n".join(
            [_line(*sample) for sample in samples if sample not in hidden]
            + [_covers(0, 24 * P, "p2", "*"), _covers(0, begin, "p1"), _covers(end, 24 * P, "p1"), "{broken"]
        )
    )
    second.write_text("\n".join([*(_line(*sample) for sample in hidden), _covers(begin, end)]))

    report = await replay_file(str(first), settings, ReplayOptions(), CATALOG)
    before = Judgement(settings, await records(settings, Topic.USAGE), CATALOG, LATER)
    filled = await replay_file(str(second), settings, ReplayOptions(), CATALOG)
    after = Judgement(settings, await records(settings, Topic.USAGE), CATALOG, LATER)

    assert (report.samples, report.rejected, filled.samples) == (len(samples) - len(hidden), 1, len(hidden))
    assert [record.value for record in await records(settings, Topic.REJECTED)] == [b"{broken"]
    gaps = sorted((gap.metric, gap.begin - T, gap.end - T) for f in before.frames().values() for gap in f.gaps)
    assert gaps == sorted(
        (metric, *span)
        for metric in ("instance", "volume")
        for span in ((begin, 11 * P), (11 * P, 12 * P), (12 * P, end))
    )
    assert {a.scope_id for a in before.alerts() if a.kind is AlertKind.GAP_OPENED} == {"p1"}
    frames = after.frames()
    assert len(frames) == 48
    assert {frame.status for frame in frames.values()} == {FrameStatus.RATED}
    assert {line.qty for frame in frames.values() for line in frame.lines} == {Decimal(6)}
    assert all(len(frame.lines) == 2 and not frame.gaps for frame in frames.values())
    assert before.rejected() == after.rejected() == []


async def test_the_same_file_twice_changes_nothing(settings: KafkaSettings, tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl"
    path.write_text("\n".join([_line(at, "p1", "volume", "0.1") for at in range(0, 4 * P, 600)] + [_covers(0, 5 * P)]))

    for _ in range(2):
        await replay_file(str(path), settings, ReplayOptions(), CATALOG)
    judged = Judgement(settings, await records(settings, Topic.USAGE), CATALOG, LATER)

    frames = {(key[1] - T) // P: frame for key, frame in judged.frames().items()}
    assert {hour: frame.status for hour, frame in frames.items()} == {
        **dict.fromkeys(range(4), FrameStatus.RATED),
        4: FrameStatus.EMPTY,
    }
    assert [line.qty for hour in range(4) for line in frames[hour].lines] == [Decimal("0.6")] * 4
    assert judged.rejected() == []
    plans = [read for read in await usage(settings) if isinstance(read, ScopePlan)]
    assert plans == [ScopePlan("replay", "p1", T, T + 5 * P, ["volume"])]


async def test_history_is_what_was_published(settings: KafkaSettings) -> None:
    async with Publisher(settings) as publisher:
        await publisher.plan(ScopePlan("test", "p1", T, None, ["instance"]))
        await asyncio.gather(*(publisher.publish(_draft("p1", hour, 1200)) for hour in (0, 2)))

    history = await read_history(settings, "test", P)
    nobody = await read_history(settings, "other", P)

    span = Interval(T, T + 3 * P)
    assert history.progress.missing("p1", "instance", span) == [Interval(T + P, T + 2 * P)]
    assert history.plans.scopes() == ["p1"]
    assert (nobody.plans.scopes(), nobody.progress.reached) == ([], 0)


async def test_an_empty_topic_has_no_history(settings: KafkaSettings) -> None:
    assert (await read_history(settings, "test", P)).progress.reached == 0
