"""Which frames `rater rerate` and `rater reprocess` take of the time that they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rater.cli.rework_options import _materials
from rater.reports import Selection
from rater.store import FrameRow
from tests.unit.rework.builders import HOUR, T, a_frame_row


class Frames:
    """A store with a frame for each of three hours, and nothing else."""

    def frames(self, selection: Selection) -> Iterator[FrameRow]:
        assert selection.begin is not None
        assert selection.end is not None
        begins = range(T, T + 3 * HOUR, HOUR)
        return (a_frame_row(begin=at) for at in begins if selection.begin <= at < selection.end)

    def lines(self, _: object) -> Iterator[Any]:
        return iter(())

    usage = lines


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        (T, T + 2 * HOUR, [0, 1]),
        (T + 1, T + 2 * HOUR, [1]),
        (T, T + HOUR + 1, [0, 1]),
        (T + HOUR - 1, T + HOUR, []),
    ],
    ids=["whole hours", "from within an hour", "to within an hour", "no hour begins there"],
)
def test_only_periods_that_begin_in_the_time_are_taken(begin: int, end: int, expected: list[int]) -> None:
    config = SimpleNamespace(settings=SimpleNamespace(engine=SimpleNamespace(period=HOUR)))
    found = _materials(cast("Any", Frames()), cast("Any", config), [("A", begin, end)])
    assert [(material.frame.period_begin - T) // HOUR for material in found] == expected
