"""Replays usage files into topic `usage`: their samples, what they cover, and what is expected by them.

The files of one replay count as one, and may be in any order. They are read once, their samples are sorted by period,
scope and metric within bounded memory, and only when all of them were read is anything published: a damaged file
leaves no trace. What was published is found in the topic itself, so that an interrupted replay goes on (`journal.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TypeAlias

from collectors.errors import ReplayError
from collectors.history import read_journal
from collectors.publisher import Publisher
from collectors.replay.claims import Claims
from collectors.replay.intake import Intake, LineFault
from collectors.replay.journal import Journal, arguments_digest
from collectors.replay.posting import Posting, ReplayLog
from collectors.replay.spool import Spool
from collectors.replay.usage_inputs import Inputs, usage_inputs
from collectors.replay.words import ReplayOptions, ReplayProgress, ReplayReport, Watcher
from rater.kafka import KafkaSettings
from rater.model.metric import Catalog, Coverage

__all__ = ["LineFault", "ReplayOptions", "ReplayProgress", "ReplayReport", "replay", "replay_file", "replay_files"]

_LINES_PER_STEP = 2000  # between two of them the event loop gets a turn

ReadBack: TypeAlias = Callable[[Journal], Awaitable[Journal]]
"""Gives a journal all that lies in topic `usage`."""


async def replay_file(
    path: str,
    kafka: KafkaSettings,
    options: ReplayOptions,
    catalog: Catalog | None = None,
    watcher: Watcher | None = None,
) -> ReplayReport:
    """As `replay_files`, of one."""
    return await replay_files([path], kafka, options, catalog, watcher)


async def replay_files(
    paths: Sequence[str],
    kafka: KafkaSettings,
    options: ReplayOptions,
    catalog: Catalog | None = None,
    watcher: Watcher | None = None,
) -> ReplayReport:
    """Replay what `collectors.replay.usage_inputs` finds at paths. With a catalog, lines it does not know are refused.

    A replay that was interrupted is gone on with if it is called with the same paths and options. What earlier ones of
    this source planned stays expected, so that a file of one missing window adds to it.
    Raises ReplayError for files that cannot be read as a whole, PublishError if Kafka cannot be used.
    """
    async with Publisher(kafka) as publisher:
        return await replay(paths, publisher, partial(read_journal, kafka), options, catalog, watcher)


async def replay(
    paths: Sequence[str],
    log: ReplayLog,
    read_back: ReadBack,
    options: ReplayOptions,
    catalog: Catalog | None = None,
    watcher: Watcher | None = None,
) -> ReplayReport:
    """As `replay_files`, with the log to write to and what is known of it."""
    inputs = usage_inputs(paths)
    with ExitStack() as stack:
        try:
            spool = stack.enter_context(Spool(options.period_seconds, options.memory_samples))
            claims = Claims(options.covers)
            intake = stack.enter_context(Intake(spool, claims, options.source, catalog, options.period_seconds))
            content = await _read(intake, inputs, options, watcher)
        except OSError as fault:
            raise ReplayError(f"samples could not be put aside: {fault}. Nothing was published") from fault
        called = arguments_digest([*paths, options.source, options.covers, options.period_seconds, options.form])
        journal = await read_back(Journal(options.source, called))
        now_ms = options.attempt if options.attempt is not None else time.time_ns() // 1_000_000
        run, done = journal.run(content, now_ms, anew=options.anew, adding=_adding(intake, catalog))
        already = done.whole
        posting = Posting(intake, log, journal.plans, options, run, done, watcher)
        collections = await posting.publish()
        span = intake.expected.span()
        return ReplayReport(
            source=options.source,
            attempt=run.attempt,
            begin=span.begin,
            end=span.end,
            scopes=tuple(sorted(intake.scopes)),
            metrics=tuple(sorted(intake.units)),
            samples=intake.samples,
            collections=collections,
            already=already,
            rejected=intake.refused,
            faults=tuple(intake.faults),
            files=len(inputs.files),
            remarks=(*inputs.remarks, *intake.remarks),
        )


def _adding(intake: Intake, catalog: Catalog | None) -> list[str]:
    """The metrics of the files whose samples add up to those of earlier replays instead of replacing them."""
    specs = [catalog.get(metric) for metric in sorted(intake.units)] if catalog else []
    return [spec.name for spec in specs if spec is not None and spec.proof is Coverage.SAMPLES]


async def _read(intake: Intake, inputs: Inputs, options: ReplayOptions, watcher: Watcher | None) -> str:
    """Reads all files; returns a digest of what is to be published."""
    total = sum(file.size for file in inputs.files)
    before = 0
    for file in inputs.files:
        done = 0
        for done in intake.read(file, options.form, _LINES_PER_STEP):
            if watcher:
                watcher(ReplayProgress("reading", before + done, total, intake.samples))
            await asyncio.sleep(0)
        before += done
    return intake.finish()
