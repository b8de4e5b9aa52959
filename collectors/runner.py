"""The collector as a service: asks for every period of every scope and metric that is not proven yet, oldest first.

It keeps nothing: what is proven is read back from what it published, so it can stop, crash or move at any time. What
stays open is asked again with growing pauses, until it is covered or the source no longer has it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import groupby
from typing import NamedTuple

import msgspec

from collectors.bounded import run_all
from collectors.errors import NotSettledError, OversizedError, SourceAwayError, SourceError
from collectors.history import History
from collectors.metrics_yml import Metric
from collectors.parts import CollectionDraft
from collectors.publisher import UsageLog
from collectors.roster import Roster
from collectors.settings import CollectorSettings, EvidenceSettings
from collectors.skipping import without_skipped
from collectors.source import Answer, PeriodSession, ScopeFetcher, SharingSession, Source
from collectors.times import iso
from rater.model.interval import Interval, period_of, seconds, subtract
from rater.model.usage import CollectionFailed

__all__ = ["Collector", "CollectorStatus"]

log = logging.getLogger(__name__)

_FETCH_SECONDS = 300
_FIRST_LOOK_SECONDS = 7 * 86400  # for scopes that came and went while no collector was there, at most so far back
_OLDEST_SECONDS = 3600
_FIRST_ASK = 120  # seconds after the end of a period, where `completeness.settle` says nothing
_SOON = 30
_FIRST_PAUSE, _LONGEST_PAUSE = 60, 6 * 3600
_AWAY_PAUSE = (5, 10, 20, 40, 60)
_RECALL_SECONDS = 300  # between two times that pauses are cut short: a source that comes and goes is not overrun
_RECALL_MOST = 10_000  # open periods at a time, the oldest; the others keep their pauses
_TOLD_AT_ONCE = 64
_PERIODS_TOLD = 3  # of a source that is away, the failure is told of the latest periods only


class CollectorStatus(msgspec.Struct, frozen=True):
    """What a health endpoint may want to know. Times in seconds since the epoch."""

    scopes: int = 0
    published: int = 0
    failed: int = 0
    skipped: int = 0
    """Points that a `skip_datapoints_expression` left out of what was published."""
    open_periods: int = 0
    """Periods of a scope and metric that are not proven whole."""
    oldest_open: int = 0
    reached: int = 0
    fault: str = ""
    """Why the last round did not come to its end; empty if it did."""


class _Work(NamedTuple):
    """One thing to ask."""

    period: Interval
    metric: Metric
    scope_id: str

    @property
    def key(self) -> tuple[str, str, int]:
        return self.scope_id, self.metric.name, self.period.begin


class _Attempts(msgspec.Struct):
    """How often something was asked in vain, and when to ask again."""

    count: int = 0
    again_at: float = 0.0
    reason: str = ""


class Collector:
    """One source and its scopes. `round` does what is due now."""

    def __init__(
        self,
        settings: CollectorSettings,
        metrics: Iterable[Metric],
        period_seconds: int,
        source: Source,
        fetcher: ScopeFetcher,
        usage: UsageLog,
        history: History,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`history` is what this source has published so far, from `read_history`."""
        self.status = CollectorStatus(reached=history.progress.reached)
        self._settings = settings
        self._name = settings.source_name
        self._metrics = tuple(metrics)
        self._period = period_seconds
        self._source = source
        self._fetcher = fetcher
        self._usage = usage
        self._progress = history.progress
        expected = [metric.name for metric in self._metrics if self._is_expected(metric)]
        self._roster = Roster(self._name, history.plans, expected, period_seconds, settings.gone_after)
        self._clock = clock
        self._attempts: dict[tuple[str, str, int], _Attempts] = {}
        self._fetch_at = self._ask_oldest_at = self._away_until = 0.0
        self._times_away = 0
        self._failing: set[str] = set()
        self._is_back = False
        self._recalled_at = -_RECALL_SECONDS * 1.0
        self._oldest = 0
        self._published = self._failed = self._skipped = 0

    def _is_expected(self, metric: Metric) -> bool:
        return self._settings.completeness.metrics.get(metric.name, EvidenceSettings()).expected

    async def round(self) -> None:
        """Learn of scopes, then ask for all that is due. Raises PublishError; a source's failure is only noted."""
        fault = ""
        try:
            now = self._clock()
            if now >= self._away_until:
                await self._learn(int(now))
                self._is_back = self._is_back or self._times_away > 0
                self._recall(now)
                await self._ask_all(self._due(now))
                self._times_away = 0
            else:
                fault = self.status.fault
        except SourceAwayError as away:
            pause = _AWAY_PAUSE[min(self._times_away, len(_AWAY_PAUSE) - 1)]
            self._times_away += 1
            self._away_until = self._clock() + pause
            fault = str(away)
            log.warning("asked again in %s s: %s", pause, away)
        except SourceError as failure:
            fault = str(failure)
            log.warning("%s", failure)
        self._note_status(fault)

    # --- scopes

    async def _learn(self, now: int) -> None:
        """Which scopes there are, and how far back the source reaches. Raises SourceError."""
        if now >= self._ask_oldest_at:
            self._oldest = await self._source.oldest(now)
            self._ask_oldest_at = now + _OLDEST_SECONDS
        if now < self._fetch_at:
            return
        self._fetch_at = now + _FETCH_SECONDS
        try:
            since = self._roster.fetched_at or max(self._first_begin(now), now - _FIRST_LOOK_SECONDS)
            named = await self._fetcher.fetch(now, min(since, now))
        except SourceError as failure:
            if not self._roster.scopes():
                raise
            log.warning("scopes could not be fetched, those known are kept: %s", failure)
            return
        if not named:
            log.warning("the fetcher names no scope at all: those known are kept")
        for plan in self._roster.due(named, now, self._first_begin(now)):
            await self._usage.plan(plan)
            self._roster.note(plan, now)
        self._roster.fetched(now)

    def _first_begin(self, now: int) -> int:
        """From when on a new scope is expected: since this collector was last up, else `since`, else this period."""
        present = period_of(now, self._period).begin
        if self._progress.reached:
            return min(present, period_of(self._progress.reached, self._period).begin)
        return period_of(self._settings.since_instant, self._period).begin if self._settings.since else present

    # --- what to ask

    def _due(self, now: float) -> list[_Work]:
        """What is not proven and may be asked now, oldest period first."""
        found = [
            work
            for work in self._open(now)
            if work.key not in self._attempts or self._attempts[work.key].again_at <= now
        ]
        return sorted(found, key=lambda work: (work.period.begin, work.metric.name, work.scope_id))

    def _recall(self, now: float) -> None:
        """A source that failed answers again: what was asked in vain meanwhile is due at once, the oldest first."""
        if not self._is_back or now - self._recalled_at < _RECALL_SECONDS:
            return
        self._is_back, self._recalled_at = False, now
        paused = [(key, attempts) for key, attempts in self._attempts.items() if attempts.again_at > now]
        paused.sort(key=lambda item: item[0][2])
        for _, attempts in paused[:_RECALL_MOST]:
            attempts.again_at = now
        if paused:
            log.info("the source answers again: %d open periods are asked at once", min(len(paused), _RECALL_MOST))

    def _open(self, now: float) -> Iterator[_Work]:
        """Every period that is over, still held by the source, expected, and not proven whole."""
        first_ask = self._settings.completeness.settle
        latest = int(now) - (first_ask if first_ask is not None else _FIRST_ASK)
        end = period_of(latest, self._period).begin if latest > 0 else 0
        begin = -(-self._oldest // self._period) * self._period
        if begin >= end:
            return
        for scope_id in self._roster.scopes():
            for stretch in self._roster.active(scope_id, Interval(begin, end)):
                span = Interval(
                    period_of(stretch.begin, self._period).begin, period_of(stretch.end - 1, self._period).end
                )
                for metric in self._metrics:
                    if metric.name in stretch.metrics or not self._is_expected(metric):
                        for period in self._progress.missing(scope_id, metric.name, span):
                            yield _Work(period, metric, scope_id)

    async def _ask_all(self, due: list[_Work]) -> None:
        """Asks for all of it, one period after the other, until scopes are to be fetched again.

        Raises SourceAwayError, PublishError.
        """
        for _, works in groupby(due, key=lambda work: work.period):
            todo = list(works)
            now = self._clock()
            if now >= self._fetch_at:
                break  # a long backlog must not keep new scopes from being seen; the next round goes on from here
            try:
                async with self._session(todo, int(now)) as session:
                    await run_all((partial(self._ask, session, work) for work in todo), self._settings.concurrency)
            except SourceAwayError as away:
                await self._tell(due, todo, str(away))
                raise

    @asynccontextmanager
    async def _session(self, todo: list[_Work], now: int) -> AsyncIterator[PeriodSession]:
        """A session for what is to be asked of one period."""
        session = self._source.session(todo[0].period, now)
        if not isinstance(session, SharingSession):
            yield session
            return
        asked: dict[str, list[str]] = {}
        for work in todo:
            asked.setdefault(work.metric.internal_key, []).append(work.scope_id)
        session.expect(asked)
        try:
            yield session
        finally:
            await session.close()

    async def _ask(self, session: PeriodSession, work: _Work) -> None:
        started = self._clock()
        attempts = self._attempts.setdefault(work.key, _Attempts())
        try:
            answer = await session.collect(work.scope_id, work.metric)
            answer = without_skipped(answer, work.metric, work.period.begin)
            await self._publish(work, answer, int(started * 1000))
        except NotSettledError as early:
            attempts.again_at = started + _SOON
            log.debug("%s %s %s: %s", work.scope_id, work.metric.name, iso(work.period.begin), early)
            return
        except SourceAwayError:
            raise
        except (SourceError, OversizedError) as failure:
            self._failing.add(work.metric.name)
            await self._fail(work, str(failure))
            self._pause(attempts)
            return
        if answer.covers and work.metric.name in self._failing:
            self._failing.discard(work.metric.name)
            self._is_back = True
        if subtract([work.period], answer.covers):
            self._pause(attempts)
        else:
            self._attempts.pop(work.key, None)

    def _pause(self, attempts: _Attempts) -> None:
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(attempts.count, 20))
        attempts.count += 1
        attempts.again_at = self._clock() + pause

    # --- what to say

    async def _publish(self, work: _Work, answer: Answer, attempt: int) -> None:
        """Says what is new: an answer that proves no more than the last one would only repeat it."""
        missing = subtract([work.period], answer.covers)
        if missing:
            await self._fail(work, answer.note, Interval(missing[0].begin, missing[-1].end))
        known = self._progress.covered(work.scope_id, work.metric.name, work.period)
        says = bool(answer.covers or answer.samples or answer.quarantined or answer.skipped)
        is_first = not self._progress.is_known(work.scope_id, work.metric.name, work.period)
        if not (seconds(answer.covers) > seconds(known) or (is_first and says)):
            return
        draft = CollectionDraft(
            source=self._name,
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
        self._published += 1
        self._skipped += answer.skipped

    async def _fail(self, work: _Work, reason: str, span: Interval | None = None) -> None:
        """Publishes why there is no answer, or not a whole one; the same reason once."""
        attempts = self._attempts.setdefault(work.key, _Attempts())
        if attempts.reason == reason:
            return
        begin, end = span or work.period
        await self._usage.failed(
            CollectionFailed(self._name, work.scope_id, work.metric.name, begin, end, reason[:2000])
        )
        attempts.reason = reason
        self._failed += 1

    async def _tell(self, due: list[_Work], tried: list[_Work], reason: str) -> None:
        """A source is away: its reason belongs beside the gaps of the latest periods, and of the one just tried."""
        latest = sorted({work.period.begin for work in due})[-_PERIODS_TOLD:]
        told = [work for work in due if work.period.begin in latest or work.period == tried[0].period]
        await run_all((partial(self._fail, work, reason) for work in told), _TOLD_AT_ONCE)

    def _note_status(self, fault: str) -> None:
        begins = [work.period.begin for work in self._open(self._clock())]
        self.status = CollectorStatus(
            scopes=len(self._roster.scopes()),
            published=self._published,
            failed=self._failed,
            skipped=self._skipped,
            open_periods=len(begins),
            oldest_open=min(begins, default=0),
            reached=self._progress.reached,
            fault=fault,
        )
