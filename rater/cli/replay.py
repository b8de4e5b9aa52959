"""`rater collect replay`: the options, how far it is, and what it did."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from rater.cli import exits
from rater.cli.app import session
from rater.cli.output import PLAIN_SECONDS, instant, remark
from rater.cli.times import Span
from rater.cli.work import run

if TYPE_CHECKING:
    from collectors.replay.words import ReplayProgress, ReplayReport
    from rater.model.interval import Interval

    Watch = Callable[[ReplayProgress], None]

__all__ = ["collect_replay"]

SHOWN_FAULTS = 20
_SHOWN_EACH_SECONDS = 0.1  # a replay tells of every collection, millions of them


@click.command("replay")
@click.argument("files", nargs=-1, required=True)
@click.option("--covers", type=Span(), multiple=True, help="FROM/TO that the files cover completely; repeatable.")
@click.option("--source", default="replay", show_default=True, help="What the source is called in gaps and records.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv", "parquet"]),
    help="What the files hold. Default: as their names or first bytes tell.",
)
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="At most so many samples a second.")
@click.option("--anew", is_flag=True, help="Publish everything, also what an interrupted replay has published.")
@click.option("--out", type=click.Choice(["text", "json"]), default="text", show_default=True, help="The summary.")
@click.pass_context
def collect_replay(
    context: click.Context,
    files: tuple[str, ...],
    covers: tuple[Interval, ...],
    source: str,
    form: Any,
    rate: float | None,
    anew: bool,
    out: str,
) -> int:
    """Publish the samples of usage FILES: files, directories, s3://bucket/prefix, - for standard input.

    JSON lines, CSV or Parquet, plain or .gz, .zst, .bz2, .xz. All of them are one replay: nothing is published before
    all were read. They cover nothing by themselves but by covers lines: say what they cover with --covers, or their
    periods close with gaps. Lines that cannot be read are reported and go to topic rejected; the rest is taken. Exit
    status 1 if there were any. The same command goes on with a replay that was interrupted; after one that ended it
    replaces what that said, it never adds to it. More: docs/replay.md.

    \b
    Examples:
      rater collect replay usage.jsonl
      rater collect replay jan.csv feb.csv --covers 2026-01-01/2026-03-01
      rater collect replay s3://usage/2026-01/ --covers 2026-01-01/2026-02-01 --rate 20000
    """
    from collectors.replay.run import replay_files
    from collectors.replay.words import ReplayOptions

    config = session(context).config
    period = config.settings.engine.period
    options = ReplayOptions(period, source, tuple(covers), form=form, rate=rate, anew=anew)
    began = time.monotonic()
    with _watched() as watch:
        found = run(replay_files(files, config.settings.kafka, options, config.catalog, watch))
    name = _name(files, found.files)
    click.echo(_as_json(found, time.monotonic() - began) if out == "json" else _as_text(found, name))
    return _remarks(found, name)


def _name(paths: tuple[str, ...], count: int) -> str:
    """What was replayed, in few words."""
    if len(paths) > 1:
        return f"{count} files"
    return paths[0] if count == 1 else f"{paths[0]} ({count} files)"


def _as_text(found: ReplayReport, name: str) -> str:
    already = f", {found.already} of them published before the interruption" if found.already else ""
    return (
        f"{name}: {found.samples} samples of {len(found.scopes)} scopes and {len(found.metrics)} metrics, "
        f"{instant(found.begin)} to {instant(found.end)} UTC, in {found.collections} collections{already}"
    )


def _as_json(found: ReplayReport, seconds: float) -> str:
    import msgspec

    from collectors.times import iso

    summary = {
        "source": found.source,
        "attempt": found.attempt,
        "begin": iso(found.begin),
        "end": iso(found.end),
        "files": found.files,
        "scopes": len(found.scopes),
        "metrics": len(found.metrics),
        "samples": found.samples,
        "collections": found.collections,
        "already": found.already,
        "rejected": found.rejected,
        "seconds": round(seconds, 3),
    }
    return msgspec.json.encode(summary).decode()


def _remarks(found: ReplayReport, name: str) -> int:
    """Tells what was left out; returns the exit status."""
    for text in found.remarks:
        remark(text)
    for fault in found.faults[:SHOWN_FAULTS]:
        remark(f"{fault.file}:{fault.line}: {fault.reason}")
    if found.rejected:
        remark(f"{name}: {found.rejected} lines were rejected; they lie in topic rejected, with the reason")
        return exits.FAILED
    return exits.OK


@contextmanager
def _watched() -> Iterator[Watch]:
    """Shows how far the replay is; one that breaks off is told what to do."""
    last: list[ReplayProgress] = []
    shown_at = 0.0
    with (_bars if sys.stderr.isatty() else _lines)() as show:

        def watch(seen: ReplayProgress) -> None:
            nonlocal shown_at
            last[:] = [seen]
            if time.monotonic() - shown_at >= _SHOWN_EACH_SECONDS:
                shown_at = time.monotonic()
                show(seen)

        try:
            yield watch
        except BaseException:
            if last and last[0].stage == "publishing":
                remark(
                    f"{_figures(last[0])} were confirmed, and stay: the same command goes on after them. Until it has "
                    "ended, the periods after them lack what the files hold"
                )
            raise


@contextmanager
def _lines() -> Iterator[Watch]:
    """A line every few seconds."""
    shown_at = time.monotonic()
    began: dict[str, float] = {}

    def show(seen: ReplayProgress) -> None:
        nonlocal shown_at
        began.setdefault(seen.stage, time.monotonic())
        if time.monotonic() - shown_at >= PLAIN_SECONDS:
            shown_at = time.monotonic()
            remark(f"{seen.stage}: {_figures(seen)}{_speed(seen, shown_at - began[seen.stage])}")

    yield show


@contextmanager
def _bars() -> Iterator[Watch]:
    """A bar for reading and one for publishing, with speed and the time that is left."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        bars: dict[str, Any] = {}
        began: dict[str, float] = {}

        def show(seen: ReplayProgress) -> None:
            if seen.stage not in bars:
                bars[seen.stage] = shown.add_task(seen.stage, total=None, figures="")
                began[seen.stage] = time.monotonic()
            figures = _figures(seen) + _speed(seen, time.monotonic() - began[seen.stage])
            shown.update(bars[seen.stage], completed=seen.done, total=seen.total or None, figures=figures)

        yield show


def _figures(seen: ReplayProgress) -> str:
    of = f" of {seen.total:,}" if seen.total else ""
    if seen.stage == "publishing":
        return _grouped(f"{seen.done:,}{of} samples")
    return _grouped(f"{seen.done:,}{of} bytes, {seen.samples:,} samples")


def _speed(seen: ReplayProgress, seconds: float) -> str:
    samples = seen.samples if seen.stage == "reading" else seen.done
    return _grouped(f", {samples / seconds:,.0f} samples/s") if seconds > 1 else ""


def _grouped(text: str) -> str:
    """`1 000` instead of `1,000`."""
    return re.sub(r"(?<=\d),(?=\d)", " ", text)
