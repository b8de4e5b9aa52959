from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from rater.model.rated import RatedFrame
from rater.store import Assembly, Batch, StoreError, UnstorableError
from tests.unit.store.builders import HOUR, JANUARY, a_frame, a_line, parts_of

TEN = [a_line(number) for number in range(10)]


def written(batch: Batch) -> dict[str, list[int]]:
    """Rows of `lines`, and the line counts that rows of `frames` name."""
    rows: dict[str, list[int]] = {"lines": [0], "frames": []}
    for table, _, block in batch.blocks():
        columns = {column.name: column.values for column in block}
        if table.name == "lines":
            rows["lines"] = [len(columns["scope_id"])]
        else:
            rows["frames"] += columns["line_count"]
    return rows


def nothing_stored(scope_id: str, period_begin: int) -> None:
    return None


def test_a_frame_counts_when_its_last_part_is_there() -> None:
    # given the first two of three parts, in two batches
    first, second, third = parts_of(a_frame(lines=TEN), 3)
    assembly, one, two = Assembly(nothing_stored), Batch(), Batch()
    assembly.take(7, first, one)
    assembly.take(8, second, two)
    assert (assembly.safe_offset, assembly.unfinished) == (7, 1)
    assert written(two)["frames"] == []

    # when the last one comes
    assembly.take(9, third, two)

    # then the frame's row names all lines, and the partition may be read from after it
    assert written(one) == {"lines": [4], "frames": []}
    assert written(two) == {"lines": [6], "frames": [10]}
    assert (assembly.safe_offset, assembly.unfinished) == (10, 0)


def test_other_frames_pass_one_that_waits_for_parts() -> None:
    first, second = parts_of(a_frame(lines=TEN), 2)
    assembly, batch = Assembly(nothing_stored), Batch()

    assembly.take(1, first, batch)
    assembly.take(2, a_frame("beta", lines=TEN[:1]), batch)
    assembly.skip(3)
    assert assembly.safe_offset == 1
    assembly.take(4, second, batch)

    assert assembly.safe_offset == 5
    assert sorted(written(batch)["frames"]) == [1, 10]


@pytest.mark.parametrize("order", [[0, 1, 0, 1, 2], [0, 0, 1, 2], [0, 1, 1, 2, 2], [0, 1, 2, 0, 1, 2]])
def test_repetitions_change_nothing(order: list[int]) -> None:
    parts = list(parts_of(a_frame(lines=TEN), 3))
    assembly, batch = Assembly(nothing_stored), Batch()

    for offset, part in enumerate(order):
        assembly.take(offset, parts[part], batch)

    assert set(written(batch)["frames"]) == {10}
    assert (assembly.safe_offset, assembly.unfinished) == (len(order), 0)


def test_a_tail_whose_head_was_stored_before_is_a_repetition() -> None:
    tail = list(parts_of(a_frame(lines=TEN, revision=2), 3))[1:]
    assembly, batch = Assembly(lambda scope_id, period_begin: 2), Batch()

    for offset, part in enumerate(tail):
        assembly.take(offset, part, batch)

    assert (assembly.safe_offset, batch.weight) == (2, 0)


def test_a_tail_whose_head_was_never_seen_is_not_written_and_not_passed() -> None:
    # given a reader that begins in the middle of a frame
    parts = list(parts_of(a_frame(lines=TEN, revision=2), 3))
    assembly, batch = Assembly(lambda scope_id, period_begin: 1), Batch()
    assembly.take(5, parts[1], batch)
    assembly.take(6, parts[2], batch)
    assert (assembly.safe_offset, assembly.unfinished, batch.weight) == (5, 1, 0)

    # when the worker repeats it from the start
    for offset, part in enumerate(parts, start=7):
        assembly.take(offset, part, batch)

    # then
    assert (assembly.safe_offset, assembly.unfinished) == (10, 0)
    assert written(batch) == {"lines": [10], "frames": [10]}


def test_a_finished_revision_makes_older_unfinished_ones_moot() -> None:
    first, _ = parts_of(a_frame(lines=TEN, revision=0), 2)
    assembly, batch = Assembly(nothing_stored), Batch()

    assembly.take(1, first, batch)
    assembly.take(2, a_frame(period_begin=JANUARY + HOUR, revision=5, lines=TEN), batch)
    assert assembly.safe_offset == 1
    assembly.take(3, a_frame(revision=1, lines=TEN), batch)

    assert assembly.safe_offset == 4


def test_lines_that_vanished_are_not_stored() -> None:
    zeros = [msgspec.structs.replace(a_line(n), qty=Decimal(0), price=Decimal(0)) for n in (20, 21, 22)]
    frame = a_frame(lines=TEN, vanished=zeros, revision=1)
    assembly, batch = Assembly(nothing_stored), Batch()

    for offset, part in enumerate(parts_of(frame, 3)):
        assembly.take(offset, part, batch)

    assert written(batch) == {"lines": [10], "frames": [10]}


def _too_few(frame: RatedFrame) -> RatedFrame:
    return msgspec.structs.replace(frame, lines=frame.lines[:-1])


def _too_many(frame: RatedFrame) -> RatedFrame:
    return msgspec.structs.replace(frame, lines=[*frame.lines, a_line(77)])


@pytest.mark.parametrize("spoil", [_too_few, _too_many])
def test_a_frame_that_contradicts_its_totals_is_refused(spoil: object) -> None:
    frame = spoil(a_frame(lines=TEN))  # type: ignore[operator]  # one of the two above
    assembly, batch = Assembly(nothing_stored), Batch()

    with pytest.raises(UnstorableError, match="totals count"):
        assembly.take(3, frame, batch)

    assert (assembly.safe_offset, written(batch)["frames"]) == (4, [])


def test_the_parts_after_a_refused_one_are_refused_until_the_frame_comes_again() -> None:
    # given a frame of three parts, of which the second cannot be stored
    parts = list(parts_of(a_frame(lines=TEN), 3))
    bad = msgspec.structs.replace(parts[1], lines=[a_line(4, qty="1E-50")])
    assembly, batch = Assembly(nothing_stored), Batch()
    assembly.take(1, parts[0], batch)
    for offset, part in ((2, bad), (3, parts[2])):
        with pytest.raises(UnstorableError):
            assembly.take(offset, part, batch)
    assert (assembly.safe_offset, assembly.unfinished) == (4, 0)

    # when it comes again, sound
    for offset, part in enumerate(parts, start=4):
        assembly.take(offset, part, batch)

    # then
    assert written(batch)["frames"] == [10]


def test_a_store_that_does_not_answer_leaves_everything_to_be_repeated() -> None:
    def away(scope_id: str, period_begin: int) -> None:
        raise StoreError("away")

    part = list(parts_of(a_frame(lines=TEN), 2))[1]
    assembly = Assembly(away)
    assembly.skip(4)

    with pytest.raises(StoreError, match="away"):
        assembly.take(5, part, Batch())

    assert (assembly.next_offset, assembly.safe_offset) == (5, 5)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_repetition_that_breaks_off_holds_nothing_up(*, restarted: bool) -> None:
    # given a whole revision, in the batch or in the store
    first, second = parts_of(a_frame(lines=TEN), 2)
    stored: list[int] = []
    assembly, batch = Assembly(lambda *_: max(stored, default=None)), Batch()
    assembly.take(1, first, batch)
    assembly.take(2, second, batch)
    if restarted:
        stored.append(first.revision)
        assembly.written()

    # when a worker that was thought dead repeats its first part and no other
    assembly.take(3, first, batch)

    # then nobody waits for the rest, which may come all the same
    assert (assembly.safe_offset, assembly.unfinished) == (4, 0)
    assembly.take(4, second, batch)
    assert (assembly.safe_offset, assembly.unfinished) == (5, 0)
