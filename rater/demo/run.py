"""Tells the demonstration: three days of a small cloud, a hole in them, and how it is noticed, refused and mended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

from collectors import ReplayOptions, ReplayProgress, replay_file
from rater.demo import cloud
from rater.demo.stage import DemoError, Stage, fresh_directory, open_stage
from rater.kafka import Topic
from rater.model.codec import JSON, decode_alert
from rater.model.interval import Interval, union
from rater.model.rated import Alert, AlertKind
from rater.rating import parse, plan
from rater.reports import Report, ReportRefusedError, Selection, month_interval, report_of
from rater.stream.operate import read_values
from rater.stream.rules_log import append_event, read_rules

__all__ = ["Teller", "run_demo"]

PATIENCE_SECONDS = 120.0
POLL_SECONDS = 0.2
SETTLED = (cloud.END - cloud.BEGIN) // 3600 * len(cloud.PROJECTS)
"""Frames there are in the end: one for each project and hour."""


class Teller(Protocol):
    """Where the story goes."""

    def heading(self, text: str) -> None:
        """A step begins."""

    def say(self, text: str) -> None:
        """Text of the story."""

    def report(self, report: Report) -> None:
        """A report, as `rater report` prints it."""

    def progress(self, what: str, unit: str) -> AbstractContextManager[Callable[[int, int], None]]:
        """A progress bar."""


@asynccontextmanager
async def run_demo(directory: Path, teller: Teller, seed: int) -> AsyncIterator[Stage]:
    """Tells the whole story in a fresh `directory`; the stage goes on running while the block does.

    Raises DemoError, and whatever the parts raise.
    """
    _check_clock()
    with fresh_directory(directory):
        usage = cloud.write_usage(directory, seed)
        teller.heading("Kafka, worker, sink and ClickHouse start")
        async with open_stage(directory) as stage:
            await _set_prices(stage, teller)
            await _first_replay(stage, teller, usage)
            await _show_loss(stage, teller)
            await _mend(stage, teller, usage)
            yield stage


def _check_clock() -> None:
    if time.time() < cloud.END + 24 * 3600:
        raise DemoError("this machine's clock stands before 2026-01-09, and the demonstration's usage would lie ahead")


async def _set_prices(stage: Stage, teller: Teller) -> None:
    kafka, file = stage.config.settings.kafka, stage.directory / "rules.yaml"
    changes = plan(await read_rules(kafka), parse(file.read_text(encoding="utf-8"), str(file)))
    book = await append_event(kafka, changes.event("demo", "prices of the demonstration", int(time.time())))
    teller.say(f"prices from {file}: version {book.version}, {len(book.services)} metrics are charged")


async def _first_replay(stage: Stage, teller: Teller, usage: cloud.UsageFiles) -> None:
    teller.heading(f"Three days of {len(cloud.PROJECTS)} projects: {usage.main_samples} samples")
    await _replay(stage, teller, usage.main)
    with teller.progress("frames in ClickHouse", "frames") as advance:

        def all_there() -> bool:
            there = sum(scope.frames for scope in stage.view.scopes())
            advance(there, SETTLED)
            return there >= SETTLED

        await _until(stage, all_there, "not all frames came into the store")
    teller.heading(f"The report of {cloud.IDLE_PROJECT}, which used nothing for five hours of them")
    teller.report(await _report(stage, cloud.IDLE_PROJECT))


async def _show_loss(stage: Stage, teller: Teller) -> None:
    project = cloud.SILENT_PROJECT
    teller.heading(f"The collector of {project} was silent for two hours: alerts in topic rater.alerts")

    def all_told() -> bool:
        gaps = {gap.gap_id for frame in stage.view.frames(Selection(project)) for gap in frame.gaps}
        return gaps == {gap.gap_id for gap in stage.view.gaps(Selection(project, open_only=True))}

    await _until(stage, all_told, "not every gap was alerted")
    alerts = await _alerts(stage, AlertKind.GAP_OPENED)
    teller.say(alerts[0][0].decode())
    teller.say(_summary(alert for _, alert in alerts))
    teller.heading(f"The report of {project} is refused")
    try:
        await _report(stage, project)
    except ReportRefusedError as refused:
        teller.say(f"$ rater report --scope {project} --month {cloud.MONTH}\nerror: {refused}")
    else:
        raise DemoError(f"the report of {project} should have been refused")


async def _mend(stage: Stage, teller: Teller, usage: cloud.UsageFiles) -> None:
    project = cloud.SILENT_PROJECT
    teller.heading(f"The missing window is collected: {usage.missing_samples} samples")
    await _replay(stage, teller, usage.missing)

    def is_mended() -> bool:
        selection = Selection(project, *cloud.SILENCE, open_only=True)
        period = Selection(project, cloud.SILENCE.begin - 3600, cloud.SILENCE.end)
        frames = list(stage.view.frames(period))
        return not list(stage.view.gaps(selection)) and not any(frame.gaps for frame in frames)

    await _until(stage, is_mended, "the gap was not resolved")
    alerts = await _alerts(stage, AlertKind.GAP_RESOLVED)
    teller.say(alerts[0][0].decode())
    teller.say(_summary(alert for _, alert in alerts))
    teller.heading(f"The report of {project} is complete")
    teller.report(await _report(stage, project))


async def _replay(stage: Stage, teller: Teller, file: Path) -> None:
    options = ReplayOptions(period_seconds=stage.config.settings.engine.period)
    with teller.progress(f"replay of {file.name}", "samples") as advance:

        def watch(seen: ReplayProgress) -> None:
            if seen.stage == "publishing":
                advance(seen.done, seen.total)

        found = await replay_file(str(file), stage.config.settings.kafka, options, stage.config.catalog, watch)
    teller.say(f"{file}: {found.samples} samples in {found.collections} collections, {found.rejected} lines rejected")


async def _until(stage: Stage, reached: Callable[[], bool], otherwise: str) -> None:
    """Asks again and again, in a thread, until it is reached. Raises DemoError."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await asyncio.to_thread(reached):
        stage.check()
        if time.monotonic() > deadline:
            raise DemoError(f"{otherwise} within {PATIENCE_SECONDS:.0f} s: see the logs in {stage.directory}")
        await asyncio.sleep(POLL_SECONDS)


async def _report(stage: Stage, project: str) -> Report:
    month = month_interval(cloud.MONTH)  # long over
    return await asyncio.to_thread(report_of, stage.view, project, month, month.end)


async def _alerts(stage: Stage, kind: AlertKind) -> list[tuple[bytes, Alert]]:
    """The alerts of a kind, as they stand in the topic and decoded, by time and metric."""
    values = await read_values(stage.config.settings.kafka, Topic.ALERTS)
    found = [(value, decode_alert(value, JSON)) for value in values]
    chosen = [(value, alert) for value, alert in found if alert.kind is kind]
    if not chosen:
        raise DemoError(f"there is no alert {kind.value} in topic alerts")
    return sorted(chosen, key=lambda pair: (pair[1].begin, pair[1].metric))


def _summary(alerts: Iterable[Alert]) -> str:
    """The windows that alerts name together, one line for each scope, metric and source."""
    spans: dict[tuple[str, str, str, str], list[Interval]] = {}
    for alert in alerts:
        key = (alert.kind.value, alert.scope_id, alert.metric, alert.source)
        spans.setdefault(key, []).append(Interval(alert.begin, alert.end))
    lines = [
        f"  {kind}: {scope_id}, {metric} from {source}: {_clock(begin)} to {_clock(end)} UTC ({len(parts)} alerts)"
        for (kind, scope_id, metric, source), parts in sorted(spans.items())
        for begin, end in union(parts)
    ]
    return "\n".join(["… in all:", *lines])


def _clock(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))
