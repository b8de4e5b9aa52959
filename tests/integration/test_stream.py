"""The worker on a real Kafka: bad input, restarts, refusals to start, recovery, outages."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from aiokafka.protocol.admin import DeleteGroupsRequest
from aiokafka.structs import OffsetAndMetadata

from deploy.local.kafka import LaptopKafka
from rater.kafka import KafkaSettings, Topic, TopicsError, client_options, create_topics
from rater.model.codec import JSON, MSGPACK, decode_rated, encode_json
from rater.model.rated import FrameStatus
from rater.stream.interfaces import RestoreRefusedError
from rater.stream.recover import RecoverError, inspect, repair
from rater.stream.worker import Worker
from tests.conftest import OwnKafka
from tests.integration.streams import CONTEXT, HOUR, SETTINGS, T, collection, read, send, send_raw, working


@pytest.fixture
async def topics(kafka: LaptopKafka, tmp_path: Path) -> KafkaSettings:
    """Topics of this test's own, one partition each."""
    settings = KafkaSettings(bootstrap=kafka.bootstrap, prefix=f"{tmp_path.name}.", partitions=1)
    await create_topics(settings)
    return settings


async def test_bad_input_goes_whole_to_rejected_and_the_good_is_rated(topics: KafkaSettings) -> None:
    # given all kinds of records that cannot be taken, and one that can
    good = collection()
    text = encode_json(good)
    bad = {
        b"\xff\x00": "no usage record",
        b'{"type": "alert"}': "Invalid value 'alert'",
        text.replace(b'"1.5"', b'"NaN"'): "NaN",
        text.replace(b'"1.5"', b'"lots"'): "Invalid decimal",
        text.replace(b'"cpu"', b'"gpu"'): "metric 'gpu' is unknown",
        text[:-1] + b',"version":7}': "version 7",
        encode_json(collection(end=T)): "holds no time",
        encode_json(collection(scope_id="B")): "key",
        b"x" * 3_000_000: "no usage record",
    }
    async with working(topics):
        # when they come in the middle of good ones
        await send_raw(topics, *[(b"A", value) for value in bad])
        await send_raw(topics, (b"A", text), form=MSGPACK)
        await send(topics, good)
        rejected = await read(topics, Topic.REJECTED, len(bad) + 1)
        rated = await read(topics, Topic.RATED, 1)

    # then each is in `rejected`, byte for byte, with reason and origin, and the good one is rated
    assert [record.value for record in rejected] == [*bad, text]
    for offset, (record, reason) in enumerate(zip(rejected, [*bad.values(), "no usage record"], strict=True)):
        headers = {name: value.decode() for name, value in record.headers}
        assert reason in headers["reason"]
        assert (headers["origin-topic"], headers["origin-offset"]) == ("usage", str(offset))
    assert decode_rated(rated[0].value, JSON).status is FrameStatus.RATED


async def test_a_restart_goes_on_where_the_last_one_stopped(topics: KafkaSettings) -> None:
    # given a worker that has rated an hour and has half of the next one
    async with working(topics):
        await send(topics, collection(), collection(begin=T + HOUR, parts=2, part=0))
        await read(topics, Topic.RATED, 1)

    # when another one starts and the other half comes
    async with working(topics):
        await send(topics, collection(begin=T + HOUR, parts=2, part=1))
        rated = await read(topics, Topic.RATED, 2)

    # then both hours are rated once, the second from both halves
    frames = [decode_rated(record.value, JSON) for record in rated]
    assert [(frame.period_begin, frame.revision) for frame in frames] == [(T, 0), (T + HOUR, 0)]
    assert str(frames[1].totals[0].qty) == "3"


async def refusal(topics: KafkaSettings) -> str:
    with pytest.raises(RestoreRefusedError) as refused:
        async with working(topics):
            pass
    return str(refused.value)


async def test_a_missing_snapshot_is_refused_and_recover_repairs(topics: KafkaSettings) -> None:
    # given a pointer whose snapshot is gone, though an older one was saved elsewhere
    async with working(topics):
        await send(topics, collection())
        await read(topics, Topic.RATED, 1)
        await asyncio.sleep(1)
    admin = AIOKafkaAdminClient(**client_options(topics))
    await admin.start()
    key = TopicPartition(topics.topic(Topic.CHECKPOINTS), 0)
    await admin.delete_records({key: RecordsToDelete(before_offset=-1)})
    await admin.close()

    # then no worker starts, and it says what to do
    text = await refusal(topics)
    assert "missing at offset" in text
    assert "rater recover" in text
    (remains,) = await inspect(topics, CONTEXT.settings)
    assert "is missing or damaged" in remains.trouble
    assert remains.proposal is None


async def test_a_lost_pointer_is_refused_and_recover_sets_it_anew(topics: KafkaSettings) -> None:
    # given snapshots, and a consumer group whose offsets are gone
    async with working(topics):
        await send(topics, collection())
        await read(topics, Topic.RATED, 1)
    await commit(topics, OffsetAndMetadata(1, "somebody else's"))
    assert "no pointer" in await refusal(topics)
    await delete_group(topics)
    assert "nothing points at them" in await refusal(topics)

    # when the pointer is set to what `inspect` proposes
    (remains,) = await inspect(topics, CONTEXT.settings)
    assert remains.trouble == "snapshots exist, but nothing points at them"
    assert remains.proposal is not None
    assert remains.proposal.next_offset == 1
    await repair(topics, 0, remains.proposal)

    # then a worker starts, with the hour known: nothing is rated again
    async with working(topics) as worker:
        assert worker.red() == ""
        with pytest.raises(RecoverError, match="stop them first"):
            await repair(topics, 0, remains.proposal)
    assert len(await read(topics, Topic.RATED, 2, seconds=2)) == 1
    (healthy,) = await inspect(topics, CONTEXT.settings)
    assert healthy.trouble == ""


async def commit(topics: KafkaSettings, value: OffsetAndMetadata) -> None:
    consumer = AIOKafkaConsumer(**client_options(topics), group_id=f"{topics.prefix}worker", enable_auto_commit=False)
    key = TopicPartition(topics.topic(Topic.USAGE), 0)
    consumer.assign([key])
    await consumer.start()
    await consumer.commit({key: value})
    await consumer.stop()


async def delete_group(topics: KafkaSettings) -> None:
    admin = AIOKafkaAdminClient(**client_options(topics))
    await admin.start()
    group = f"{topics.prefix}worker"
    await admin._send_request(DeleteGroupsRequest([group]), await admin.find_coordinator(group))  # has no public call
    await admin.close()


async def test_another_number_of_partitions_is_refused(topics: KafkaSettings) -> None:
    async with working(topics):
        pass
    admin = AIOKafkaAdminClient(**client_options(topics))
    await admin.start()
    names = [topics.topic(topic) for topic in Topic if topic is not Topic.RULES]
    await admin.create_partitions({name: NewPartitions(total_count=2) for name in names})
    await admin.close()

    text = await refusal(msgspec.structs.replace(topics, partitions=2))

    assert "had 1 partitions and now has 2" in text


async def test_missing_topics_are_one_clear_line(kafka: LaptopKafka) -> None:
    settings = KafkaSettings(bootstrap=kafka.bootstrap, prefix="nobody-made-these.")

    with pytest.raises(TopicsError, match="run `rater topics create`"):
        async with working(settings):
            pass


async def test_kafka_away_at_start_and_later(own_kafka: OwnKafka) -> None:
    # given a broker that is not there yet
    broker = own_kafka()
    settings = KafkaSettings(bootstrap=broker.bootstrap, prefix="away.", partitions=1)
    await create_topics(settings)
    await asyncio.to_thread(broker.stop)
    worker, stop = Worker(settings, CONTEXT, SETTINGS), asyncio.Event()
    running = asyncio.create_task(worker.run(stop))
    await asyncio.sleep(3)
    assert "cannot be used" in worker.red()

    # when it comes, then the worker is ready without being started again
    await asyncio.to_thread(broker.start)
    await until_ready(worker)
    await send(settings, collection())
    await read(settings, Topic.RATED, 1)

    # when it goes away for longer than a session and comes back, all goes on
    await asyncio.to_thread(broker.kill)
    await asyncio.sleep(8)
    await asyncio.to_thread(broker.start)
    await send(settings, collection(begin=T + HOUR))
    rated = await read(settings, Topic.RATED, 2, seconds=90)
    await until_ready(worker)
    stop.set()
    await running
    assert {decode_rated(record.value, JSON).period_begin for record in rated} == {T, T + HOUR}


async def until_ready(worker: Worker) -> None:
    async with asyncio.timeout(60):
        while worker.red():
            await asyncio.sleep(0.1)
