"""The sink between the real Kafka and the real engine."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from prometheus_client import CollectorRegistry

from deploy.local.kafka import LaptopKafka
from rater.kafka import KafkaSettings, Topic, TopicsError, client_options
from rater.model.partition import partition_of
from rater.model.posted import PostedLine, PostedLines
from rater.model.rated import AlertKind
from rater.store import Store, StoreAccessError, StoreSettings, frames, gaps, lines, posted
from rater.stream.sink import Sink, SinkSettings
from tests.integration.clickhouse_http import PASSWORD, USER, clickhouse_server
from tests.integration.sinks import (
    PARTITIONS,
    SETTINGS,
    committed,
    own_topics,
    publish,
    sinking,
    until,
    until_committed,
)
from tests.integration.streams import read
from tests.unit.store.builders import HOUR, JANUARY, a_collection, a_frame, a_gap_alert, a_line, parts_of

ONE = Decimal(1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(StoreSettings(f"chdb://{tmp_path}/clickhouse")) as opened:
        yield opened


def some_frames(scopes: int = 5, hours: int = 4, revision: int = 0) -> list:
    return [
        a_frame(f"scope{s}", JANUARY + h * HOUR, revision, [a_line(n, price=f"{revision}.{s}") for n in range(s + h)])
        for s in range(scopes)
        for h in range(-hours // 2, hours // 2)
        if s + h >= 0
    ]


def held(store: Store) -> tuple[list, Counter]:
    """What readers of the store see: (scope, period, revision, lines) of each frame, and the lines themselves."""
    rows = [(row.scope_id, row.period_begin, row.revision, row.line_count) for row in frames(store)]
    return rows, Counter((line.scope_id, line.period_begin, line.line_id, line.price) for line in lines(store))


def truth(*published: list) -> tuple[list, Counter]:
    """The same, from the frames themselves."""
    newest = {(f.scope_id, f.period_begin): f for some in published for f in sorted(some, key=lambda f: f.revision)}
    whole = [newest[key] for key in sorted(newest)]
    rows = [(f.scope_id, f.period_begin, f.revision, len(f.lines)) for f in whole]
    return rows, Counter((f.scope_id, f.period_begin, line.line_id, line.price) for f in whole for line in f.lines)


async def test_what_is_published_can_be_read(kafka: LaptopKafka, store: Store) -> None:
    # given frames, one of them in three parts, alerts and usage
    settings, registry = await own_topics(kafka), CollectorRegistry()
    made = some_frames()
    long = a_frame("long", lines=[a_line(n) for n in range(30)])
    rated = [*made, *parts_of(long, 3)]
    alerts = [a_gap_alert(True, 0), a_gap_alert(False, 1), a_gap_alert(True, 0, gap=2, kind=AlertKind.SUSPICION)]
    usage = [a_collection(), a_collection(samples=0, metric="volume")]
    await publish(settings, *rated, *alerts, *usage)

    # when a sink runs
    async with sinking(settings, store, registry=registry) as sink:
        await until_committed(settings, Topic.RATED, rated)
        await until_committed(settings, Topic.ALERTS, alerts)
        await until_committed(settings, Topic.USAGE, usage, "sink-usage")

        # then all of it is there, and it says so
        assert await asyncio.to_thread(held, store) == truth(made, [long])
        assert [gap.is_open for gap in gaps(store)] == [False]
        assert store.rows("SELECT metric, count() FROM usage FINAL GROUP BY metric ORDER BY metric") == [
            ("instance", 2),
            ("volume", 1),
        ]
        await until(lambda: sink.red() == "")
        assert registry.get_sample_value("rater_sink_rows_total", {"table": "frames"}) == len(made) + 1
        assert registry.get_sample_value("rater_sink_queryable_seconds_count") == len(made) + 1
        lags = [
            sample
            for metric in registry.collect()
            if metric.name == "rater_sink_lag_records"
            for sample in metric.samples
        ]
        assert {sample.labels["topic"] for sample in lags} == {"rated", "alerts", "usage"}
        assert all(sample.value == 0 for sample in lags)


async def test_repetitions_restarts_and_late_revisions_change_nothing(kafka: LaptopKafka, store: Store) -> None:
    # given a sink that has stored two revisions, and everything published once more, old revisions last
    settings, first, second = await own_topics(kafka), some_frames(), some_frames(revision=1)
    async with sinking(settings, store):
        await publish(settings, *first, *second)
        await until_committed(settings, Topic.RATED, first + second)
    await publish(settings, *second, *first)

    # when a sink runs that breaks down after each insert, before the commit
    class DiedError(Exception):
        pass

    def at(point: str, partition: int) -> None:
        if point == "sink-inserted":
            raise DiedError

    for _ in range(2):
        sink = Sink(settings, store, SETTINGS, at=at)
        with pytest.raises(DiedError):
            await sink.run(asyncio.Event())

    # and then a sound one
    async with sinking(settings, store):
        await until_committed(settings, Topic.RATED, [*first, *second, *second, *first])

    # then the newest revisions are there once
    assert held(store) == truth(first, second)


async def test_a_frame_that_is_not_whole_holds_back_the_commit(kafka: LaptopKafka, store: Store) -> None:
    # given a frame of which the last part is still missing, with others before and behind it
    settings = await own_topics(kafka)
    head, tail = parts_of(a_frame("alpha", lines=[a_line(n) for n in range(4)]), 2)
    before, behind = (
        a_frame("alpha", JANUARY - HOUR, lines=[a_line(1)]),
        a_frame("alpha", JANUARY + HOUR, lines=[a_line(1)]),
    )
    await publish(settings, before, head, behind)

    # when a sink runs and ends
    async with sinking(settings, store, SinkSettings(usage=False, max_delay=0.1)) as sink:
        await until(lambda: sink.red() == "")
        await until(lambda: len(list(frames(store))) == 2)
    assert list((await committed(settings, Topic.RATED)).values()) == [1]

    # and the part comes while the next sink runs
    async with sinking(settings, store):
        await publish(settings, tail)
        await until_committed(settings, Topic.RATED, [before, head, behind, tail])

    # then it is whole
    assert held(store) == truth([before, behind, a_frame("alpha", lines=[a_line(n) for n in range(4)])])


async def test_what_cannot_be_kept_goes_to_rejected_whole(kafka: LaptopKafka, store: Store) -> None:
    # given records that are no frames, or frames that no column can hold, among sound ones
    settings = await own_topics(kafka)
    late = msgspec.structs.replace(a_frame("late"), period_end=2**33)
    sound = some_frames()
    await publish(settings, b"not JSON", *sound, late, msgspec.json.encode({"type": "rated_frame", "version": 99}))

    # when
    registry = CollectorRegistry()
    async with sinking(settings, store, registry=registry) as sink:
        await until(lambda: sink.red() == "")
        found = await read(settings, Topic.REJECTED, 3)
        await until(lambda: held(store) == truth(sound))

        # then each is there as it was, with the reason and where it came from
        reasons = {dict(record.headers)["reason"].decode() for record in found}
        assert {dict(record.headers)["origin-topic"].decode() for record in found} == {settings.topic(Topic.RATED)}
        assert {b"not JSON", msgspec.json.encode(late)} < {record.value for record in found}
        assert any("version 99" in reason for reason in reasons)
        assert any("8589934592" in reason for reason in reasons)
        await until(lambda: registry.get_sample_value("rater_sink_rejected_total", {"topic": "rated"}) == 3)


async def test_an_outage_of_clickhouse_loses_nothing_and_needs_no_restart(kafka: LaptopKafka, tmp_path: Path) -> None:
    # given a server that is away when the sink starts
    settings, made, more = await own_topics(kafka), some_frames(), some_frames(revision=1)
    (tmp_path / "password").write_text(PASSWORD)
    with clickhouse_server(tmp_path / "clickhouse") as server:
        server.kill()
        dsn = f"http://127.0.0.1:{server.port}/rater"
        with Store(StoreSettings(dsn, username=USER, password_file=str(tmp_path / "password"))) as store:
            await publish(settings, *made)
            async with sinking(settings, store) as sink:
                await until(lambda: "cannot be reached" in sink.red())

                # when it comes, then everything is stored
                server.start()
                await until_committed(settings, Topic.RATED, made)
                await until(lambda: sink.red() == "")
                assert held(store) == truth(made)

                # when it goes again, then nothing is committed and the sink says why
                server.kill()
                await publish(settings, *more)
                await until(lambda: "cannot be reached" in sink.red())
                assert sum((await committed(settings, Topic.RATED)).values()) == len(made)

                # when it is back, then the sink goes on
                server.start()
                await until_committed(settings, Topic.RATED, made + more)
                await until(lambda: sink.red() == "")
                assert held(store) == truth(made, more)


async def test_an_insert_that_is_refused_holds_the_sink_and_not_the_readers(kafka: LaptopKafka, store: Store) -> None:
    settings, made, more = await own_topics(kafka), some_frames(), some_frames(revision=1)
    async with sinking(settings, store) as sink:
        await publish(settings, *made)
        await until_committed(settings, Topic.RATED, made)

        # when the engine takes lines, and no rows of frames
        store.command("ALTER TABLE frames MODIFY SETTING parts_to_throw_insert = 1, parts_to_delay_insert = 1")
        await publish(settings, *more)
        await until(lambda: "cannot insert into frames now: too many parts" in sink.red())

        # then nothing is committed, and readers see what they saw
        assert sum((await committed(settings, Topic.RATED)).values()) == len(made)
        assert held(store) == truth(made)

        # when it takes them again, then the sink goes on
        store.command("ALTER TABLE frames RESET SETTING parts_to_throw_insert, parts_to_delay_insert")
        await until_committed(settings, Topic.RATED, made + more)
        await until(lambda: sink.red() == "")
        assert held(store) == truth(made, more)


async def test_a_wrong_password_ends_the_sink_with_what_to_do(kafka: LaptopKafka, tmp_path: Path) -> None:
    settings = await own_topics(kafka)
    (tmp_path / "password").write_text("wrong")
    with clickhouse_server(tmp_path / "clickhouse") as server:
        dsn = f"http://127.0.0.1:{server.port}/rater"
        store = Store(StoreSettings(dsn, username=USER, password_file=str(tmp_path / "password")))
        with store, pytest.raises(StoreAccessError, match=r"store\.password_file"):
            await Sink(settings, store, SETTINGS).run(asyncio.Event())


async def test_missing_topics_are_named(kafka: LaptopKafka, store: Store) -> None:
    settings = KafkaSettings(bootstrap=kafka.bootstrap, prefix="nobody-made-these.")
    with pytest.raises(TopicsError, match=r"nobody-made-these\.rated.*rater topics create"):
        await Sink(settings, store, SETTINGS).run(asyncio.Event())


async def test_kafka_away_is_no_reason_to_end(store: Store) -> None:
    settings = KafkaSettings(bootstrap="127.0.0.1:1", prefix="x.")
    async with sinking(settings, store) as sink:
        await until(lambda: "127.0.0.1:1" in sink.red())


async def test_sinks_share_the_partitions_and_take_over(kafka: LaptopKafka, store: Store) -> None:
    # given two sinks on one store
    settings, published = await own_topics(kafka), []
    for revision in range(3):
        first = sinking(settings, store)
        async with first:
            # when another joins and leaves while frames come
            published += some_frames(revision=2 * revision)
            await publish(settings, *some_frames(revision=2 * revision))
            async with sinking(settings, store):
                published += some_frames(revision=2 * revision + 1)
                await publish(settings, *some_frames(revision=2 * revision + 1))
                await until_committed(settings, Topic.RATED, published)

    # then everything is stored once
    assert held(store) == truth(published)


async def test_no_kill_loses_or_doubles_anything(kafka: LaptopKafka, tmp_path: Path) -> None:
    # given frames in two revisions, some in parts, and usage, which come in portions
    settings, dsn, chance = await own_topics(kafka), f"chdb://{tmp_path}/clickhouse", random.Random(3)
    kills = [("sink-inserted", 1), ("sink-inserted", 2), ("sink-committed", 1), ("", 0), ("", 0)]
    made = [
        a_frame(f"scope{s}", JANUARY + h * HOUR, revision, [a_line(n, price=f"{revision}.{n}") for n in range(40)])
        for revision in range(2)
        for h in range(-10, 20)
        for s in range(6)
    ]
    portions = [[part for n, frame in enumerate(made[i::5]) for part in parts_of(frame, 1 + n % 3)] for i in range(5)]
    usage = [[a_collection(sequence=n, collection_id=f"c{n}") for n in range(i, 40, 5)] for i in range(5)]

    # when sinks kill themselves between insert and commit, after a commit, and are killed anywhere
    for (point, times), *published in zip(kills, portions, usage, strict=True):
        publishing = asyncio.create_task(publish(settings, *itertools.chain(*published)))
        command = [sys.executable, "-m", "tests.integration.sinks", settings.bootstrap, settings.prefix, dsn]
        with subprocess.Popen([*command, point, str(times)], stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                if not point:
                    await asyncio.to_thread(process.stdout.readline)
                    await asyncio.sleep(chance.random() / 5)
                    process.kill()
                assert await asyncio.to_thread(process.wait, 60) == -signal.SIGKILL
            finally:
                process.kill()
        await publishing

    # then what the next one leaves is the truth
    with Store(StoreSettings(dsn)) as store:
        async with sinking(settings, store):
            await until_committed(settings, Topic.RATED, [part for portion in portions for part in portion])
            await until_committed(settings, Topic.USAGE, [part for portion in usage for part in portion], "sink-usage")
        assert held(store) == truth(made)
        assert store.rows("SELECT count() FROM usage FINAL") == [(80,)]


async def test_posted_lines_that_the_topic_forgot_before_a_sink_came_are_told(
    kafka: LaptopKafka, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    # given a sink that stored one post and went away, and two more, of which the broker has forgotten one
    settings, registry = await own_topics(kafka), CollectorRegistry()
    posts = [PostedLines("a", f"{n:032x}", [PostedLine(0, "cpu", JANUARY, HOUR + JANUARY, ONE)]) for n in range(3)]
    await publish(settings, posts[0])
    async with sinking(settings, store):
        await until_committed(settings, Topic.USAGE, posts[:1], "sink-usage")
    await publish(settings, *posts[1:])
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    place = TopicPartition(settings.topic(Topic.USAGE), partition_of(b"a", PARTITIONS))
    await admin.delete_records({place: RecordsToDelete(before_offset=2)})
    await admin.close()

    # when it comes back
    async with sinking(settings, store, registry=registry):
        await until_committed(settings, Topic.USAGE, posts, "sink-usage")

    # then what is lost is said, and the rest is stored
    assert {row.post_id for row in posted(store, "a", JANUARY, JANUARY + 1)} == {posts[0].post_id, posts[2].post_id}
    assert registry.get_sample_value("rater_sink_lost_total", {"topic": "usage"}) == 1
    assert f"[{place.partition}]: 1 records from offset 1 on are gone" in caplog.text
