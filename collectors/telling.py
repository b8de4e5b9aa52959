"""What a collector says in `usage`: collections that prove something new, and why something is missing, once."""

from __future__ import annotations

from typing import NamedTuple

from collectors.collector_metrics import CollectorMetrics
from collectors.metrics_yml import Metric
from collectors.parts import CollectionDraft
from collectors.patience import Key, Patience
from collectors.progress import Progress
from collectors.publisher import UsageLog
from collectors.source import Answer
from rater.model.interval import Interval, seconds, subtract
from rater.model.usage import CollectionFailed

__all__ = ["Teller", "Work"]


class Work(NamedTuple):
    """One thing to ask."""

    period: Interval
    metric: Metric
    scope_id: str

    @property
    def key(self) -> Key:
        """What its pauses are kept under."""
        return self.scope_id, self.metric.name, self.period.begin


class Teller:
    """The voice of one source."""

    def __init__(
        self, source: str, usage: UsageLog, progress: Progress, patience: Patience, metrics: CollectorMetrics
    ) -> None:
        self.published = self.failed = self.skipped = 0
        self._source = source
        self._usage = usage
        self._progress = progress
        self._patience = patience
        self._metrics = metrics

    async def publish(self, work: Work, answer: Answer, attempt: int) -> None:
        """Says what is new: an answer that proves no more than the last one would only repeat it.

        Raises PublishError.
        """
        missing = subtract([work.period], answer.covers)
        if missing:
            self._metrics.failed(work.metric.name, "incomplete")
            await self.fail(work, answer.note, Interval(missing[0].begin, missing[-1].end))
        known = self._progress.covered(work.scope_id, work.metric.name, work.period)
        says = bool(answer.covers or answer.samples or answer.quarantined or answer.skipped)
        is_first = not self._progress.is_known(work.scope_id, work.metric.name, work.period)
        if not (seconds(answer.covers) > seconds(known) or (is_first and says)):
            return
        draft = CollectionDraft(
            source=self._source,
            scope_id=work.scope_id,
            metric=work.metric.name,
            begin=work.period.begin,
            end=work.period.end,
            attempt=attempt,
            unit=work.metric.unit,
            covers=answer.covers,
            proof=answer.proof,
            series=answer.series,
            samples=answer.samples,
            quarantined=answer.quarantined,
            note=answer.note,
        )
        await self._usage.publish(draft)
        self._progress.note(work.scope_id, work.metric.name, work.period, attempt, answer.covers)
        self.published += 1
        self.skipped += answer.skipped
        self._metrics.published(work.metric.name, len(answer.samples), answer.skipped)

    async def fail(self, work: Work, reason: str, span: Interval | None = None) -> None:
        """Publishes why there is no answer, or not a whole one; the same reason once. Raises PublishError."""
        if self._patience.is_told(work.key, reason):
            return
        begin, end = span or work.period
        await self._usage.failed(
            CollectionFailed(self._source, work.scope_id, work.metric.name, begin, end, reason[:2000])
        )
        self._patience.told(work.key, reason)
        self.failed += 1
