"""Frames rated again on a real Kafka, with worker, sink and the embedded engine, as an operator does it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path

import pytest

from deploy.local.kafka import LaptopKafka
from rater.cli import exits
from rater.kafka import KafkaSettings, Topic, create_topics
from rater.model.codec import JSON, decode_rated
from rater.model.interval import Interval
from rater.model.rated import AlertKind, FrameStatus
from rater.model.usage import Collection, FrameBase, ReworkBegun, ReworkEnded, Sample, ScopePlan, Series
from rater.reports import ReworkRequest
from rater.rework import (
    Bracket,
    Finished,
    Left,
    Material,
    Runner,
    Wanted,
    bracket_of,
    materials,
    run_rework,
)
from rater.stream.rework_log import STOP_SECONDS, open_rework_log
from tests.integration.reworks import RULES, Cloud, apply_rules, cloud, until, write_settings
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


async def look_at_difference(running: Cloud, capfd: pytest.CaptureFixture[str]) -> None:
    """Revisions 0 and 1 of hour 1: from the store, then from the topic; and one that never was."""
    asked = ("frames", "diff", "--scope", "A", "--period", f"{DAY}T01:00", "--out", "json")
    expected = {
        "metric": "cpu", "labels": "flavor=tiny, id=vm1, size=4", "unit": "undefined", "qty_before": "1.5",
        "qty_after": "1.5", "price_before": "3", "price_after": "4.5", "difference": "1.5",
    }  # fmt: skip
    for _ in range(2):
        status, out, err = await running.rater(capfd, *asked)
        assert (status, err) == (exits.OK, "1 of 1 lines differ\n")
        *said, line = map(json.loads, out.splitlines())
        assert line.pop("line_id") == running.lines()[1].line_id
        assert line == expected
        assert {"what": "rules version", "before": "1", "after": "2"} in said
        await asyncio.to_thread(forget_superseded, running)
    status, _, err = await running.rater(capfd, *asked, "--revision", "0", "--revision", "9")
    assert (status, err) == (exits.FAILED, "error: the newest revision of the frame is 1, there is no 9\n")


def forget_superseded(running: Cloud) -> None:
    for table in ("lines", "frames"):
        running.store.command(f"OPTIMIZE TABLE {table} FINAL")
    running.store.command("DELETE FROM lines WHERE revision = 0 AND period_begin != {T:UInt32}", {"T": T})


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

        # and what changed can be looked at, line by line
        await look_at_difference(running, capfd)

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


async def test_a_plan_that_comes_too_late_opens_its_gaps_by_itself(kafka: LaptopKafka, tmp_path: Path) -> None:
    # given frames that have left the state, one of them with usage that nobody expected
    config = write_settings(kafka, tmp_path)
    topics = config.settings.kafka
    async with cloud(config, tmp_path, rules=CHEAP) as running:
        pushed = collection(metric="net", samples=[Sample(0, T, T + HOUR, Decimal(7))], covers=[])
        await send(topics, a_plan(), pushed, *(hour(n) for n in range(3)))
        await until(lambda: [frame.status for frame in running.frames()] == [FrameStatus.RATED] * 3)
        await until(lambda: running.store.rows("SELECT count() FROM usage") == [(4,)])

        # when a plan says that net was expected from the middle of the second hour on, and in the first
        first, rest = Interval(T, T + HOUR), Interval(T + HOUR + HOUR // 2, T + 3 * HOUR)
        await send(topics, *(ScopePlan("test", "A", *span, ["cpu", "net"]) for span in (first, rest)))

        # then the frames that lack it say so, to the minute, and the one that has it says that it was expected
        await until(lambda: [frame.revision for frame in running.frames()] == [1, 1, 1])
        gaps = [[(gap.metric, gap.begin, gap.end) for gap in frame.gaps] for frame in running.frames()]
        assert gaps == [[], [("net", rest.begin, T + 2 * HOUR)], [("net", T + 2 * HOUR, T + 3 * HOUR)]]
        assert prices(running.lines()) == {0: Decimal("0.07"), 1: Decimal(3), 2: Decimal(3)}
        await until(lambda: len(list(running.view.reworks(ReworkRequest("A")))) >= 3)
        records = list(running.view.reworks(ReworkRequest("A")))
        assert [(r.author, r.outcome, r.base_revision, r.revision) for r in records] == [("rater", "done", 0, 1)] * 3
        assert records[0].requested.startswith("plan came late: net from test; alerts ")


async def test_a_broker_that_hangs_does_not_hold_up_the_end(tmp_path: Path) -> None:
    # given a broker of our own that hangs while a record is on its way
    with LaptopKafka(tmp_path / "kafka") as broker:
        topics = KafkaSettings(bootstrap=broker.bootstrap, partitions=1)
        await create_topics(topics)
        before = len(asyncio.all_tasks())
        async with AsyncExitStack() as stack:
            rework_log = await stack.enter_async_context(open_rework_log(topics))
            broker.pause()
            sending = asyncio.create_task(rework_log.send("A", [b"x"]))
            await asyncio.sleep(0.5)
            sending.cancel()

            # when the log is closed, then it is closed soon
            async with asyncio.timeout(3 * STOP_SECONDS):
                await stack.aclose()

        # and whatever was left of it ends when the broker is back
        broker.resume()
        async with asyncio.timeout(60):
            while len(asyncio.all_tasks()) > before:
                await asyncio.sleep(0.1)


async def test_a_line_that_vanishes_is_said_with_zero(kafka: LaptopKafka, tmp_path: Path) -> None:
    # given an hour with two machines, one with a number among its labels, whose frame has left the state
    config = write_settings(kafka, tmp_path)
    topics = config.settings.kafka
    async with cloud(config, tmp_path, rules=CHEAP) as running:
        machines = [Series({"id": "vm1"}), Series({"id": "vm2", "size": 4})]
        both = [Sample(n, T, T + HOUR, Decimal(n + 1)) for n in range(2)]
        await send(topics, a_plan(hours=1), collection(series=machines, samples=both))
        await until(lambda: len(running.lines()) == 2)
        gone = next(line for line in running.lines() if line.groupby["id"] == "vm2")
        # when a later collection knows only the first
        await send(topics, collection(series=machines[:1], samples=both[:1], attempt=2, collection_id="late"))
        await until(lambda: len(running.lines()) == 1)
        # then the topic says so, for programs that keep what they were told
        frames = [decode_rated(record.value, JSON) for record in await read(topics, Topic.RATED, 2)]
        assert [(line.line_id, line.qty, line.price) for line in frames[1].lines if not line.qty] == [
            (gone.line_id, Decimal(0), Decimal(0))
        ]
        assert frames[1].lines[-1].groupby == {"id": "vm2", "size": 4}


def begun(running: Cloud, rework_id: str, author: str = "bob") -> ReworkBegun:
    """The begin of a rework of the first frame."""
    frame = running.frames()[0]
    base = FrameBase(frame.revision, frame.digest, frame.rule_version, frame.closed_at, totals=frame.totals)
    return ReworkBegun(rework_id, "rerate", "A", frame.period_begin, author, "by hand", base)


async def test_a_frame_that_is_being_reworked_is_refused_to_others(
    kafka: LaptopKafka, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # given a frame of which somebody's rework has begun
    config = write_settings(kafka, tmp_path)
    topics = config.settings.kafka
    async with cloud(config, tmp_path, rules=CHEAP) as running:
        await send(topics, a_plan(), *(hour(n) for n in range(3)))
        await until(lambda: len(running.frames()) == 3)
        await send(topics, begun(running, "other"))

        # when a command wants it, too, then it says so before it begins
        wanted = ("rerate", "--scope", "A", "--from", DAY, "--to", "2026-01-02", "--reason", "mine")
        status, _, err = await running.rater(capfd, *wanted)
        assert status == exits.FAILED
        assert "rework other of bob (by hand) is under way for A 2026-01-01 00:00" in err

        # and one that did not see it, as both began at once, is refused by the engine, and told by whom
        wants = Wanted("mine", "rerate", "ann", "mine")
        found = await run_by_hand(running, wants)
        refused = found.of_kind(AlertKind.REWORK_REFUSED)
        assert [(alert.period_begin, alert.reason) for alert in refused] == [
            (T, "rework other of bob is under way: by hand")
        ]
        assert len(found.of_kind(AlertKind.REWORK_DONE)) == 2
        assert not found.went_well
        await until(lambda: len(list(running.view.reworks(ReworkRequest("A", rework_id="mine")))) == 3)
        assert [r.outcome for r in running.view.reworks(ReworkRequest("A", rework_id="mine"))] == [
            "refused", "unchanged", "unchanged",
        ]  # fmt: skip

        # when the other one comes to an end with records missing
        await send(topics, ReworkEnded("other", "A", T, 5))
        await until(lambda: list(running.view.reworks(ReworkRequest("A", rework_id="other"))))
        # then it has changed nothing, and the next one may
        [record] = running.view.reworks(ReworkRequest("A", rework_id="other"))
        assert (record.outcome, record.author, record.revision) == ("abandoned", "bob", 0)
        assert [frame.revision for frame in running.frames()] == [0, 0, 0]
        status, _, err = await running.rater(capfd, *wanted)
        assert (status, "3 unchanged" in err) == (exits.OK, True), err


async def run_by_hand(running: Cloud, wanted: Wanted) -> Finished:
    """A rework of all frames of A, without looking whether there are others."""
    period = running.config.settings.engine.period

    def found(begin: int = T, end: int = T + 3 * HOUR) -> Iterable[Material]:
        return materials(running.view, "A", begin, end, period)

    async def make(material: Material) -> Bracket | Left:
        return bracket_of(material, wanted, running.config.catalog)

    with ThreadPoolExecutor(1) as thread:
        async with open_rework_log(running.config.settings.kafka) as log:
            runner = Runner(wanted, log)
            return await run_rework(
                running.view, thread, runner, wanted, found(), lambda key: found(key[1], key[1] + 1), make
            )


async def test_frames_whose_usage_is_not_all_stored_are_left_as_they_are(
    kafka: LaptopKafka, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # given an hour whose samples were deleted, and one whose samples are there
    config = write_settings(kafka, tmp_path)
    async with cloud(config, tmp_path, rules=CHEAP) as running:
        await send(config.settings.kafka, a_plan(hours=2), *(hour(n) for n in range(2)))
        await until(lambda: len(running.frames()) == 2)
        await until(lambda: running.store.rows("SELECT count() FROM usage") == [(2,)])
        running.store.command("DELETE FROM usage WHERE range_begin = {T:UInt32}", {"T": T})
        await apply_rules(config, DEAR)
        # when both are to be rated again
        status, out, err = await running.rater(capfd, "rerate", "--all", "--month", "2026-01", "--reason", "why not")
        # then the first is left and said, the second is rated again
        assert status == exits.FAILED
        assert "left as it is: A 2026-01-01 00:00: metric 'cpu' from test: collection A-" in err
        assert "1 done" in err
        assert prices(running.lines()) == {0: Decimal(3), 1: Decimal("4.5")}
        # as a trial would have told
        status, out, err = await running.rater(
            capfd, "rerate", "--all", "--month", "2026-01", "--reason", "trial", "--dry-run", "--out", "json"
        )
        assert (status, json.loads(out)) == (exits.FAILED, {"scope_id": "A", "frames": 1, "samples": 1, "left": 1})
        assert "nothing was sent" in err
