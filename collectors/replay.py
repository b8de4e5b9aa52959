"""Replays usage files into topic `usage`: the samples of a file, what it covers, and what is expected by it.

The file may be in any order. It is read once, its samples are grouped by scope, metric and period within bounded
memory, and only when all of it was read is anything published: a damaged file leaves no trace.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import groupby
from typing import Literal

import msgspec

from collectors.bounded import run_all
from collectors.claims import Claims, pieces
from collectors.errors import ReplayError
from collectors.history import read_history
from collectors.intake import Intake, LineFault
from collectors.parts import CollectionDraft
from collectors.plans import PlanBook
from collectors.publisher import Publisher, UsageLog
from collectors.spool import Group, Key, Spool
from rater.kafka import KafkaSettings
from rater.model.interval import Interval, clip, periods_of, union
from rater.model.labels import series_labels
from rater.model.metric import Catalog
from rater.model.usage import Sample, Series

__all__ = ["LineFault", "ReplayOptions", "ReplayProgress", "ReplayReport", "replay", "replay_file"]

_PLANNED_SECONDS = 86_400  # what is planned at once
_AT_ONCE = 64  # collections that wait for the broker at the same time
_LINES_PER_STEP = 2000  # between two of them the event loop gets a turn

Watcher = Callable[["ReplayProgress"], None]


class ReplayOptions(msgspec.Struct, frozen=True):
    """How a file is replayed."""

    period_seconds: int = 3600
    source: str = "replay"
    covers: tuple[Interval, ...] = ()
    """`--covers`: what the file covers for all scopes and metrics it names, besides its covers lines."""
    attempt: int | None = None
    """Milliseconds since the epoch; default: now. A later attempt replaces what an earlier one said of the same."""
    memory_samples: int = 300_000


class ReplayProgress(msgspec.Struct, frozen=True):
    """How far a replay is: bytes of the file while reading, samples while publishing. `total` 0: unknown."""

    stage: Literal["reading", "publishing"]
    done: int
    total: int


class ReplayReport(msgspec.Struct, frozen=True):
    """What a replay did. Times in seconds since the epoch."""

    source: str
    attempt: int
    begin: int
    end: int
    scopes: tuple[str, ...]
    metrics: tuple[str, ...]
    samples: int
    collections: int
    rejected: int
    faults: tuple[LineFault, ...]
    """The first hundred refused lines; all of them lie in topic `rejected`."""


async def replay_file(
    path: str,
    kafka: KafkaSettings,
    options: ReplayOptions,
    catalog: Catalog | None = None,
    watcher: Watcher | None = None,
) -> ReplayReport:
    """Replay a file (`-`: standard input). With a catalog, lines of other metrics or units are refused.

    What earlier replays of this source planned is read back first, so that a file of one missing window adds to it.
    Raises ReplayError for a file that cannot be read as a whole, PublishError if Kafka cannot be used.
    """
    async with Publisher(kafka) as publisher:
        history = await read_history(kafka, options.source, options.period_seconds)
        return await replay(path, publisher, history.plans, options, catalog, watcher)


async def replay(
    path: str,
    log: UsageLog,
    plans: PlanBook,
    options: ReplayOptions,
    catalog: Catalog | None = None,
    watcher: Watcher | None = None,
) -> ReplayReport:
    """As `replay_file`, with the log to write to and the plans that are known."""
    attempt = options.attempt if options.attempt is not None else time.time_ns() // 1_000_000
    with ExitStack() as stack:
        try:
            spool = stack.enter_context(Spool(options.period_seconds, options.memory_samples))
            intake = stack.enter_context(Intake(path, spool, Claims(options.covers), options.source, catalog))
            await _read(intake, watcher)
        except OSError as fault:
            raise ReplayError(f"samples of {path} could not be put aside: {fault}. Nothing was published") from fault
        span = intake.span(options.period_seconds)
        collections = await _publish(intake, log, plans, options, attempt, watcher)
        await run_all(
            (partial(log.reject, refusal.raw, refusal.headers(path)) for refusal in intake.refusals()), _AT_ONCE
        )
        return ReplayReport(
            source=options.source,
            attempt=attempt,
            begin=span.begin,
            end=span.end,
            scopes=tuple(sorted(intake.scopes)),
            metrics=tuple(sorted(intake.units)),
            samples=intake.samples,
            collections=collections,
            rejected=intake.refused,
            faults=tuple(intake.faults),
        )


async def _read(intake: Intake, watcher: Watcher | None) -> None:
    for done, total in intake.read(_LINES_PER_STEP):
        if watcher:
            watcher(ReplayProgress("reading", done, total))
        await asyncio.sleep(0)


async def _publish(
    intake: Intake, log: UsageLog, plans: PlanBook, options: ReplayOptions, attempt: int, watcher: Watcher | None
) -> int:
    """Publishes every collection; returns how many.

    Each day is planned just before its collections: a frame that is planned and still empty closes as missing after
    `engine.settle`, and a long file takes longer than that.
    """
    samples = collections = 0

    async def deliver(draft: CollectionDraft) -> None:
        nonlocal samples
        await log.publish(draft)
        samples += len(draft.samples)
        if watcher:
            watcher(ReplayProgress("publishing", samples, intake.samples))

    span = intake.span(options.period_seconds)
    planned = span.begin
    for day, of_day in groupby(drafts(intake, options, attempt), lambda draft: draft.begin // _PLANNED_SECONDS):
        planned = await _plan(intake, log, plans, options, Interval(planned, (day + 1) * _PLANNED_SECONDS))
        collections += await run_all((partial(deliver, draft) for draft in of_day), _AT_ONCE)
    await _plan(intake, log, plans, options, Interval(planned, span.end))
    return collections


async def _plan(intake: Intake, log: UsageLog, plans: PlanBook, options: ReplayOptions, stretch: Interval) -> int:
    """Plans all scopes and metrics of the file for a stretch of its span; returns where the stretch ends."""
    end = min(stretch.end, intake.span(options.period_seconds).end)
    if stretch.begin < end:
        for scope_id in sorted(intake.scopes):
            for plan in plans.additions(options.source, scope_id, Interval(stretch.begin, end), intake.units):
                await log.plan(plan)
    return max(stretch.begin, end)


def drafts(intake: Intake, options: ReplayOptions, attempt: int) -> Iterator[CollectionDraft]:
    """One collection for each piece of a period that is covered, or not covered and holds samples; oldest first."""
    units = intake.units
    for key, covered in _keys(intake, options.period_seconds):
        group = intake.spool.take(key)
        period = Interval(key.period_begin, key.period_begin + options.period_seconds)
        for piece in pieces(period, covered):
            held = _within(group, piece.begin, piece.end)
            if piece.covered or held.samples:
                yield CollectionDraft(
                    source=options.source,
                    scope_id=key.scope_id,
                    metric=key.metric,
                    begin=piece.begin,
                    end=piece.end,
                    attempt=attempt,
                    unit=units[key.metric],
                    covers=[Interval(piece.begin, piece.end)] if piece.covered else [],
                    series=[Series(*series_labels(series)) for series in held.series],
                    samples=held.samples,
                    note="replayed from a file",
                )


def _keys(intake: Intake, period_seconds: int) -> Iterator[tuple[Key, list[Interval]]]:
    """Each period of a scope and metric that is covered or holds samples, with what is covered; oldest first.

    Goes period by period, since all of them at once would not fit into memory for a file of a year.
    """
    held: dict[int, set[Key]] = {}
    for key in intake.spool.held():
        held.setdefault(key.period_begin, set()).add(key)
    names = [(scope_id, metric) for scope_id in sorted(intake.scopes) for metric in sorted(intake.units)]
    claims = {name: intake.claims.of(*name) for name in names}
    claimed = union(interval for intervals in claims.values() for interval in intervals)
    begins = {period.begin for interval in claimed for period in periods_of(interval, period_seconds)}
    for begin in sorted(begins | held.keys()):
        period = Interval(begin, begin + period_seconds)
        for scope_id, metric in names:
            key = Key(begin, scope_id, metric)
            covered = clip(claims[scope_id, metric], period) if begin in begins else []
            if covered or key in held.get(begin, ()):
                yield key, covered


def _within(group: Group, begin: int, end: int) -> Group:
    """The samples that begin within `[begin, end)`, and their series."""
    numbers: dict[int, int] = {}
    samples = [
        Sample(numbers.setdefault(sample.series, len(numbers)), sample.begin, sample.end, sample.qty)
        for sample in group.samples
        if begin <= sample.begin < end
    ]
    return Group([group.series[number] for number in numbers], samples)
