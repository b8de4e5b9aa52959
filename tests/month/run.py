"""The month from its first record to its last check, in the order in which an operator would see it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from tests.month.check import check_alerts, check_figures, check_invariants, check_outages, wait_until_settled
from tests.month.content import Month
from tests.month.publish import Closed, Manifest, Telling
from tests.month.recollect import Recollected, recollect
from tests.month.stage import RULES, Cost, Stage, cost_of, open_stage


class Shown(Protocol):
    """Where progress goes: `with shown("what", "unit") as advance: advance(done, total)`."""

    def __call__(self, what: str, unit: str) -> AbstractContextManager[Callable[[int, int], None]]: ...


class Pace(NamedTuple):
    """How the services run, and how fast the month is published."""

    workers: int = 2
    settle: int = 30
    """`engine.settle`, seconds: more than what this process may be held up between two records of a frame."""
    checkpoint: float = 5.0
    in_step: bool = False
    """Whether the month's clock waits for frames to close; then a month takes a quarter of an hour."""


class Outcome(NamedTuple):
    """What came of it. Seconds by this machine's clock."""

    month: Month
    manifest: Manifest
    stream_seconds: float
    """From the first record until the store had all that was published."""
    mend_seconds: float
    """From the begin of the re-collection until the store had that too."""
    recollected: Recollected
    alerts: int
    lines: int
    audit_seconds: float
    costs: dict[str, Cost]


async def run_month(directory: Path, month: Month, pace: Pace, shown: Shown) -> Outcome:
    """Runs all of it in an empty `directory`. Raises AssertionError with what is not as it must be."""
    with open_stage(directory, pace.workers, pace.settle, pace.checkpoint) as stage:
        kafka = stage.config.settings.kafka
        began = time.monotonic()
        async with Closed(kafka) as closed:
            with shown("published", "samples") as advance:
                whole = month.samples_at_most
                telling = Telling(month, kafka, closed, stage.check, in_step=pace.in_step)
                manifest = await telling.run(lambda done: advance(done, whole))
        (directory / "manifest.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
        await _settled(stage, month, manifest, shown, mended=False)
        stream_seconds = time.monotonic() - began
        await asyncio.to_thread(check_outages, stage, month, manifest)
        await check_alerts(stage, manifest, mended=False)
        began = time.monotonic()
        with shown("collected again", "collections") as advance:
            recollected = await recollect(month, kafka, advance)
        assert recollected.missing == recollected.published == len(manifest.gaps)
        await _settled(stage, month, manifest, shown, mended=True)
        mend_seconds = time.monotonic() - began
        alerts = await check_alerts(stage, manifest, mended=True)
        with shown("compared", "lines") as advance:
            lines = await asyncio.to_thread(check_figures, stage, month, RULES, advance)
        began = time.monotonic()
        await asyncio.to_thread(check_invariants, stage, month)
        audit_seconds = time.monotonic() - began
        costs = {service.name: service.cost() for service in stage.services}
        costs |= {"kafka": cost_of(stage.kafka.pid), "publisher, collector and checks": cost_of(os.getpid())}
    return Outcome(month, manifest, stream_seconds, mend_seconds, recollected, alerts, lines, audit_seconds, costs)


async def _settled(stage: Stage, month: Month, manifest: Manifest, shown: Shown, *, mended: bool) -> None:
    with shown("in the store", "frames") as advance:
        await asyncio.to_thread(wait_until_settled, stage, month, manifest, advance, mended=mended)
