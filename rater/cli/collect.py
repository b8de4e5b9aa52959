"""`rater collect`: fetch usage from a source, replay it from files, or see whether a source can answer at all."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import click

from rater.cli import exits
from rater.cli.app import session
from rater.cli.import_settings import import_settings
from rater.cli.output import instant, progress, remark
from rater.cli.times import Instant
from rater.cli.work import listen_option, observed, run, until_signal

if TYPE_CHECKING:
    from collectors.replay import ReplayReport
    from rater.config import Config
    from rater.model.interval import Interval

__all__ = ["collect"]

SHOWN_FAULTS = 20


class _Span(click.ParamType):
    """`FROM/TO`, two times."""

    name = "from/to"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Interval:
        """The interval, which must hold some time."""
        from rater.model.interval import Interval

        begin, separator, end = str(value).partition("/")
        if not separator:
            self.fail(f"{value!r}: write it as 2026-01-05T00:00/2026-01-06T00:00", param, ctx)
        found = Interval(Instant().convert(begin, param, ctx), Instant().convert(end, param, ctx))
        if found.begin >= found.end:
            self.fail(f"{value!r} holds no time", param, ctx)
        return found


@click.group()
def collect() -> None:
    """Fetch usage from a source, or replay it from files.

    \b
    Examples:
      rater collect check
      rater collect run
      rater collect replay usage-2026-01.jsonl.gz --covers 2026-01-01/2026-02-01
    """


@collect.command("run")
@listen_option
@click.pass_context
def collect_run(context: click.Context, listen: str | None) -> None:
    """Collect what is due from the source of section collect, until Ctrl-C or SIGTERM.

    What was missed while no collector ran is collected first, oldest first.

    \b
    Example:
      rater collect run
    """
    config = observed(session(context).config, listen)
    until_signal(lambda stop: _collect(config, stop))


async def _collect(config: Config, stop: asyncio.Event) -> None:
    from prometheus_client import CollectorRegistry

    from rater.services import collector_service, run_together

    registry = CollectorRegistry()
    await run_together(config.settings.observe, [collector_service(config, registry)], registry, stop)


@collect.command("check")
@click.pass_context
def collect_check(context: click.Context) -> None:
    """Ask the source whether it can answer what it will be asked: metrics, scrape interval, retention, scopes.

    \b
    Example:
      rater collect check
    """
    from collectors.service import check_source
    from rater.services import collect_settings, reach_seconds

    config = session(context).config
    settings = config.settings
    collect = collect_settings(config)
    reach = reach_seconds(config)
    found = run(check_source(collect, settings.metrics_conf, settings.engine.period, reach, int(time.time())))
    for text in found.remarks:
        remark(text)
    click.echo(f"{collect.source_name} can be asked: {len(found.scopes)} scopes, {len(found.metrics)} metrics")


@collect.command("replay")
@click.argument("files", nargs=-1, required=True)
@click.option("--covers", type=_Span(), multiple=True, help="FROM/TO that the files cover completely; repeatable.")
@click.option("--source", default="replay", show_default=True, help="What the source is called in gaps and records.")
@click.pass_context
def collect_replay(context: click.Context, files: tuple[str, ...], covers: tuple[Interval, ...], source: str) -> int:
    """Publish the samples of usage FILES (JSON lines, CSV, Parquet; .gz, .zst; - is standard input).

    A file without covers lines covers nothing by itself: say what it covers with --covers, or its periods close with
    gaps. Lines that cannot be read are reported and go to topic rejected; the rest is taken. Exit status 1 if there
    were any. The same file again replaces what it said before, it never adds to it.

    \b
    Examples:
      rater collect replay usage.jsonl
      rater collect replay jan.csv feb.csv --covers 2026-01-01/2026-03-01
    """
    from collectors.replay import ReplayOptions

    config = session(context).config
    options = ReplayOptions(period_seconds=config.settings.engine.period, source=source, covers=tuple(covers))
    status = exits.OK
    for file in files:
        found = _replay(file, config, options)
        click.echo(
            f"{file}: {found.samples} samples of {len(found.scopes)} scopes and {len(found.metrics)} metrics, "
            f"{instant(found.begin)} to {instant(found.end)} UTC, in {found.collections} collections"
        )
        for fault in found.faults[:SHOWN_FAULTS]:
            remark(f"{file}:{fault.line}: {fault.reason}")
        if found.rejected:
            remark(f"{file}: {found.rejected} lines were rejected; they lie in topic rejected, with the reason")
            status = exits.FAILED
    return status


collect.add_command(import_settings)


def _replay(file: str, config: Config, options: Any) -> ReplayReport:
    from collectors.replay import ReplayProgress, replay_file

    with progress(f"reading {file}", "bytes") as reading, progress(f"publishing {file}", "samples") as publishing:

        def watch(seen: ReplayProgress) -> None:
            (reading if seen.stage == "reading" else publishing)(seen.done, seen.total)

        return run(replay_file(file, config.settings.kafka, options, config.catalog, watch))
