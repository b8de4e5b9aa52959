"""Which frames `rater rerate` and `rater reprocess` take, and what they say of those that were not rated again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rater import reports
from rater.cli import rework_options
from rater.cli.rework_options import SHOWN_RUNS, Request, _materials, _show_runs, _tell_broken_off, perform
from rater.reports import Selection
from rater.rework import Wanted
from rater.store import FrameRow, Kept
from rater.stream.interfaces import StreamUnavailableError
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

    def kept(self) -> Kept:
        return Kept()


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


def test_neighbouring_frames_with_the_same_reason_are_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    # given
    hours = {0: "no answer of the source", 1: "no answer of the source", 2: "too old", 4: "too old"}
    frames = [("A", T + hour * HOUR, reason) for hour, reason in hours.items()]
    # when
    _show_runs("left as it is", [("B", T + 2 * HOUR, "no answer of the source"), *reversed(frames)], HOUR)
    # then
    assert capfd.readouterr().err.splitlines() == [
        "left as it is: A 2026-01-01 00:00 to 2026-01-01 02:00 (2 frames): no answer of the source",
        "left as it is: A 2026-01-01 02:00: too old",
        "left as it is: A 2026-01-01 04:00: too old",
        "left as it is: B 2026-01-01 02:00: no answer of the source",
    ]


def test_what_is_not_shown_is_counted(capfd: pytest.CaptureFixture[str]) -> None:
    _show_runs("refused", [("A", T + hour * HOUR, f"reason {hour}") for hour in range(SHOWN_RUNS + 3)], HOUR)

    assert capfd.readouterr().err.splitlines()[SHOWN_RUNS:] == [
        "refused: and 3 more frames; ask for less time or fewer scopes to see them"
    ]


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), StreamUnavailableError("Kafka at x is away")])
def test_what_broke_off_says_what_stands(
    fault: BaseException, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # given a rework that breaks off when three frames are sent and two answered
    runner = SimpleNamespace(answers={("A", T): None, ("A", T + HOUR): None}, unanswered=[("A", T + 2 * HOUR)])

    async def broken(*arguments: Any) -> Any:
        arguments[-1].append(runner)
        raise fault

    monkeypatch.setattr(rework_options, "_work", broken)
    monkeypatch.setattr(rework_options, "span_of", lambda *_: [("A", T, T + HOUR)])
    monkeypatch.setattr(reports, "open_view", lambda _: nullcontext())
    request = Request("rerate", ("A",), T, T + HOUR, "because", "ann", dry_run=False, out="table", takes_late=False)
    # when
    with pytest.raises(type(fault)):
        perform(cast("Any", SimpleNamespace(settings=SimpleNamespace(store=None))), request, cast("Any", None))
    # then
    said = capfd.readouterr().err
    assert "broke off: 3 frames were sent, 2 of them are answered, and that stands" in said
    assert "`rater rework list --id " in said


def test_what_broke_off_before_anything_was_sent_needs_no_word(capfd: pytest.CaptureFixture[str]) -> None:
    runner = SimpleNamespace(answers={}, unanswered=[])

    _tell_broken_off(Wanted("r", "rerate", "ann", "because"), [cast("Any", runner)])

    assert capfd.readouterr().err == ""
