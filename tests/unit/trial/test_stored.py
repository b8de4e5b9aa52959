"""Frames as they were before rating, read back from what the sink stored; explained; rated by other rules."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from rater.model.metric import Aggregation
from rater.model.rated import FrameStatus
from rater.model.usage import Sample, Series
from rater.rating import Chain, NoScripts
from rater.reports import RemoteView, Selection, StoreView, socket_of
from rater.reports.desk import serve_desk
from rater.store import FrameRow, LineRow, ReadConflictError, Store, StoreSettings
from rater.trial import Explainer, StoredFrames, UnprovenPriceError, UsageUnknownError
from tests.unit.engine.builders import GRACE, plan, push, sample
from tests.unit.trial.world import HOUR, T, World, a_world, book_from, measured

ALL = [f"m_{one.value}" for one in Aggregation]
EVERY_METRIC = "hashmap:\n  services:\n" + "".join(
    f"    - {{name: {name}, mappings: [{{cost: '0.37'}}], thresholds: [{{level: '7', cost: '0.9', type: rate}}]}}\n"
    for name in ALL
)
FLAT = "hashmap: {services: [{name: cpu, mappings: [{cost: '0.1'}]}, {name: net, mappings: [{cost: '2'}]}]}"
TYPED = {"id": "r1", "n": 7, "ratio": 0.5, "on": True, "none": None}


@pytest.fixture
def world() -> Iterator[World]:
    made = a_world(book_from(FLAT))
    yield made
    made.store.close()


def by_metric(world: World) -> dict[str, tuple[Decimal, Decimal]]:
    return {line.metric: (line.qty, line.price) for line in world.view.lines(Selection())}


@pytest.mark.parametrize("labels", [{"id": "r1"}, TYPED], ids=["text", "typed"])
def test_points_of_every_aggregation_come_back(labels: dict[str, str | int | float | bool | None]) -> None:
    # given several collections of one period, some in parts, for every way to aggregate
    made = a_world(book_from(EVERY_METRIC))
    with made.store:
        for name in ALL:
            half = T + HOUR // 2
            made.take(
                measured(name, "1.5", "9", end=half, collection_id=f"{name}-a", groupby=labels),
                measured(name, "4", begin=half, end=T + HOUR, collection_id=f"{name}-b", groupby=labels, parts=2),
                measured(
                    name, "3.25", "8", begin=half, end=T + HOUR, collection_id=f"{name}-b", groupby=labels,
                    parts=2, part=1,
                ),
            )  # fmt: skip
        made.close(T + HOUR)
        # when
        [stored] = made.frames(samples=True).read("A", T, T + HOUR)
        [by_lines] = made.frames().read("A", T, T + HOUR)
        [explained] = made.explained()
        # then
        assert by_metric(made)["m_sum"][0] == Decimal("25.75")
        assert by_metric(made)["m_count"][0] == 5
        assert stored.points is not None
        assert by_lines.points is not None
        assert [(p.metric, p.qty, p.groupby) for p in stored.points.points] == [
            (name, by_metric(made)[name][0], labels) for name in sorted(ALL)
        ]
        assert by_lines.points == stored.points
        assert [len(line.samples) for line in explained.lines] == [5] * len(ALL)
        assert explained.lines[0].samples[0].begin == "2026-01-01T00:00:00Z"
        assert {line.aggregation for line in explained.lines} == {one.value for one in Aggregation}


def test_only_the_collections_that_held_count(world: World) -> None:
    # given a range of three hours, an attempt that replaces another, and a stretch that was missing
    world.take(measured("cpu", *["1"] * 18, end=T + 3 * HOUR, collection_id="long"))
    world.take(measured("cpu", "5", attempt=0, source="other", collection_id="old"))
    world.take(measured("cpu", "7", attempt=3, source="other", collection_id="new"))
    world.close(T + 3 * HOUR + GRACE)
    # when
    first, second, third, *_ = world.explained()
    # then
    assert [line.qty for frame in (first, second, third) for line in frame.lines] == ["13", "6", "6"]
    assert {sample.collection_id for sample in first.lines[0].samples} == {"long", "new"}
    assert len(second.lines[0].samples) == 6


def test_a_later_revision_is_explained_by_what_it_was_made_of(world: World) -> None:
    # given a frame with a hole, filled later
    half = T + HOUR // 2
    world.take(plan("cpu"), measured("cpu", "1", end=half, collection_id="a"))
    world.close(T + HOUR + GRACE)
    world.take(measured("cpu", "2", begin=half, end=T + HOUR, collection_id="b"), at=T + HOUR + GRACE)
    world.close(T + HOUR + GRACE + 600)
    # when / then
    frames = {frame.frame.period_begin: frame for frame in world.explained()}
    assert frames[T].frame.revision == 1
    assert frames[T].lines[0].qty == "3"


def test_pushed_samples_come_back_until_more_come_in(world: World) -> None:
    # given
    world.take(
        push(sample(T, "2", T + 1800), collection_id="x"), push(sample(T + 1800, "3", T + HOUR), collection_id="y")
    )
    world.close(T + HOUR)
    # when / then
    [frame] = world.explained()
    assert [line.price for line in frame.lines] == ["10"]
    # when another one comes in that no frame has yet
    world.take(push(sample(T + 10, "1"), collection_id="z"))
    # then the lines still prove the points, and it is said why there are no samples
    [frame] = world.explained()
    assert [line.price for line in frame.lines] == ["10"]
    assert frame.lines[0].samples == []
    assert "more came in after the frame was rated" in frame.note


def test_usage_that_is_not_stored(world: World) -> None:
    # given a sink without usage
    made = a_world(world.book, usage=False)
    with made.store:
        made.take(measured("cpu", "1"))
        made.close(T + HOUR)
        # when / then lines do where their labels were text
        [frame] = made.explained()
        assert frame.lines[0].price == "0.1"
        assert "usage is not stored (`sink.usage` is off), not there yet, or was deleted" in frame.note
        # and where they were not, nothing is guessed
        made.take(measured("cpu", "1", begin=T + HOUR, groupby=TYPED))
        made.close(T + 2 * HOUR)
        with pytest.raises(UsageUnknownError, match="has 0 samples in the store, the frame was made of 1"):
            made.explained()
        work = made.what_if(made.book)
        assert (work.found.frames, work.found.unknown, work.found.total().lines) == (2, 1, 1)
        assert "0 samples in the store" in work.found.faults[0]


def test_empty_and_missing_frames_say_so(world: World) -> None:
    world.take(plan("cpu", until=T + 2 * HOUR), measured("cpu"))
    world.close(T + HOUR + GRACE)
    world.close(T + 2 * HOUR + GRACE)
    assert [frame.note for frame in world.explained()] == ["nothing was used", "nothing is known of what was used"]


DISK = (
    "hashmap: {services: [{name: disk, mappings: [{cost: '2'}], fields: [{name: size, thresholds: [{level: '1', cost: "
    "'3'}]}]}]}"
)


def test_points_without_a_price_are_explained_and_may_get_one() -> None:
    # given a size that is no number, beside one that is
    made = a_world(book_from(DISK))
    with made.store:
        part = measured("disk", "4", groupby={"id": "bad", "size": "large"}, unit="GiB", parts=2)
        good = measured("disk", "4", groupby={"id": "good", "size": "5"}, unit="GiB", parts=2, part=1)
        made.take(part, good)
        made.close(T + HOUR)
        # when
        [frame] = made.explained()
        # then
        assert [line.price for line in frame.lines] == ["20"]
        [without] = frame.without_price
        assert without.groupby == {"id": "bad", "size": "large"}
        assert "field 'size' has thresholds" in without.reason
        assert [one.qty for one in without.samples] == ["4"]
        assert without.steps is not None
        assert [rule.cost for rule in without.steps.steps[0].rules] == ["2"]
        # when rules read it, one point is newly rated; when they read neither, one newly is not
        better = made.what_if(book_from(DISK.replace("size", "volume"))).found.total()
        worse = made.what_if(book_from(DISK.replace("size", "id"))).found.total()
        # then
        assert (better.newly_rated, better.newly_unrated, better.new) == (1, 0, 16)
        assert (worse.newly_rated, worse.newly_unrated, worse.new, worse.changed) == (0, 1, 0, 1)


def test_a_frame_that_failed_is_explained_by_its_reason() -> None:
    # given rules with a script where none can run
    scripted = book_from(FLAT + "\npyscripts: {scripts: [{name: rebate, data: 'pass'}]}")
    made = a_world(scripted)
    with made.store:
        made.take(measured("cpu", "5"))
        made.close(T + HOUR)
        # when
        [frame] = made.explained()
        # then
        assert frame.frame.status is FrameStatus.FAILED
        assert frame.note == "nothing was rated: script 'rebate': scripts cannot run here"
        # when it is rated by rules without the script, and by its own
        plain, again = made.what_if(book_from(FLAT)).found, made.what_if(scripted).found
        # then
        assert (plain.total().newly_rated, plain.total().new) == (1, Decimal("0.5"))
        assert (again.failed, again.total().lines) == (1, 0)
        assert "would fail: script 'rebate'" in again.faults[0]


def test_a_price_that_does_not_follow_is_an_error(world: World) -> None:
    # given a line that was changed in the store
    world.take(measured("cpu", "5"))
    [frame] = world.close(T + HOUR)
    wrong = [msgspec.structs.replace(line, price=line.price + 1) for line in frame.lines]
    world.keep([msgspec.structs.replace(frame, lines=wrong, revision=1)])
    # when / then
    with pytest.raises(UnprovenPriceError, match=r"the steps lead to 5 and price 0\.5, stored are 5 and price 1\.5"):
        world.explained()
    # and with other rules every line differs
    with pytest.raises(UnprovenPriceError, match="do not follow from the stored usage and version 1"):
        world.explained(book=book_from(DISK))


def test_a_rule_that_fails_now_is_an_error(world: World) -> None:
    world.take(measured("cpu", "5"))
    world.close(T + HOUR)
    scripted = book_from(FLAT + "\npyscripts: {scripts: [{name: rebate, data: 'pass'}]}")
    with pytest.raises(UnprovenPriceError, match="was rated, but would not be any more: script 'rebate'"):
        world.explained(book=scripted)


TIERS = """
hashmap:
  services:
    - name: cpu
      tiers: {by: [region], steps: [{up_to: "10", cost: "3"}, {up_to: "15", cost: "2"}, {cost: "1"}]}
"""


def test_graduated_prices_count_what_the_month_used_before() -> None:
    # given three hours of one month and the first of the next, in two regions
    made = a_world(book_from(TIERS))
    last = T + 31 * 24 * HOUR
    with made.store:
        for begin in (T, T + HOUR, T + 2 * HOUR, last):
            for region in ("r1", "r2"):
                labels = {"id": "x", "region": region}
                made.take(
                    measured(
                        "cpu", "4", "4", begin=begin, groupby=labels, source=region, collection_id=f"{begin}{region}"
                    ),
                    at=begin,
                )
            made.close(begin + HOUR)
        # when
        frames = [frame for frame in made.explained() if frame.lines]
        # then
        assert [[line.price for line in frame.lines] for frame in frames] == [
            ["24"] * 2,
            ["17"] * 2,
            ["8"] * 2,
            ["24"] * 2,
        ]
        tiers = frames[1].lines[0].points[0].steps[0].tiers
        assert tiers is not None
        assert (tiers.used_before, [part.qty for part in tiers.parts]) == ("8", ["2", "5", "1"])
        # when rated again by the same rules, from the begin or from the second hour on
        for since, hours in ((0, 4), (T + HOUR, 3)):
            for usage in (True, False):
                found = made.what_if(made.book, since, usage=usage).found
                # then
                assert (found.total().changed, found.total().lines, found.unknown) == (0, 2 * hours, 0)


def test_what_if_is_the_sum_of_what_each_line_would_cost() -> None:
    # given ten hours of two metrics in two scopes
    made = a_world(book_from(FLAT))
    with made.store:
        for number in range(10):
            begin = T + number * HOUR
            made.take(
                measured("cpu", str(number), begin=begin),
                measured("cpu", "100", begin=begin, source="second", collection_id=f"b{number}", groupby={"id": "r2"}),
            )
            made.close(begin + HOUR)
        # when one price is changed
        found = made.what_if(book_from(FLAT.replace("'0.1'", "'0.15'"))).found
        # then
        [entry] = found.biggest_first()
        quantity = sum(range(10)) + 1000
        assert (entry.scope_id, entry.metric, entry.lines) == ("A", "cpu", 20)
        assert (entry.old, entry.new) == (quantity * Decimal("0.1"), quantity * Decimal("0.15"))
        assert entry.difference == quantity * Decimal("0.05")
        assert entry.percent == 50
        assert entry.changed == 19  # a quantity of zero costs the same
        # and the same rules change nothing
        assert made.what_if(made.book).found.total().changed == 0


def test_what_if_where_nothing_was_paid_has_no_percent(world: World) -> None:
    world.take(measured("m_sum", "5"))
    world.close(T + HOUR)
    total = world.what_if(book_from(EVERY_METRIC)).found.total()
    assert (total.old, total.new, total.percent) == (0, Decimal("1.85"), None)


async def test_the_same_by_way_of_the_process_that_holds_the_store(tmp_path: Path) -> None:
    # given
    made = World(Store(StoreSettings(dsn=f"chdb://{tmp_path / 'store'}")), book_from(FLAT))
    with made.store:
        made.take(measured("cpu", "1", "2", groupby=TYPED), measured("cpu", "5", source="second", collection_id="s"))
        made.close(T + HOUR)
        async with serve_desk(StoreView(made.store), socket_of(tmp_path / "store")):
            remote = RemoteView(socket_of(tmp_path / "store"))
            # when
            told = await asyncio.to_thread(lambda: made.explained(view=remote))
            [by_lines] = await asyncio.to_thread(lambda: list(made.frames(view=remote).read("A", T, T + HOUR)))
        # then
        assert told == made.explained()
        assert [by_lines] == list(made.frames().read("A", T, T + HOUR))


def test_frames_that_are_replaced_meanwhile_are_read_again(world: World) -> None:
    # given a store in which a revision comes between frames and lines
    world.take(measured("cpu", "1"))
    [frame] = world.close(T + HOUR)

    class Busy(StoreView):
        revisions = 1

        def lines(self, selection: Selection) -> Iterator[LineRow]:
            if self.revisions:
                self.revisions -= 1
                number = next(self.frames(selection)).revision + 1
                world.keep([msgspec.structs.replace(frame, revision=number)])
            return super().lines(selection)

    # when / then
    view = Busy(world.store)
    [found] = StoredFrames(view, world.context, lambda _: True).read("A", T, T + HOUR)
    assert (found.frame.revision, found.lines[0].revision) == (1, 1)
    # and one that never stands still is an error
    view.revisions = 100
    with pytest.raises(ReadConflictError, match="replaced faster than they are read"):
        list(StoredFrames(view, world.context, lambda _: True).read("A", T, T + HOUR))


def test_large_frames_are_read_one_by_one(world: World) -> None:
    # given frames that are too large together
    series = [Series({"id": f"r{n}"}) for n in range(500)]
    for hour in range(3):
        begin = T + hour * HOUR
        many = [Sample(n % 500, begin, begin + 60, Decimal(1)) for n in range(15_000)]
        world.take(msgspec.structs.replace(measured("cpu", begin=begin), series=series, samples=many))
        world.close(begin + HOUR)
    asked: list[Selection] = []

    class Counted(StoreView):
        def lines(self, selection: Selection) -> Iterator[LineRow]:
            asked.append(selection)
            return super().lines(selection)

        def frames(self, selection: Selection) -> Iterator[FrameRow]:
            return super().frames(selection)

    # when
    frames = list(StoredFrames(Counted(world.store), world.context, lambda _: True).read("A", T, T + 3 * HOUR))
    # then
    assert [(one.begin, one.end) for one in asked] == [(T + n * HOUR, T + n * HOUR + 1) for n in range(3)]
    assert [len(frame.lines) for frame in frames] == [500] * 3
    assert Explainer(world.view, world.context, lambda _: world.book, NoScripts(), {}).explain(frames[0]).lines
    assert Chain(world.book).version == 1
