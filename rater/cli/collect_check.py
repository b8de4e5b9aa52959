"""`rater collect check`: whether the source stores what billing needs, as the billable-service table."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rater.cli import exits
from rater.cli.app import session
from rater.cli.output import Advance, progress, remark
from rater.cli.trying import book_of_file, script_runner, third_party_modules
from rater.cli.work import run

if TYPE_CHECKING:
    from collectors.checking import CheckReport
    from rater.config import Config
    from rater.rating import RuleBook
    from rater.trial.sampled import SamplePrice

__all__ = ["collect_check"]

RULES_SECONDS = 10.0  # the prices are not what is asked here: a Kafka that is not there does not hold it up


@click.command("check")
@click.option(
    "--rules",
    "rules_file",
    type=click.Path(path_type=Path),
    help="Price the sample by this rule document. Default: by the rules in Kafka.",
)
@click.option(
    "--out",
    type=click.Choice(["table", "json", "md"]),
    default="table",
    show_default=True,
    help="How to write the result. json: one object.",
)
@click.pass_context
def collect_check(context: click.Context, rules_file: Path | None, out: str) -> int:
    """Ask the source whether it stores what billing needs, and show the billable-service table.

    For each metric: whether it and its labels exist, how often it is sampled, what a period holds, what one period of
    one scope costs. Also scopes, retention and clock of the source. Changes nothing. Exit status 1 if a verdict is
    fail, or if the source cannot be asked; docs/check.md says what to do about each verdict.

    \b
    Examples:
      rater collect check
      rater collect check --rules rules.yaml
      rater collect check --out json
    """
    from rater.cli.check_forms import WRITERS

    config = session(context).config
    book = None if rules_file is None else book_of_file(rules_file)
    with progress("check", "steps") as advance:
        report, book, without = run(_ask(config, book, advance))
    prices: dict[str, SamplePrice] = {}
    if book is not None:
        report, prices = _priced(config, report, book)
    WRITERS[out](report, prices, without)
    if without:
        remark(f"not priced: {without}")
    return exits.FAILED if report.verdict == "fail" else exits.OK


async def _ask(config: Config, book: RuleBook | None, advance: Advance) -> tuple[CheckReport, RuleBook | None, str]:
    """The report, the rules, and why there are none. Raises RaterError if the source cannot be asked."""
    from collectors.service import check_source
    from rater.services import collect_settings, reach_seconds

    settings, collect, reach = config.settings, collect_settings(config), reach_seconds(config)
    now = int(time.time())
    report = await check_source(collect, settings.metrics_conf, settings.engine.period, reach, now, advance)
    if book is not None:
        return report, book, ""
    found, without = await _rules(config)
    return report, found, without


async def _rules(config: Config) -> tuple[RuleBook | None, str]:
    """The rules that Kafka has, or why they cannot be had."""
    from rater.model.errors import RaterError
    from rater.stream.rules_log import read_rules

    try:
        async with asyncio.timeout(RULES_SECONDS):
            book = await read_rules(config.settings.kafka)
    except TimeoutError:
        return (
            None,
            f"no rules given, and Kafka at {config.settings.kafka.bootstrap} gave none in time: use --rules FILE",
        )
    except RaterError as fault:
        return None, f"no rules given ({fault}): use --rules FILE"
    if not book.version:
        return None, "there are no rules yet: `rater rules apply FILE`, or --rules FILE"
    return book, ""


def _priced(config: Config, report: CheckReport, book: RuleBook) -> tuple[CheckReport, dict[str, SamplePrice]]:
    """The samples' prices, and the report with what the rules add to it."""
    from rater.trial.sampled import price_samples, with_rules

    with script_runner(config, book) as scripts:
        prices = price_samples(report, book, scripts, third_party_modules(book))
    return with_rules(report, book, prices), prices
