"""The contract with Faust and aiokafka: what `stream/register.py` takes from their insides still does what it says."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from deploy.local.kafka import LaptopKafka
from rater.kafka import KafkaSettings, Topic, client_options, create_topics
from rater.stream.app import make_app
from rater.stream.interfaces import Committed, FencedError, Pin
from rater.stream.register import FaustRegister
from rater.stream.settings import WorkerSettings
from tests.conftest import OwnKafka


async def test_only_the_living_membership_commits(kafka: LaptopKafka, tmp_path: Path) -> None:
    # given a member of the group with its partition assigned
    settings = KafkaSettings(bootstrap=kafka.bootstrap, prefix=f"{tmp_path.name}.", partitions=1)
    await create_topics(settings)
    app = make_app(settings, WorkerSettings(session_timeout=6), lambda message: None)
    register = FaustRegister(app, settings.topic(Topic.USAGE))
    assigned = asyncio.Event()

    async def on_assigned(*_: object, **__: object) -> None:
        assigned.set()

    app.on_rebalance_complete.connect(on_assigned, weak=False)
    await app.start()
    try:
        async with asyncio.timeout(30):
            await assigned.wait()
        pin = register.pin()

        # then nothing is committed, and what it commits is read back whole, also the longest metadata
        assert await register.fetch(0) is None
        for value in (Committed(7, "pointer"), Committed(9, "x" * 4096)):
            await register.commit(0, value, pin)
            assert await register.fetch(0) == value

        # then another generation and another member are refused, and change nothing
        for other in (
            Pin(pin.generation + 1, pin.member_id),
            Pin(pin.generation - 1 or pin.generation + 2, pin.member_id),
            Pin(pin.generation, "somebody-else"),
        ):
            with pytest.raises(FencedError):
                await register.commit(0, Committed(11, "not mine"), other)
        assert await register.fetch(0) == Committed(9, "x" * 4096)

        # then a commit without membership is never sent
        for nobody in (Pin(-1, ""), Pin(0, pin.member_id), Pin(pin.generation, "")):
            with pytest.raises(AssertionError):
                await register.commit(0, Committed(11, "nobody's"), nobody)
    finally:
        await app.stop()


async def test_the_end_of_the_log_is_told_while_the_broker_answers(own_kafka: OwnKafka) -> None:
    # given a member on a partition that is empty, on a broker of its own, and a clock of ours
    broker = own_kafka()
    settings = KafkaSettings(bootstrap=broker.bootstrap, prefix="end.", partitions=1)
    await create_topics(settings)
    app = make_app(settings, WorkerSettings(session_timeout=6), lambda message: None)
    ahead = [0.0]
    register = FaustRegister(app, settings.topic(Topic.USAGE), lambda: time.time() + ahead[0])

    async def until(end: int | None) -> None:
        async with asyncio.timeout(40):
            while register.log_end(0) != end:
                await asyncio.sleep(0.1)

    await app.start()
    try:
        # then it ends at 0 as soon as the broker has answered, and later behind what was written
        await until(0)
        async with AIOKafkaProducer(**client_options(settings)) as producer:
            for _ in range(3):
                await producer.send_and_wait(settings.topic(Topic.USAGE), b"x", key=b"k", partition=0)
        await until(3)

        # then an answer that is old is none
        ahead[0] = 3600
        assert register.log_end(0) is None
        ahead[0] = 0
        await until(3)
        assert register.log_end(7) is None, "not ours"

        # when the broker is gone, then nobody knows
        await asyncio.to_thread(broker.kill)
        await until(None)
        await asyncio.to_thread(broker.start)
        await until(3)
    finally:
        await app.stop()
