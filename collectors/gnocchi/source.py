"""The source Gnocchi: CloudKitty's questions for many scopes at once, and proof of who was measured when."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from math import isinf

from collectors.bounded import remembered
from collectors.checking import Advance, Judge, SourceFacts, start_remarks
from collectors.errors import SettingsError
from collectors.gnocchi.api import GnocchiApi
from collectors.gnocchi.args import GnocchiArgs, read_extra_args
from collectors.gnocchi.check import examine, kept_for
from collectors.gnocchi.evidence import Book, GnocchiEvidence
from collectors.gnocchi.items import Item, Key, Reading
from collectors.gnocchi.judgement import Judged
from collectors.gnocchi.labels import Metadata
from collectors.gnocchi.lost import Lost
from collectors.gnocchi.usage import Plan, Usage
from collectors.metrics_yml import Metric
from collectors.quantity import GNOCCHI, QuantityError, quantity
from collectors.settings import CollectorSettings
from collectors.source import Answer, PeriodSession, Source, SourceContext
from rater.model.document import Node, Problems
from rater.model.interval import Interval
from rater.model.labels import Labels
from rater.model.usage import QuarantinedItem, Sample, Series

__all__ = ["Factory", "GnocchiSource"]


class GnocchiSource:
    """One Gnocchi."""

    def __init__(self, context: SourceContext) -> None:
        """Raises SettingsError if a setting is missing, a file cannot be used, or a metric cannot be billed so."""
        self._settings = context.settings
        self._metrics = context.metrics
        self._period = context.period_seconds
        self._refuse()
        self.api = GnocchiApi(context.settings.gnocchi, context.settings.concurrency)
        self._book = Book(self.api)

    def _refuse(self) -> None:
        unknown = sorted(set(self._settings.gnocchi.combine) - {metric.name for metric in self._metrics})
        faults = [f"collect.gnocchi.combine names {name!r}, which is no public name of a metric" for name in unknown]
        faults += [
            f"metric {metric.name!r}: use_all_resource_revisions false needs revision_start in groupby, which tells "
            "the latest revision"
            for metric in self._metrics
            if self._lacks_revision(metric)
        ]
        if faults:
            raise SettingsError("\n".join(faults))

    def _lacks_revision(self, metric: Metric) -> bool:
        args = metric.extra_args
        assert isinstance(args, GnocchiArgs), "metrics.yml was read for Gnocchi"
        names = (*metric.grouped_by(self._settings.scope_key), args.resource_key)
        return not args.use_all_resource_revisions and "id" in names and "revision_start" not in names

    async def close(self) -> None:
        """Close the connections."""
        await self.api.close()

    async def check(self, now: int, reach_seconds: int) -> list[str]:
        """Whether what is billed is there, in archive policies that fit, and is kept.

        Returns remarks. Raises UnfitSourceError with everything that is wrong, SourceError if it cannot be asked.
        """
        facts = await self.examine(now, reach_seconds, lambda _done, _total: None, deep=False)
        return start_remarks(Judge(self._settings, self._metrics, self._period).findings(facts))

    async def examine(self, now: int, reach_seconds: int, advance: Advance, *, deep: bool) -> SourceFacts:
        """What Gnocchi says of itself and of each metric. An `ExaminedSource`."""
        return await examine(
            self.api, self._book, self._settings, self._metrics, self._period, now, reach_seconds, advance
        )

    async def oldest(self, now: int) -> int:
        """The instant from which on some archive policy keeps what a metric needs; 0 if that has no end."""
        kept = kept_for((await self.api.policies()).values(), self._metrics)
        return max(0, now - int(kept)) if kept and not isinf(kept) else 0

    def session(self, period: Interval, now: int) -> PeriodSession:
        """A session for a period that is over."""
        return _Session(self.api, self._book, self._settings, period, now)


class _Session:
    """One period; evidence is asked for once per metric, usage once for many scopes. A `SharingSession`."""

    def __init__(self, api: GnocchiApi, book: Book, settings: CollectorSettings, period: Interval, now: int) -> None:
        self._api = api
        self._book = book
        self._settings = settings
        self._period = period
        self._evidence = GnocchiEvidence(api, book, settings, period, now)
        self._usage = Usage(api, settings, self._evidence, book, period, {})
        self._metadata: dict[str, asyncio.Future[Metadata]] = {}
        self._lost: dict[str, Lost] = {}

    def expect(self, asked: Mapping[str, Sequence[str]]) -> None:
        """Which scopes will be asked for."""
        self._usage = Usage(self._api, self._settings, self._evidence, self._book, self._period, asked)

    async def close(self) -> None:
        """Nothing more is asked."""
        await self._usage.close()

    async def collect(self, scope_id: str, metric: Metric) -> Answer:
        """What the scope used, and what of the period that proves. Raises SourceError."""
        judged = await self._evidence.settled(metric, scope_id)
        verdict = judged.of(scope_id)
        plan = await self._usage.plan(metric, judged)
        items = await self._usage.items(scope_id, metric, judged)
        metadata = await self._metadata_of(metric, plan.reading)
        lost = self._lost_of(metric, judged, plan).of(scope_id, items)
        series, samples, quarantined = self._read(scope_id, metric, items, lost, plan.reading, metadata)
        note = "; ".join(filter(None, [plan.remark(scope_id), verdict.note]))[:2000]
        return Answer(verdict.covers, verdict.proof, series, samples, quarantined, note)

    def _lost_of(self, metric: Metric, judged: Judged, plan: Plan) -> Lost:
        """What has to have values; made once for all scopes."""
        key = metric.internal_key
        if key not in self._lost:
            self._lost[key] = Lost(judged, plan.args, plan.reading, self._settings.scope_key)
        return self._lost[key]

    async def _metadata_of(self, metric: Metric, reading: Reading) -> Metadata:
        """Where the metadata of a metric come from; made once for all scopes."""
        future = self._metadata.get(metric.internal_key)
        if future is None:
            future = self._metadata[metric.internal_key] = remembered(self._gather(metric, reading))
        return await asyncio.shield(future)

    async def _gather(self, metric: Metric, reading: Reading) -> Metadata:
        args = metric.extra_args
        assert isinstance(args, GnocchiArgs), "metrics.yml was read for Gnocchi"
        scope_key = self._settings.scope_key
        if not metric.metadata:
            return Metadata((), [], reading, scope_key, args.resource_key)
        living = await self._evidence.resources(args.resource_type)
        current = await self._evidence.current(args.resource_type) if self._settings.numbers == "cloudkitty" else []
        return Metadata(metric.metadata, living, reading, scope_key, args.resource_key, current)

    def _read(
        self, scope_id: str, metric: Metric, items: Sequence[Item], lost: Mapping[Key, str], reading: Reading,
        metadata: Metadata,
    ) -> tuple[list[Series], list[Sample], list[QuarantinedItem]]:  # fmt: skip
        """Series and samples; what has no number, or not all of its numbers, is put aside."""
        series: list[Series] = []
        samples: list[Sample] = []
        quarantined: list[QuarantinedItem] = []
        for item in items:
            groupby, more = self._labels(item.key, scope_id, reading, metadata)
            try:
                qty = quantity(item.raw, metric, self._settings.numbers, GNOCCHI)
            except QuantityError as fault:
                quarantined.append(QuarantinedItem(str(item.raw)[:2000], f"its value {fault}", groupby, more))
                continue
            if item.key in lost:
                quarantined.append(QuarantinedItem(str(item.raw)[:2000], lost[item.key], groupby, more))
                continue
            samples.append(Sample(len(series), self._period.begin, self._period.end, qty))
            series.append(Series(groupby, more))
        answered = {item.key for item in items}
        for key in sorted(lost.keys() - answered, key=str):
            groupby, more = self._labels(key, scope_id, reading, metadata)
            quarantined.append(QuarantinedItem("NaN", lost[key], groupby, more))
        return series, samples, quarantined

    def _labels(self, key: Key, scope_id: str, reading: Reading, metadata: Metadata) -> tuple[Labels, Labels]:
        groupby: Labels = dict(zip(reading.names, key, strict=True))
        groupby[self._settings.scope_key] = scope_id
        return groupby, metadata.of(key, scope_id)


class Factory:
    """The entry point `gnocchi` of group `rater.sources`."""

    @staticmethod
    def read_extra_args(problems: Problems, node: Node | None) -> object:
        """The `extra_args` of a metric."""
        return read_extra_args(problems, node)

    @staticmethod
    def build(context: SourceContext) -> Source:
        """The source. Raises SettingsError."""
        return GnocchiSource(context)
