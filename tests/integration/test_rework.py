"""Frames rated again on a real Kafka, with worker, sink and the embedded engine: by commands, as an operator does it."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from deploy.local.kafka import LaptopKafka
from rater.cli import exits
from rater.kafka import Topic
from rater.model.codec import JSON, decode_rated
from rater.model.interval import Interval
from rater.model.rated import FrameStatus
from rater.model.usage import Collection, FrameBase, ReworkBegun, Sample, ScopePlan, Series
from rater.reports import ReworkRequest
from tests.integration.reworks import RULES, apply_rules, cloud, until, write_settings
from tests.integration.streams import HOUR, T, collection, read, send

CHEAP, DEAR = RULES.format(cpu="2"), RULES.format(cpu="3")
DAY = "2026-01-01"


def a_plan(scope_id: str = "A", hours: int = 3) -> ScopePlan:
    return ScopePlan("test", scope_id, T, T + hours * HOUR, ["cpu"])


def hour(number: int, qty: str = "1.5", scope_id: str = "A", **more: object) -> Collection:
    begin = T + number * HOUR
    samples = [Sample(0, begin, begin + HOUR, Decimal(qty))]
    return collection(scope_id, begin, samples=samples, **more)


def prices(lines: list) -> dict[int, Decimal]:
    return {(line.period_begin - T) // HOUR: line.price for line in lines}


@pytest.mark.parametrize("kept", [0, 100_000], ids=["left the state", "still in the state"])
async def test_closed_frames_are_rated_by_the_rules_of_now(
    kafka: LaptopKafka, tmp_path: Path, capfd: pytest.CaptureFixture[str], kept: int
) -> None:
    # given three hours rated by rules that turn out to be wrong; labels with a number among them
    config = write_settings(kafka, tmp_path, kept)
    async with cloud(config, tmp_path, rules=CHEAP) as running:
        series = [Series({"id": "vm1", "size": 4}, {"flavor": "tiny"})]
        await send(config.settings.kafka, a_plan(), *(hour(n, series=series) for n in range(3)))
        await until(lambda: len(running.frames()) == 3)
        assert set(prices(running.lines()).values()) == {Decimal(3)}
        await until(lambda: running.store.rows("SELECT count() FROM usage") == [(3,)])
        await apply_rules(config, DEAR)

        # when two of them are rated again
        status, out, err = await running.rater(
            capfd, "rerate", "--scope", "A", "--from", f"{DAY}T01:00", "--to", f"{DAY}T03:00",
            "--reason", "price of cpu corrected", "--author", "ann", "--out", "json",
        )  # fmt: skip

        # then they cost what they cost now, the difference is said, and the other one is as it was
        assert status == exits.OK, err
        assert json.loads(out) == {
            "scope_id": "A", "metric": "cpu", "unit": "undefined", "frames": 2,
            "before": "6", "after": "9", "difference": "3",
        }  # fmt: skip
        assert "2 done" in err
        assert prices(running.lines()) == {0: Decimal(3), 1: Decimal("4.5"), 2: Decimal("4.5")}
        assert [frame.revision for frame in running.frames()] == [0, 1, 1]

        # and each has a record
        records = list(running.view.reworks(ReworkRequest("A")))
        assert [(r.outcome, r.author, r.requested, r.base_revision, r.revision) for r in records] == [
            ("done", "ann", "price of cpu corrected", 0, 1)
        ] * 2
        assert [(r.rule_version_before, r.rule_version_after) for r in records] == [(1, 2)] * 2
        assert [frame.rework_id for frame in running.frames()] == ["", records[0].rework_id, records[0].rework_id]

        # and once more it comes to the same
        status, _, err = await running.rater(capfd, "rerate", "--all", "--month", "2026-01", "--reason", "again")
        assert (status, [frame.revision for frame in running.frames()]) == (exits.OK, [1, 1, 1])
        assert "1 done, 2 unchanged" in err
        status, out, _ = await running.rater(capfd, "rework", "list", "--scope", "A", "--out", "json")
        assert [json.loads(line)["outcome"] for line in out.splitlines()].count("unchanged") == 2
        assert await read(config.settings.kafka, Topic.REJECTED, 1, 0.5) == []


async def test_usage_that_comes_too_late_is_in_the_next_revision_by_itself(
    kafka: LaptopKafka, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # given frames that have left the state
    config = write_settings(kafka, tmp_path)
    topics = config.settings.kafka
    async with cloud(config, tmp_path, rules=CHEAP) as running:
        await send(topics, a_plan(), *(hour(n) for n in range(3)))
        await until(lambda: len(running.frames()) == 3)
        # when a better collection of two of them comes, in two parts, and pushed samples of the third
        begin = T + HOUR
        samples = [[Sample(0, begin + n * HOUR, begin + (n + 1) * HOUR, Decimal(5))] for n in range(2)]
        await send(topics, *(
            collection(begin=begin, end=begin + 2 * HOUR, attempt=2, collection_id="late", part=n, parts=2,
                       covers=[Interval(begin, begin + 2 * HOUR)], samples=samples[n])
            for n in range(2)
        ))  # fmt: skip
        await send(topics, collection(metric="net", samples=[Sample(0, T, T + 60, Decimal(7))], covers=[]))

        # then all of it is rated, without anybody doing anything
        await until(lambda: [frame.revision for frame in running.frames()] == [1, 1, 1])
        assert prices([line for line in running.lines() if line.metric == "cpu"]) == {0: 3, 1: 10, 2: 10}
        assert [str(line.qty) for line in running.lines() if line.metric == "net"] == ["7"]

        # and each frame has one record that says so
        await until(lambda: len(list(running.view.reworks(ReworkRequest("A")))) >= 3)
        records = list(running.view.reworks(ReworkRequest("A")))
        assert [(r.author, r.outcome, r.base_revision, r.revision) for r in records] == [("rater", "done", 0, 1)] * 3
        assert "usage came late: net from test; alerts " in records[0].requested
    # and a successor finds nothing to do
    async with cloud(config, tmp_path) as running:
        await send(topics, hour(0, "9", attempt=9, collection_id="later"))
        await until(lambda: [frame.revision for frame in running.frames()] == [2, 1, 1])
        assert len(list(running.view.reworks(ReworkRequest("A")))) == 4
