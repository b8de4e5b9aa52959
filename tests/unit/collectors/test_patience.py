"""Pauses that grow and differ, a source that is left in peace, and metrics that are given up for a period."""

from __future__ import annotations

import pytest

from collectors.errors import SourceAwayError
from collectors.patience import Breaker, Patience, spread

KEY = ("p1", "m", 0)
AWAY = SourceAwayError("away")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _patience(clock: Clock) -> Patience:
    return Patience(clock, lambda pause: pause)


def test_each_pause_is_twice_the_last_one_up_to_six_hours(clock: Clock) -> None:
    patience = _patience(clock)
    pauses = []
    for _ in range(11):
        patience.later(KEY)
        begun = clock.now
        while not patience.is_due(KEY):
            clock.now += 10
        pauses.append(clock.now - begun)
    assert pauses == [60, 120, 240, 480, 960, 1920, 3840, 7680, 15360, 21600, 21600]

    patience.done(KEY)
    assert (patience.is_due(KEY), patience.times(KEY)) == (True, 0)


def test_what_was_asked_too_early_or_spared_does_not_wait_longer_the_next_time(clock: Clock) -> None:
    patience = _patience(clock)
    patience.soon(KEY, clock.now)
    clock.now += 29
    assert not patience.is_due(KEY)
    clock.now += 1
    assert patience.is_due(KEY)
    patience.spare(KEY)
    assert not patience.is_due(KEY)
    clock.now += 60
    assert (patience.is_due(KEY), patience.times(KEY)) == (True, 0)


def test_a_source_that_is_away_is_left_in_peace_longer_each_time_up_to_a_minute(clock: Clock) -> None:
    patience = _patience(clock)
    pauses = [patience.away(AWAY) for _ in range(6)]
    assert pauses == [5, 10, 20, 40, 60, 60]
    assert patience.is_away()
    clock.now += 60
    assert not patience.is_away()
    patience.all_well()
    assert patience.away(AWAY) == 5


@pytest.mark.parametrize(("asked", "pause"), [(2.0, 5.0), (120.0, 120.0), (86400.0, 900.0)])
def test_a_source_may_ask_for_a_longer_rest_within_bounds(clock: Clock, asked: float, pause: float) -> None:
    assert _patience(clock).away(SourceAwayError("busy", retry_after=asked)) == pause


def test_pauses_differ_between_three_and_five_quarters() -> None:
    found = {spread(100) for _ in range(200)}
    assert len(found) > 100
    assert all(75 <= pause <= 125 for pause in found)
    assert max(found) - min(found) > 25


def test_a_source_that_is_back_has_its_open_periods_asked_at_once_the_oldest_first(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collectors.patience._RECALL_MOST", 2)
    patience = _patience(clock)
    keys = [("p1", "m", begin) for begin in (7200, 0, 3600)]
    for key in keys:
        patience.later(key)
    assert patience.recall() == 0  # it was never away
    patience.away(AWAY)
    patience.there()
    assert patience.recall() == 2
    assert [patience.is_due(key) for key in keys] == [False, True, True]

    for key in keys:
        patience.later(key)
    patience.answers()
    assert patience.recall() == 0  # one that comes and goes is not overrun
    clock.now += 300
    assert patience.recall() == 0  # all pauses are over by now
    assert all(patience.is_due(key) for key in keys)


def test_a_reason_is_told_once_until_another_one(clock: Clock) -> None:
    patience = _patience(clock)
    assert not patience.is_told(KEY, "a")
    patience.told(KEY, "a")
    assert patience.is_told(KEY, "a")
    assert not patience.is_told(KEY, "b")
    patience.forget(lambda key: key[0] != "p1")
    assert not patience.is_told(KEY, "a")


def test_a_metric_that_fails_ten_times_in_a_row_is_given_up_and_others_are_not() -> None:
    breaker = Breaker()
    for number in range(9):
        breaker.failed("m", f"fault {number}")
    breaker.answered("m")
    for number in range(10):
        assert not breaker.gives_up("m")
        breaker.failed("m", f"fault {number}")
    assert breaker.gives_up("m") == "not asked: 10 questions in a row failed, the last one: fault 9"
    assert not breaker.gives_up("n")


def test_thirty_failures_in_a_row_end_a_period_for_all_metrics() -> None:
    breaker = Breaker()
    for number in range(29):
        breaker.failed(f"m{number}", "fault")
    assert not breaker.gives_up("n")
    breaker.failed("m29", "fault")
    assert "30 questions in a row failed" in breaker.gives_up("n")
