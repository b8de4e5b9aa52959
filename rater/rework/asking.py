"""Asks the source anew for a frame to be reprocessed, and judges whether the answer may replace what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from collectors.errors import NotSettledError, OversizedError, SourceError
from collectors.metrics_yml import Metric
from collectors.parts import CollectionDraft, encode_parts
from collectors.skipping import without_skipped
from collectors.source import Answer, PeriodSession, Source
from collectors.times import iso
from rater.model.codec import MSGPACK, decode_usage
from rater.model.errors import RejectedError
from rater.model.interval import Interval, subtract
from rater.model.metric import Catalog, Coverage
from rater.model.rated import MetricCoverage
from rater.model.usage import Collection
from rater.rework.brackets import bracket_of
from rater.rework.values import Bracket, Left, Material, Wanted

__all__ = ["Asking"]

SILENT_FRAMES = 5  # without an answer, one after the other: the rest is left, for each would wait for the timeout


class Asking:
    """The source, asked period by period. `make` is what `run_rework` calls for each frame."""

    def __init__(
        self,
        source: Source,
        name: str,
        metrics: Iterable[Metric],
        wanted: Wanted,
        catalog: Catalog,
        clock: Callable[[], float],
        *,
        accept_less: bool = False,
    ) -> None:
        """`name`: of the source in collections. `accept_less`: take answers that prove less than what is rated."""
        self._source = source
        self._name = name
        self._metrics = {metric.name: metric for metric in metrics}
        self._wanted = wanted
        self._catalog = catalog
        self._clock = clock
        self._accept_less = accept_less
        self._oldest: int | None = None
        self._silent = 0
        self._session: tuple[Interval, PeriodSession] | None = None

    async def make(self, material: Material) -> Bracket | Left:
        """What is sent for the frame: stored usage, and in place of what came from this source its answer now."""
        frame = material.frame
        period = Interval(frame.period_begin, frame.period_end)
        entries = [entry for entry in frame.coverage if self._is_asked(entry)]
        if not entries:
            return self._left(material, f"nothing of it comes from source {self._name!r} by collections: use rerate")
        if self._silent >= SILENT_FRAMES:
            return self._left(
                material,
                f"source {self._name!r} gave no whole answer to {SILENT_FRAMES} frames in a row: ask again later",
                may_pass=True,
            )
        try:
            if self._oldest is None:
                self._oldest = await self._source.oldest(int(self._clock()))
            if period.begin < self._oldest:
                return self._left(material, f"source {self._name!r} has nothing from before {iso(self._oldest)}")
            fresh: list[Collection] = []
            for entry in entries:
                metric, now = self._metrics[entry.metric], self._clock()
                answer = await self._session_of(period).collect(frame.scope_id, metric)
                answer = without_skipped(answer, metric, period.begin)
                less = _less(entry, answer)
                if less and not self._accept_less:
                    return self._left(material, f"metric {entry.metric!r}: {less}")
                fresh += _collections(material, self._name, metric, answer, self._wanted, now)
            self._silent = 0
        except SourceError as fault:
            self._silent += not isinstance(fault, NotSettledError)
            return self._left(material, f"source {self._name!r} gave no answer: {fault}", may_pass=True)
        except (OversizedError, RejectedError) as fault:
            return self._left(material, f"the answer of source {self._name!r} cannot be sent: {fault}")
        return bracket_of(material, self._wanted, self._catalog, fresh)

    def _is_asked(self, entry: MetricCoverage) -> bool:
        spec = self._catalog.get(entry.metric)
        pushed = spec is not None and spec.proof is Coverage.SAMPLES
        return entry.source == self._name and entry.metric in self._metrics and not pushed

    def _left(self, material: Material, reason: str, *, may_pass: bool = False) -> Left:
        return Left(*material.key, reason, may_pass)

    def _session_of(self, period: Interval) -> PeriodSession:
        """The session of the period; what it asks once per period is shared by scopes that follow each other."""
        if self._session is None or self._session[0] != period:
            self._session = period, self._source.session(period, int(self._clock()))
        return self._session[1]


def _less(entry: MetricCoverage, answer: Answer) -> str:
    """What the answer does not prove that is proven now; empty if it proves as much."""
    lost = subtract(entry.covered, answer.covers)
    if lost:
        seconds = sum(end - begin for begin, end in lost)
        why = f": {answer.note}" if answer.note else ""
        return f"the source now proves {seconds} s less than what is rated, from {iso(lost[0].begin)} on{why}"
    if entry.covered and entry.proof == "proven" and answer.proof == "weak":
        return "the source now proves it only weakly"
    return ""


def _collections(
    material: Material, name: str, metric: Metric, answer: Answer, wanted: Wanted, now: float
) -> list[Collection]:
    """The answer as a collection of the whole period, in parts. Raises OversizedError, RejectedError."""
    frame = material.frame
    draft = CollectionDraft(
        source=name,
        scope_id=frame.scope_id,
        metric=metric.name,
        begin=frame.period_begin,
        end=frame.period_end,
        attempt=int(now * 1000),
        unit=metric.unit,
        covers=answer.covers,
        proof=answer.proof,
        series=answer.series,
        samples=answer.samples,
        quarantined=answer.quarantined,
        note=answer.note,
    )
    identity = f"{wanted.rework_id}/{metric.name}/{frame.period_begin}"  # by which `answers_rework` knows it
    parts = [decode_usage(value, MSGPACK) for value in encode_parts(draft, identity, wanted.rework_id, 0)]
    return [msgspec.structs.replace(part, rework_id=wanted.rework_id) for part in parts if isinstance(part, Collection)]
