"""The collector as a service: asks for every period of every scope and metric that is not proven yet, oldest first.

It keeps nothing: what is proven is read back from what was published, so it can stop, crash or move at any time, and
replicas can take scopes over from each other. What stays open is asked again with growing pauses, until it is covered
or the source no longer has it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from itertools import groupby

import msgspec
from prometheus_client import CollectorRegistry

from collectors.bounded import run_all
from collectors.collector_metrics import CollectorMetrics
from collectors.errors import NotSettledError, OversizedError, SourceAwayError, SourceError
from collectors.history import History
from collectors.metrics_yml import Metric
from collectors.patience import Breaker, Patience, spread
from collectors.publisher import UsageLog
from collectors.roster import Roster
from collectors.seat import Seat, WholeSeat
from collectors.settings import CollectorSettings, EvidenceSettings
from collectors.silence import AlertLog, Silence
from collectors.skipping import without_skipped
from collectors.source import (
    Answer,
    CountingSource,
    PeriodSession,
    RecoveringSource,
    ScopeFetcher,
    SharingSession,
    Source,
)
from collectors.status import CollectorStatus
from collectors.switches import NoSwitches, Switches
from collectors.telling import Teller, Work
from collectors.times import iso
from rater.log_fields import about, of
from rater.model.interval import Interval, period_of, subtract
from rater.model.usage import ScopePlan
from rater.tracing import OFF, Span, Tracing

__all__ = ["Collector"]

log = logging.getLogger(__name__)

_FETCH_SECONDS = 300
_FIRST_LOOK_SECONDS = 7 * 86400  # for scopes that came and went while no collector was there, at most so far back
_OLDEST_SECONDS = 3600
_FIRST_ASK = 120  # seconds after the end of a period, where `completeness.settle` says nothing
_SILENT_MARGIN = 900
_TOLD_AT_ONCE = 64
_PERIODS_TOLD = 3  # of a source that is away, the failure is told of the latest periods only
_UNDER_WAY = 256  # questions that wait for the source and answers that wait for the broker; few of each take long


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
        *,
        seat: Seat | None = None,
        alerts: AlertLog | None = None,
        switches: NoSwitches | Switches | None = None,
        counts: CollectorMetrics | None = None,
        spread: Callable[[float], float] = spread,
        tracing: Tracing = OFF,
    ) -> None:
        """`history` is what this source has published so far, from `read_history`.

        Without `seat` every scope is its own, without `alerts` nobody is told of its silence. `spread` makes pauses
        differ.
        """
        self._settings = settings
        self._metrics = tuple(metrics)
        self._period = period_seconds
        self._source = source
        self._fetcher = fetcher
        self._usage = usage
        self._progress = history.progress
        self._clock = clock
        self._tracing = tracing
        self._seat = seat or WholeSeat()
        self._counts = counts or CollectorMetrics(CollectorRegistry(), settings.source_name)
        self._patience = Patience(clock, spread)
        self._teller = Teller(settings.source_name, usage, history.progress, self._patience, self._counts)
        self._counts.expect(metric.name for metric in self._metrics)
        expected = [metric.name for metric in self._metrics if self._is_expected(metric)]
        self._roster = Roster(settings.source_name, history.plans, expected, period_seconds, settings.gone_after)
        self._alerts = alerts
        self._is_off = (switches or NoSwitches()).is_off
        self._silent_after = settings.silent_after or period_seconds + _SILENT_MARGIN
        self._silence = Silence(settings.source_name, self._silent_after, period_seconds, clock())
        self._room = asyncio.Semaphore(settings.concurrency)
        self._fetch_at = self._ask_oldest_at = 0.0
        self._failing: set[str] = set()
        self._oldest = 0
        self.status = CollectorStatus(reached=history.progress.reached)

    def _is_expected(self, metric: Metric) -> bool:
        return self._settings.completeness.metrics.get(metric.name, EvidenceSettings()).expected

    def take_over(self, gained: History) -> None:
        """The seat holds other scopes than before: `gained` is what is known of those that are new to it."""
        holds = self._seat.holds
        self._progress.forget(holds)
        self._progress.add(gained.progress)
        self._roster.plans.forget(holds)
        self._roster.plans.add(gained.plans)
        self._roster.moved(holds)
        self._patience.forget(lambda key: holds(key[0]))
        self._fetch_at = 0.0

    async def round(self) -> None:
        """Learn of scopes, then ask for all that is due. Raises PublishError; a source's failure is only noted."""
        fault = ""
        try:
            if self._patience.is_away():
                fault = self.status.fault
            else:
                await self._learn(int(self._clock()))
                self._patience.there()
                if isinstance(self._source, RecoveringSource) and self._source.has_recovered():
                    self._patience.answers()
                recalled = self._patience.recall()
                if recalled:
                    log.info("the source answers again: %d open periods are asked at once", recalled)
                await self._ask_all(self._due(self._clock()))
                self._patience.all_well()
        except SourceAwayError as away:
            pause = self._patience.away(away)
            fault = str(away)
            log.warning("asked again in %.0f s: %s", pause, away, extra=of(source=self._settings.source_name))
        except SourceError as failure:
            fault = str(failure)
            log.warning("%s", failure, extra=of(source=self._settings.source_name))
        self._note_status(fault)
        await self._tell_silence()
        self._note_silence()

    # --- scopes

    async def _learn(self, now: int) -> None:
        """Which scopes there are, and how far back the source reaches. Raises SourceError."""
        if now >= self._ask_oldest_at:
            self._oldest = await self._source.oldest(now)
            self._ask_oldest_at = now + _OLDEST_SECONDS
        if now < self._fetch_at:
            return
        self._fetch_at = now + _FETCH_SECONDS
        turn = self._seat.turn
        try:
            since = self._roster.fetched_at or max(self._first_begin(now), now - _FIRST_LOOK_SECONDS)
            named = await self._fetcher.fetch(now, min(since, now))
        except SourceError as failure:
            if not self._roster.scopes():
                raise
            told = of(source=self._settings.source_name)
            log.warning("scopes could not be fetched, those known are kept: %s", failure, extra=told)
            return
        if not named:
            told = of(source=self._settings.source_name)
            log.warning("the fetcher names no scope at all: those known are kept", extra=told)
        plans = self._roster.due(named, now, self._first_begin(now), self._seat.holds)
        await run_all((partial(self._plan, plan, now) for plan in plans), _TOLD_AT_ONCE)
        if self._seat.turn == turn:  # else not all of them were ours to plan
            self._roster.fetched(now)

    async def _plan(self, plan: ScopePlan, now: int) -> None:
        """Publishes what is expected of a scope. Raises PublishError."""
        if self._seat.holds(plan.scope_id):
            await self._usage.plan(plan)
            self._roster.note(plan, now)

    def _first_begin(self, now: int) -> int:
        """From when on a new scope is expected: since this collector was last up, else `since`, else this period."""
        present = period_of(now, self._period).begin
        if self._progress.reached:
            return min(present, period_of(self._progress.reached, self._period).begin)
        return period_of(self._settings.since_instant, self._period).begin if self._settings.since else present

    # --- what to ask

    def _due(self, now: float) -> list[Work]:
        """What is not proven and may be asked now: oldest period first, and what was asked in vain after the rest."""
        return sorted(
            (work for work in self._open(now) if self._patience.is_due(work.key)),
            key=lambda work: (work.period.begin, work.metric.name, self._patience.times(work.key), work.scope_id),
        )

    def _open(self, now: float) -> Iterator[Work]:
        """Every period that is over, still held by the source, expected, ours, and not proven whole."""
        begin, end = self._askable(now)
        if begin >= end:
            return
        for scope_id in filter(self._seat.holds, self._roster.scopes()):
            for stretch in self._roster.active(scope_id, Interval(begin, end)):
                span = Interval(
                    period_of(stretch.begin, self._period).begin, period_of(stretch.end - 1, self._period).end
                )
                for metric in self._metrics:
                    if metric.name in stretch.metrics or not self._is_expected(metric):
                        for period in self._progress.missing(scope_id, metric.name, span):
                            if not self._is_off(scope_id, period.begin):
                                yield Work(period, metric, scope_id)

    def _askable(self, now: float) -> Interval:
        """The periods that are over and that the source still holds; the end may lie before the begin."""
        first_ask = self._settings.completeness.settle
        latest = int(now) - (first_ask if first_ask is not None else _FIRST_ASK)
        end = period_of(latest, self._period).begin if latest > 0 else 0
        return Interval(-(-self._oldest // self._period) * self._period, end)

    async def _ask_all(self, due: list[Work]) -> None:
        """Asks for all of it, one period after the other, until scopes are to be fetched again or move.

        Raises SourceAwayError, PublishError.
        """
        turn = self._seat.turn
        for _, works in groupby(due, key=lambda work: work.period):
            todo = list(works)
            now = self._clock()
            if now >= self._fetch_at or self._seat.turn != turn:
                break  # a long backlog must not keep new scopes from being seen; the next round goes on from here
            try:
                async with self._session(todo, int(now)) as session:
                    # a session that shares questions bounds them itself: who waits for the same one takes no place
                    place = nullcontext() if isinstance(session, SharingSession) else self._room
                    ask = partial(self._ask_traced, session, place, Breaker())
                    await run_all((partial(ask, work) for work in todo), _UNDER_WAY)
            except SourceAwayError as away:
                await self._tell(due, todo, str(away))
                raise

    @asynccontextmanager
    async def _session(self, todo: list[Work], now: int) -> AsyncIterator[PeriodSession]:
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

    async def _ask_traced(
        self, session: PeriodSession, place: AbstractAsyncContextManager[object], breaker: Breaker, work: Work
    ) -> None:
        """As `_ask`, which begins a trace. Scopes share questions, so lines of the source name none."""
        source, name = self._settings.source_name, work.metric.name
        with (
            about(source=source, metric=name, period_begin=work.period.begin),
            self._tracing.span(
                "collect",
                parent="",
                rater__scope_id=work.scope_id,
                rater__metric=name,
                rater__source=source,
                rater__period_begin=iso(work.period.begin),
            ) as span,
        ):
            await self._ask(session, place, breaker, work, span)

    async def _ask(
        self,
        session: PeriodSession,
        place: AbstractAsyncContextManager[object],
        breaker: Breaker,
        work: Work,
        span: Span,
    ) -> None:
        """Asks, and publishes the answer or why there is none. Raises SourceAwayError, PublishError."""
        name = work.metric.name
        try:
            async with place:
                if breaker.is_off or not self._seat.holds(work.scope_id):
                    return
                given_up = breaker.gives_up(name)
                if given_up:
                    self._patience.spare(work.key)
                    await self._teller.fail(work, given_up)
                    return
                started = self._clock()
                answer = await self._collect(session, breaker, work)
            await self._answered(work, answer, started)
        except NotSettledError as early:
            self._counts.failed(name, "unsettled")
            self._patience.soon(work.key, started)
            span.note(rater__outcome="unsettled")
            log.debug("asked too early: %s", early, extra=of(scope_id=work.scope_id))
        except SourceAwayError:
            raise
        except (SourceError, OversizedError) as failure:
            self._counts.failed(name, "oversized" if isinstance(failure, OversizedError) else "failed")
            breaker.failed(name, str(failure))
            span.fail(type(failure).__name__)
            self._failing.add(name)
            await self._teller.fail(work, str(failure))
            self._patience.later(work.key)

    async def _collect(self, session: PeriodSession, breaker: Breaker, work: Work) -> Answer:
        """Asks. Raises SourceError."""
        if self._patience.times(work.key):
            self._counts.retried(work.metric.name)
        try:
            with self._tracing.span("fetch", "client"):
                answer = await session.collect(work.scope_id, work.metric)
        except SourceAwayError:
            breaker.is_off = True  # those who wait for their turn may have it before they are cancelled
            self._counts.failed(work.metric.name, "away")
            raise
        breaker.answered(work.metric.name)
        return answer

    async def _answered(self, work: Work, answer: Answer, started: float) -> None:
        """Publishes an answer, unless the scope has gone to another replica meanwhile. Raises PublishError."""
        answer = without_skipped(answer, work.metric, work.period.begin)
        self._counts.answered(work.metric.name, len(answer.samples))
        if not self._seat.holds(work.scope_id):
            return
        await self._teller.publish(work, answer, int(started * 1000))
        if answer.covers:
            self._silence.heard(self._clock())
        if answer.covers and work.metric.name in self._failing:
            self._failing.discard(work.metric.name)
            self._patience.answers()
        if subtract([work.period], answer.covers):
            self._patience.later(work.key)
        else:
            self._patience.done(work.key)

    async def _tell(self, due: list[Work], tried: list[Work], reason: str) -> None:
        """A source is away: its reason belongs beside the gaps of the latest periods, and of the one just tried."""
        latest = sorted({work.period.begin for work in due})[-_PERIODS_TOLD:]
        told = [work for work in due if work.period.begin in latest or work.period == tried[0].period]
        await run_all((partial(self._teller.fail, work, reason) for work in told), _TOLD_AT_ONCE)

    # --- how it does

    async def _tell_silence(self) -> None:
        """The source is silent, or back. Raises PublishError."""
        now = self._clock()
        latest = now - self._silent_after - self._period  # an old gap that nobody can fill makes no silence
        waiting = sum(work.period.end > latest for work in self._open(now))
        alert = self._silence.look(now, waiting, self._progress.proven_until, self.status.fault)
        if alert is not None and self._alerts is not None:
            log.warning("%s", alert.reason, extra=of(source=self._settings.source_name))
            await self._alerts.alert(alert)
            self._silence.told(alert)

    def _note_status(self, fault: str) -> None:
        now = self._clock()
        oldest: dict[str, int] = {}
        count = 0
        for work in self._open(now):
            count += 1
            oldest[work.metric.name] = min(work.period.begin, oldest.get(work.metric.name, work.period.begin))
        end = self._askable(now).end
        complete = {metric.name: oldest.get(metric.name, end) for metric in self._metrics}
        self.status = CollectorStatus(
            scopes=len(list(filter(self._seat.holds, self._roster.scopes()))),
            published=self._teller.published,
            failed=self._teller.failed,
            skipped=self._teller.skipped,
            queries=self._source.queries if isinstance(self._source, CountingSource) else 0,
            open_periods=count,
            oldest_open=min(oldest.values(), default=0),
            reached=self._progress.reached,
            complete_until=complete,
            behind={name: int(now) - until for name, until in complete.items()},
            silent=self._silence.is_told,
            ended_at=int(now),
            fault=fault,
        )
        self._counts.told(self.status)

    def _note_silence(self) -> None:
        self.status = msgspec.structs.replace(self.status, silent=self._silence.is_told)
        self._counts.told(self.status)
