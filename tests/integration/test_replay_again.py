"""Replays that are killed, interrupted or lose their broker, and start again; the code of the worker judges."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest

from collectors.errors import PublishError
from collectors.history import read_journal
from collectors.publisher import Publisher
from collectors.replay.run import replay, replay_file
from collectors.replay.words import ReplayOptions, ReplayReport
from collectors.times import iso
from deploy.local.kafka import LaptopKafka
from rater.kafka import KafkaSettings, Topic, create_topics
from rater.model.metric import Catalog, MetricSpec
from rater.model.rated import FrameStatus
from rater.model.usage import Collection
from tests.conftest import OwnKafka
from tests.integration.judged import Judgement, records, usage

T = 1_767_225_600  # 2026-01-01T00:00:00Z
P = 3600
HOURS = 48
CATALOG = Catalog([MetricSpec("cpu", "h"), MetricSpec("vm", "h")])
LATER = T + 100 * P
PATIENCE_SECONDS = 90.0
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def settings(kafka: LaptopKafka) -> KafkaSettings:
    found = KafkaSettings(bootstrap=kafka.bootstrap, prefix=f"again-{uuid.uuid4().hex[:8]}.", partitions=4)
    await create_topics(found)
    return found


@pytest.fixture
def usage_file(tmp_path: Path) -> Path:
    """Two days of three scopes and two metrics, some collections of several parts."""
    path = tmp_path / "usage.jsonl"
    lines = [
        {"scope_id": f"p{scope}", "metric": metric, "begin": iso(T + hour * P), "end": iso(T + hour * P + P),
         "qty": "0.5", "groupby": {"id": str(number)}}
        for scope in range(3) for metric in ("cpu", "vm") for hour in range(HOURS)
        for number in range(1200 if (scope, hour % 24) == (1, 7) else 4)
    ]  # fmt: skip
    covers = {"scope_id": "*", "metric": "*", "begin": iso(T), "end": iso(T + HOURS * P)}
    path.write_text("\n".join(map(json.dumps, [*lines, {"covers": covers}])))
    return path


async def _check_whole(settings: KafkaSettings, attempts: int = 1) -> None:
    """Every record once, every quantity as in the file, nothing that a worker would refuse."""
    parts = [read for read in await usage(settings) if isinstance(read, Collection)]
    assert max(Counter((part.collection_id, part.part) for part in parts).values()) == 1
    assert len({part.attempt for part in parts}) == attempts
    numbers: dict[tuple[str, str], list[int]] = {}
    for part in parts:
        numbers.setdefault((part.producer_id, part.scope_id), []).append(part.sequence)
    if attempts == 1:
        assert all(sorted(found) == list(range(len(found))) for found in numbers.values())
    judged = Judgement(settings, await records(settings, Topic.USAGE), CATALOG, LATER)
    assert judged.rejected() == []
    frames = judged.frames()
    assert len(frames) == 3 * HOURS
    assert {frame.status for frame in frames.values()} == {FrameStatus.RATED}
    expected = {(f"p{scope}", T + hour * P): Decimal(1200 if (scope, hour % 24) == (1, 7) else 4)
                for scope in range(3) for hour in range(HOURS)}  # fmt: skip
    assert {key: sum(line.qty for line in frame.lines) for key, frame in frames.items()} == expected


@contextmanager
def _command(settings: KafkaSettings, config: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`rater collect replay` as a process of its own."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RATER_")},
        "RATER_KAFKA__BOOTSTRAP": settings.bootstrap,
        "RATER_KAFKA__PREFIX": settings.prefix,
        "RATER_KAFKA__PARTITIONS": str(settings.partitions),
    }
    command = [sys.executable, "-m", "rater", "--config", str(config), "collect", "replay", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


async def _some_published(settings: KafkaSettings, count: int, process: subprocess.Popen[str]) -> None:
    ends = time.monotonic() + PATIENCE_SECONDS
    while len(await records(settings, Topic.USAGE)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings that know the metrics."""
    path = tmp_path / "rater.yaml"
    path.write_text("metrics:\n  cpu: {unit: h}\n  vm: {unit: h}\n")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
async def test_a_replay_that_is_ended_under_way_goes_on_and_doubles_nothing(
    settings: KafkaSettings, config: Path, usage_file: Path, how: signal.Signals
) -> None:
    """Given a slow replay that is killed after some records; when started again; then each record is there once."""
    with _command(settings, config, str(usage_file), "--rate", "400") as process:
        await _some_published(settings, 60, process)
        process.send_signal(how)
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
    there = len(await records(settings, Topic.USAGE))
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert re.search(r"samples were confirmed, and stay: the same command goes on after them", said), said

    with _command(settings, config, str(usage_file), "--out", "json") as process:
        out, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, said
    summary = json.loads(out)

    assert 60 <= there < 250
    assert 20 < summary["already"] < there
    assert (summary["samples"], summary["collections"]) == (3 * 2 * HOURS * 4 + 4 * 1196, 3 * 2 * HOURS)
    await _check_whole(settings)


async def test_a_broker_that_goes_away_under_way(own_kafka: OwnKafka, usage_file: Path) -> None:
    """Given a broker that hangs while a replay publishes; when it is back and the replay starts again; then all is
    there once, also what was sent and never confirmed."""
    broker = own_kafka()
    settings = KafkaSettings(bootstrap=broker.bootstrap, partitions=2)
    await create_topics(settings)
    seen: list[int] = []

    def watch(progress: object) -> None:
        if getattr(progress, "stage", "") == "publishing" and len(seen) < 50:
            seen.append(1)
            if len(seen) == 50:
                broker.pause()

    publisher = Publisher(settings, confirm_seconds=5)
    await publisher.start()
    read_back = partial(read_journal, settings)
    try:
        with pytest.raises(PublishError, match="did not confirm within 5 s"):
            await replay([str(usage_file)], publisher, read_back, ReplayOptions(), CATALOG, watch)
    finally:
        broker.resume()
        await publisher.stop()

    again = await _replayed_again(settings, usage_file)

    assert again.already >= 50
    judged = Judgement(settings, await records(settings, Topic.USAGE), CATALOG, LATER)
    assert judged.rejected() == []
    assert sum(line.qty for frame in judged.frames().values() for line in frame.lines) == (
        3 * HOURS * 4 + (1200 - 4) * 2
    )


async def _replayed_again(settings: KafkaSettings, usage_file: Path) -> ReplayReport:
    """A broker that hung may need some time until it leads its partitions again."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return await replay_file(str(usage_file), settings, ReplayOptions(), CATALOG)
        except PublishError:
            assert time.monotonic() < ends
            await asyncio.sleep(1)


async def test_ended_replays_replace_and_changed_files_are_told(settings: KafkaSettings, usage_file: Path) -> None:
    for attempts in (1, 2):
        report = await replay_file(str(usage_file), settings, ReplayOptions(), CATALOG)
        assert report.already == 0
        await _check_whole(settings, attempts)
