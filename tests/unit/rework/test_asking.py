"""A source that does not answer is not waited for frame by frame; one whose newest hours are not settled is."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from collectors.errors import NotSettledError, SourceError
from collectors.metrics_yml import Metric, load
from collectors.source import Answer
from rater.model.interval import Interval
from rater.model.usage import Sample, Series
from rater.rework import Asking, Left, Material, Wanted
from rater.rework.asking import SILENT_FRAMES
from rater.rework.values import Bracket
from tests.unit.rework.builders import CATALOG, HOUR, T, a_frame_row, a_part, a_reference, stored


class Silent:
    """A source that never answers; it counts how often it was asked."""

    def __init__(self, fault: SourceError) -> None:
        self._fault = fault
        self.asked = 0

    async def check(self, now: int, reach_seconds: int) -> list[str]:
        return []

    async def oldest(self, now: int) -> int:
        return 0

    def session(self, period: Interval, now: int) -> Silent:
        return self

    async def collect(self, scope_id: str, metric: Metric) -> Answer:
        self.asked += 1
        raise self._fault

    async def close(self) -> None: ...


@pytest.mark.parametrize(
    ("fault", "asked"),
    [(SourceError("no answer in time"), SILENT_FRAMES), (NotSettledError("may still come"), SILENT_FRAMES + 3)],
)
async def test_a_source_that_is_silent_is_given_up(tmp_path: Path, fault: SourceError, asked: int) -> None:
    # given more frames than it may be silent for
    (tmp_path / "metrics.yml").write_text("metrics: {cpu: {unit: undefined}}")
    source, wanted = Silent(fault), Wanted("r1", "reprocess", "ann", "why")
    asking = Asking(source, "test", load(tmp_path / "metrics.yml").metrics, wanted, CATALOG, lambda: T + 99 * HOUR)
    # when
    made = []
    for hour in range(SILENT_FRAMES + 3):
        begin = T + hour * HOUR
        frame = a_frame_row(("cpu", a_reference(begin=begin)), begin=begin)
        made.append(await asking.make(Material(frame, [], stored(a_part(begin)))))
    # then each frame is left with a reason, and the source was asked so often
    assert all(isinstance(one, Left) and "gave no" in one.reason for one in made)
    assert source.asked == asked


async def test_points_that_an_expression_leaves_out_stay_out_when_asked_again(tmp_path: Path) -> None:
    """Given an expression for points with 0; then the answer is sent without it, and says so."""
    text = "metrics:\n  cpu: {unit: undefined, skip_datapoints_expression: \"datapoint['vol']['qty'] == 0\"}\n"
    (tmp_path / "metrics.yml").write_text(text)

    class Zero(Silent):
        async def collect(self, scope_id: str, metric: Metric) -> Answer:
            samples = [Sample(0, T, T + HOUR, Decimal(0)), Sample(1, T, T + HOUR, Decimal(2))]
            return Answer([Interval(T, T + HOUR)], series=[Series({"id": "a"}), Series({"id": "b"})], samples=samples)

    source, wanted = Zero(SourceError("")), Wanted("r1", "reprocess", "ann", "why")
    asking = Asking(source, "test", load(tmp_path / "metrics.yml").metrics, wanted, CATALOG, lambda: T + 99 * HOUR)
    made = await asking.make(Material(a_frame_row(("cpu", a_reference())), [], stored(a_part())))

    assert isinstance(made, Bracket)
    (sent,) = [collection for collection in made.collections if collection.note]  # the others are stored ones
    assert ([sample.qty for sample in sent.samples], sent.series) == ([Decimal(2)], [Series({"id": "b"})])
    assert sent.note == "1 points left out by skip_datapoints_expression"
