"""Leaves points out of an answer that the metric's `skip_datapoints_expression` names, whatever the source is."""

from __future__ import annotations

import msgspec

from collectors.metrics_yml import Metric
from collectors.skip_expression import SkipError
from collectors.source import Answer
from rater.model.usage import QuarantinedItem, Sample, Series

__all__ = ["without_skipped"]

_MAX_TEXT = 2000  # of a note or a quarantined value


def without_skipped(answer: Answer, metric: Metric, period_begin: int) -> Answer:
    """The answer without the points that the metric's expression leaves out; they are counted, and the note says so.

    A point for which the expression fails is quarantined with the reason. What the answer proves stays as it is: a
    point that is left out was seen. `period_begin`: seconds since the epoch.
    """
    if metric.skip is None:
        return answer
    kept: list[Sample] = []
    failed: list[QuarantinedItem] = []
    for sample in answer.samples:
        series = answer.series[sample.series]
        try:
            if not metric.skip.skips(metric.unit, sample.qty, series.groupby, series.metadata, period_begin):
                kept.append(sample)
        except SkipError as fault:
            reason = f"skip_datapoints_expression failed with {fault}"
            failed.append(QuarantinedItem(str(sample.qty)[:_MAX_TEXT], reason, series.groupby, series.metadata))
    skipped = len(answer.samples) - len(kept) - len(failed)
    series_kept, samples = _renumbered(answer.series, kept)
    return msgspec.structs.replace(
        answer,
        series=series_kept,
        samples=samples,
        quarantined=[*answer.quarantined, *failed],
        skipped=answer.skipped + skipped,
        note=_noted(answer.note, skipped),
    )


def _renumbered(series: list[Series], samples: list[Sample]) -> tuple[list[Series], list[Sample]]:
    """The samples with only the series that they need."""
    numbers: dict[int, int] = {}
    renumbered = [
        msgspec.structs.replace(sample, series=numbers.setdefault(sample.series, len(numbers))) for sample in samples
    ]
    return [series[number] for number in numbers], renumbered


def _noted(note: str, skipped: int) -> str:
    if not skipped:
        return note
    remark = f"{skipped} points left out by skip_datapoints_expression"
    return "; ".join(filter(None, [note[: _MAX_TEXT - len(remark) - 2], remark]))
