"""What graduated prices count, where tiers come or change in the middle of a month: as the stream counted it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

import msgspec
import pytest

from rater.model.rated import FrameStatus
from rater.rating import BUILT_IN, Chain, Module, RatingFrame, RatingPoint, RuleBook, parse, plan
from rater.reports import Selection
from rater.trial import CountUnknownError, Explainer, FrameExplained, StoredFrames, WhatIf, versions_before
from tests.unit.engine.builders import plan as planned
from tests.unit.trial.world import HOUR, T, World, a_world, book_from, measured

FLAT = "hashmap: {services: [{name: cpu, mappings: [{cost: '7'}]}]}"
TIERS = "hashmap: {services: [{name: cpu, tiers: {steps: [{up_to: '10', cost: '1'}, {cost: '0.1'}]}}]}"
BY_ID = TIERS.replace("{steps", "{by: [id], steps")
TIDY = "\nmodules: {hashmap: {priority: 2}, tidy: {enabled: true, priority: 1}}"
DAY = 24 * HOUR
MONTH = Selection("A", T, T + DAY)


def books(*documents: str) -> dict[int, RuleBook]:
    """The books of one installation, to which the documents are applied one after the other."""
    made = {0: RuleBook.empty()}
    for version, document in enumerate(documents, 1):
        changes = plan(made[version - 1], parse(document, "rules.yaml", modules=(*BUILT_IN, "tidy")))
        made[version] = made[version - 1].apply(changes.event("test", "", 0))[0]
        assert made[version].version == version
    return made


def hours(world: World, book: RuleBook, *numbers: int, qty: str = "9", modules: Mapping[str, Module] = {}) -> None:
    """Closes these hours of the month under the book."""
    world.bench.rules = Chain(book, modules)
    for number in numbers:
        begin = T + number * HOUR
        world.take(measured("cpu", qty, begin=begin))
        world.close(begin + HOUR)


def explained(world: World, made: Mapping[int, RuleBook], modules: Mapping[str, Module] = {}) -> list[FrameExplained]:
    explainer = Explainer(world.view, world.context, made.__getitem__, world.scripts, modules)
    stored = StoredFrames(world.view, world.context, lambda _: False, samples=True).read("A", T, T + DAY)
    return [explainer.explain(one) for one in stored]


def told(frames: list[FrameExplained]) -> list[tuple[str, str]]:
    """(used before, price) of the first line of each frame; no tiers: an empty text."""
    found = []
    for frame in frames:
        tiers = frame.lines[0].points[0].steps[0].tiers
        found.append((tiers.used_before if tiers else "", frame.lines[0].price))
    return found


@pytest.fixture
def world() -> Iterator[World]:
    made = a_world(RuleBook.empty())
    yield made
    made.store.close()


def test_tiers_count_from_the_first_frame_that_was_rated_under_them(world: World) -> None:
    # given tiers that come, change their labels, go, and come again
    made = books(FLAT, TIERS, BY_ID, FLAT, BY_ID)
    for version in range(1, 6):
        hours(world, made[version], 2 * version, 2 * version + 1)
    # when / then: each counts what was counted by the same key; what was rated without tiers is in no count
    assert told(explained(world, made)) == [
        ("", "63"), ("", "63"), ("0", "9"), ("9", "1.8"), ("0", "9"), ("9", "1.8"), ("", "63"), ("", "63"),
        ("18", "0.9"), ("27", "0.9"),
    ]  # fmt: skip
    last = list(world.view.frames(MONTH))[-1]
    assert versions_before(world.view, last) == [1, 2, 3, 4, 5]


def test_a_late_sample_makes_an_earlier_hour_count(world: World) -> None:
    # given an hour before the tiers
    made = books(FLAT, TIERS)
    hours(world, made[1], 0)
    hours(world, made[2], 1)
    assert told(explained(world, made)) == [("", "63"), ("0", "9")]
    # when more of it comes
    world.take(measured("cpu", "1", source="late", collection_id="late"))
    world.close(T + 3 * HOUR)
    # then
    assert told(explained(world, made)) == [("0", "10"), ("10", "0.9")]


def test_a_frame_that_failed_counts_nothing(world: World) -> None:
    # given a module that is not there for an hour
    made = books(TIERS + TIDY, TIERS)
    hours(world, made[1], 0)
    [failed] = world.view.frames(MONTH)
    assert failed.status is FrameStatus.FAILED
    # when the next one is made before the first is rated again
    hours(world, made[1], 1, modules={"tidy": only_later})
    # then
    assert told(explained(world, made, {"tidy": only_later})[1:]) == [("0", "9")]


def only_later(frame: RatingFrame, rules: RuleBook) -> tuple[RatingPoint, ...]:
    assert frame.period_begin > T
    return frame.points


def halved(frame: RatingFrame, rules: RuleBook) -> list[RatingPoint]:
    """Takes one resource out, and shows half of the quantity of the others: after hashmap has counted them."""
    return [
        msgspec.structs.replace(point, qty=point.qty / 2) for point in frame.points if point.groupby.get("id") != "gone"
    ]


def test_frames_that_a_module_changed_after_hashmap_are_rated_again(world: World) -> None:
    # given
    made = books(TIERS + TIDY)
    tidy = {"tidy": halved}
    world.take(measured("cpu", "3", groupby={"id": "gone"}, source="other", collection_id="gone"))
    world.take(measured("cpu", begin=T + HOUR, source="other", collection_id="none"))
    hours(world, made[1], 0, 1, qty="4", modules=tidy)
    # when / then the second hour counts on from 7, of which the lines show 2
    frames = explained(world, made, tidy)
    assert [line.qty for frame in frames for line in frame.lines] == ["2", "2"]
    assert told(frames) == [("3", "4"), ("7", "3.1")]
    # when the module makes something else of it now, nothing is guessed
    with pytest.raises(CountUnknownError, match="has other lines or quantities than the stored ones"):
        explained_at(world, made, {"tidy": lambda frame, _: list(frame.points)}, 1)
    with pytest.raises(CountUnknownError, match="it was rated, but would not be any more: module 'tidy'"):
        explained_at(world, made, {}, 1)


def explained_at(
    world: World, made: Mapping[int, RuleBook], modules: Mapping[str, Module], number: int
) -> FrameExplained:
    explainer = Explainer(world.view, world.context, made.__getitem__, world.scripts, modules)
    begin = T + number * HOUR
    [stored] = StoredFrames(world.view, world.context, lambda _: True).read("A", begin, begin + HOUR)
    return explainer.explain(stored)


def test_usage_that_is_not_stored_and_a_count_that_needs_it() -> None:
    # given modules after hashmap, and no usage
    made = books(TIERS + TIDY)
    world = a_world(made[1], usage=False)
    with world.store:
        hours(world, made[1], 0, 1, qty="4", modules={"tidy": halved})
        # when / then
        with pytest.raises(CountUnknownError, match="frame of 2026-01-01T00:00:00Z, rated by version 1 of the rules"):
            explained_at(world, made, {"tidy": halved}, 1)


def test_a_point_beyond_all_columns_was_counted_all_the_same(world: World) -> None:
    # given usage of which the price fits into no column
    steps = "{up_to: '100000000000', cost: '999999999999'}, {up_to: '900000000000', cost: '999999999999'}, {cost: '2'}"
    made = books(TIERS.replace("{up_to: '10', cost: '1'}, {cost: '0.1'}", steps))
    hours(world, made[1], 0, qty="9e29")
    hours(world, made[1], 1, qty="4")
    # when
    first, second = explained(world, made)
    # then
    assert (first.lines, len(first.without_price)) == ([], 1)
    assert told([second]) == [("9" + "0" * 29, "8")]


def test_what_if_counts_from_the_begin_of_the_month(world: World) -> None:
    # given two hours without tiers
    made = books(FLAT)
    hours(world, made[1], 0, 1)
    # when rated by tiers, from the second on
    found = what_if(world, book_from(TIERS), T + HOUR).found
    # then it counts on from the first one
    assert (found.frames, found.total().new) == (1, Decimal("1.8"))


def test_what_if_does_not_guess_what_was_used_before() -> None:
    # given an hour whose usage cannot be read any more, one with usage, and an empty one
    made = books(FLAT)
    world = a_world(made[1], usage=False)
    with world.store:
        world.bench.rules = Chain(made[1])
        world.take(planned("cpu"), measured("cpu", "9", groupby={"id": "r1", "n": 7}))
        world.close(T + HOUR)
        hours(world, made[1], 1)
        world.take(measured("cpu", begin=T + 2 * HOUR))
        world.close(T + 3 * HOUR)
        # when
        for begin, frames, unknown in ((T, 3, 2), (T + HOUR, 2, 1)):
            found = what_if(world, book_from(TIERS), begin).found
            # then
            assert (found.frames, found.unknown, found.total().new) == (frames, unknown, Decimal(0))
            assert "which is not known of 2026-01-01T00:00:00Z" in found.faults[-1]
        # and without tiers the second one is compared
        assert what_if(world, book_from(FLAT), T).found.unknown == 1


def what_if(world: World, book: RuleBook, begin: int) -> WhatIf:
    work = WhatIf(StoredFrames(world.view, world.context, lambda _: True), Chain(book), world.scripts)
    assert sum(work.scope("A", begin, T + 3 * HOUR))
    return work
