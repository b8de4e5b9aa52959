"""Fixtures for every test: the laptop Kafka, one for the session or own ones for tests that kill brokers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from deploy.local.kafka import DEFAULT_HEAP_MB, LaptopKafka

_KAFKA_FIXTURES = {"kafka", "own_kafka"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what uses a broker, so that `-m 'not kafka'` runs without Java."""
    for item in items:
        if _KAFKA_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.kafka)


class OwnKafka(Protocol):
    """Starts a broker for one test: `own_kafka()` or `own_kafka(heap_mb=512)`."""

    def __call__(self, *, port: int | None = None, heap_mb: int = DEFAULT_HEAP_MB) -> LaptopKafka: ...


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaptopKafka]:
    """The broker that all tests share: give topics and groups names of your own, never stop, kill or pause it."""
    with LaptopKafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker
    _forget_data(broker)


@pytest.fixture
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnKafka]:
    """Makes brokers that this test alone uses and may stop, kill and pause; they are gone after it."""
    brokers: list[LaptopKafka] = []

    def start(*, port: int | None = None, heap_mb: int = DEFAULT_HEAP_MB) -> LaptopKafka:
        broker = LaptopKafka(tmp_path_factory.mktemp("own-kafka"), port=port, heap_mb=heap_mb)
        brokers.append(broker)
        broker.start()
        return broker

    yield start
    for broker in brokers:
        broker.kill()
        _forget_data(broker)


def _forget_data(broker: LaptopKafka) -> None:
    """pytest keeps the directories of three runs: the log is worth that, the topics of a load test are not."""
    for leftover in ("data", "tmp"):
        shutil.rmtree(Path(broker.data_dir) / leftover, ignore_errors=True)
