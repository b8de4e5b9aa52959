"""Services that run together: they end together, and the first failure is told."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from rater.config import Config, ObserveSettings, load_config
from rater.model.errors import RaterError
from rater.services import (
    LaptopAddressError,
    NoCollectorError,
    Service,
    collector_service,
    laptop_kafka,
    run_all,
    run_together,
    with_topics,
)


class _Recorded:
    """A service that works until it is stopped, or fails when told to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ended = False
        self.fails = asyncio.Event()

    def red(self) -> str:
        return ""

    async def run(self, stop: asyncio.Event) -> None:
        waits = {asyncio.ensure_future(stop.wait()), asyncio.ensure_future(self.fails.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if self.fails.is_set():
                raise RaterError(f"{self.name} is broken")
        finally:
            for wait in waits:
                wait.cancel()
            self.ended = True

    def service(self) -> Service:
        return Service(self.name, self.run, self.red)


def config(**environment: str) -> Config:
    return load_config(None, environment)


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


async def test_all_end_when_they_are_stopped() -> None:
    # given
    parts, stop = [_Recorded("a"), _Recorded("b")], asyncio.Event()
    work = asyncio.ensure_future(
        run_together(ObserveSettings(), [part.service() for part in parts], CollectorRegistry(), stop)
    )
    await asyncio.sleep(0)
    # when
    stop.set()
    await work
    # then
    assert all(part.ended for part in parts)


async def test_one_that_fails_stops_the_others_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    # given
    parts, stop = [_Recorded("a"), _Recorded("b")], asyncio.Event()
    work = asyncio.ensure_future(run_all([part.service() for part in parts], stop))
    # when
    parts[1].fails.set()
    with pytest.raises(RaterError, match="b is broken"):
        await work
    # then
    assert stop.is_set()
    assert parts[0].ended
    assert "b failed: b is broken" in caplog.text


async def test_nothing_goes_on_after_a_cancellation() -> None:
    part, stop = _Recorded("a"), asyncio.Event()
    work = asyncio.ensure_future(run_all([part.service()], stop))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert part.ended


async def test_while_kafka_is_away_the_services_wait_and_say_so(caplog: pytest.LogCaptureFixture) -> None:
    # given a Kafka that is away
    part, stop = _Recorded("a"), asyncio.Event()
    caplog.set_level(logging.WARNING, "rater.services")
    everything = with_topics(config(RATER_KAFKA__BOOTSTRAP="127.0.0.1:1"), [part.service()])
    work = asyncio.ensure_future(everything.run(stop))
    # when
    while "127.0.0.1:1" not in everything.red():
        await asyncio.sleep(0.01)
    # then it is told once, nothing has started, and a stop ends it
    stop.set()
    await work
    assert not part.ended
    assert caplog.text.count("waiting for Kafka: ") == 1


async def test_a_laptop_kafka_is_only_for_this_machine() -> None:
    for bootstrap in ("kafka1:9092", "127.0.0.1:9092,127.0.0.1:9093", "127.0.0.1"):
        with pytest.raises(LaptopAddressError, match="on this machine"):
            async with laptop_kafka(config(RATER_KAFKA__BOOTSTRAP=bootstrap)):
                pass


def test_a_collector_needs_its_section() -> None:
    with pytest.raises(NoCollectorError, match="section collect is not set"):
        collector_service(config(), CollectorRegistry())


def test_a_collector_is_red_until_its_first_round_and_has_its_gauges() -> None:
    registry = CollectorRegistry()
    found = collector_service(config(RATER_COLLECT__PROMETHEUS__URL="http://127.0.0.1:1/api/v1"), registry)
    assert found.red() == "no round has been finished yet"
    gauges = {
        name: registry.get_sample_value(f"rater_collector_{name}", {"source": "prometheus"})
        for name in ("scopes", "up")
    }
    assert gauges == {"scopes": 0, "up": 0}
