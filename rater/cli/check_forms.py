"""How `rater collect check` writes the billable-service table: for people, as Markdown, as JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import click
import msgspec

from collectors.checking import CheckReport, Finding, MetricCheck, Verdict
from collectors.times import iso
from rater.cli.output import Column, printable, table
from rater.model.interval import seconds
from rater.trial.sampled import SamplePrice

__all__ = ["WRITERS"]

UNKNOWN = "not known"
_COLUMNS = [
    Column("service", "Service"),
    Column("metric", "Metric"),
    Column("unit", "Unit"),
    Column("granularity", "At the source every", right=True),
    Column("period", "Period", right=True),
    Column("source", "Source"),
    Column("labels", "Labels for rules", prose=True),
    Column("points", "Points a period", right=True),
    Column("sample", "Points in sample", right=True),
    Column("price", "Price", right=True),
    Column("verdict", "Verdict"),
]
_COLOURS: dict[Verdict, str] = {"ok": "green", "warn": "yellow", "fail": "red"}


def _write_table(report: CheckReport, prices: Mapping[str, SamplePrice], without: str) -> None:
    """The table, and below it each finding in a line of its own, since sentences do not fit into cells."""
    click.echo(_head(report))
    table(_COLUMNS, [_cells(row, prices, without) for row in report.metrics])
    for service, finding in _all(report):
        mark = click.style(f"{finding.level:<4}", fg=_COLOURS[finding.level])
        click.echo(f"{mark}  {printable(f'{service}: ' if service else '')}{printable(finding.text)}")
    click.echo(_last(report))


def _write_markdown(report: CheckReport, prices: Mapping[str, SamplePrice], without: str) -> None:
    """The same for a ticket or a wiki."""
    lines = [f"# Billable services of {report.source}", "", _md(_head(report)), ""]
    titles = [column.title for column in _COLUMNS]
    lines += [_md_row(titles), _md_row(["---:" if column.right else "---" for column in _COLUMNS])]
    lines += [_md_row(map(_md, _cells(row, prices, without))) for row in report.metrics]
    lines.append("")
    for service, finding in _all(report):
        named = f"{service}: " if service else ""
        lines.append(f"- **{finding.level}** {_md(named + finding.text)}")
    lines += ["", _md(_last(report))] if report.verdict != "ok" else [_md(_last(report))]
    click.echo("\n".join(lines))


def _write_json(report: CheckReport, prices: Mapping[str, SamplePrice], without: str) -> None:
    """One object in one line; docs/check.md lists its keys."""
    found = {
        "source": report.source,
        "url": report.where,
        "checked_at": iso(report.checked_at),
        "verdict": report.verdict,
        "period_seconds": report.period,
        "reach_seconds": report.reach,
        "retention_seconds": report.retention,
        "clock_ahead_seconds": None if report.clock_ahead is None else round(report.clock_ahead, 1),
        "scopes": len(report.scopes),
        "not_priced_because": without or None,
        "findings": [_finding(finding) for finding in report.findings],
        "metrics": [_row(row, prices.get(row.service)) for row in report.metrics],
    }
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")


WRITERS = {"table": _write_table, "md": _write_markdown, "json": _write_json}


def _row(row: MetricCheck, price: SamplePrice | None) -> dict[str, Any]:
    facts = row.facts
    return {
        "service": row.service,
        "metric": row.metric,
        "unit": row.unit,
        "source": row.source,
        "granularity_seconds": facts.granularity,
        "granularity_needed_seconds": min(row.period, facts.coarsest or row.period),
        "period_seconds": row.period,
        "exists": facts.exists,
        "expected": row.expected,
        "seen_at": None if facts.seen_at is None else iso(facts.seen_at),
        "kind": facts.kind or None,
        "labels": row.labels,
        "points_per_period": row.points,
        "scopes": None if facts.points is None else len(facts.points),
        "sample": None if row.sampled is None else _sample(row, price),
        "verdict": row.verdict,
        "findings": [_finding(finding) for finding in row.findings],
    }


def _sample(row: MetricCheck, price: SamplePrice | None) -> dict[str, Any]:
    assert row.sampled is not None, "the caller looked"
    answer, period = row.sampled.answer, row.sampled.period
    first = answer.samples[0] if answer.samples else None
    return {
        "scope_id": row.sampled.scope_id,
        "begin": iso(period.begin),
        "end": iso(period.end),
        "points": len(answer.samples),
        "quarantined": len(answer.quarantined),
        "skipped": answer.skipped,
        "covered_seconds": seconds(answer.covers),
        "proof": answer.proof,
        "note": answer.note,
        "first_qty": None if first is None else format(first.qty, "f"),
        "first_labels": None
        if first is None
        else {**answer.series[first.series].groupby, **answer.series[first.series].metadata},
        "price": None if price is None else format(price.price, "f"),
        "charged": None if price is None else price.is_charged,
    }


def _finding(finding: Finding) -> dict[str, str]:
    return {"code": finding.code.value, "level": finding.level, "what": finding.what, "todo": finding.todo}


def _cells(row: MetricCheck, prices: Mapping[str, SamplePrice], without: str) -> list[str]:
    facts, price = row.facts, prices.get(row.service)
    cost = "-" if without or price is None else format(price.price, "f") if price.is_charged else "no rule"
    return [
        row.service,
        row.metric,
        row.unit,
        UNKNOWN if facts.granularity is None else f"{facts.granularity:g} s",
        f"{row.period} s",
        row.source,
        UNKNOWN if row.labels is None else ", ".join(row.labels) or "none",
        UNKNOWN if row.points is None else str(row.points),
        "-" if row.sampled is None else str(len(row.sampled.answer.samples)),
        cost,
        row.verdict,
    ]


def _all(report: CheckReport) -> list[tuple[str, Finding]]:
    """Every finding once, the source's own first, with the services that it is about."""
    services: dict[Finding, list[str]] = {finding: [] for finding in report.findings}
    for row in report.metrics:
        for finding in row.findings:
            services.setdefault(finding, []).append(row.service)
    return [(", ".join(names), finding) for finding, names in services.items()]


def _head(report: CheckReport) -> str:
    kept = UNKNOWN if report.retention is None else f"{report.retention / 86400:.1f} days"
    clock = UNKNOWN if report.clock_ahead is None else f"{round(report.clock_ahead):+d} s"
    return (
        f"{report.source} at {report.where}: {len(report.scopes)} scopes, {len(report.metrics)} metrics; keeps samples "
        f"for: {kept}, {report.reach / 86400:.1f} needed; clock: {clock}"
    )


def _last(report: CheckReport) -> str:
    counts: dict[Verdict, int] = {"ok": 0, "warn": 0, "fail": 0}
    for row in report.metrics:
        counts[row.verdict] += 1
    metrics = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    if report.verdict == "fail":
        return f"metrics: {metrics}. {report.source} is not fit to bill by as it is: see docs/check.md"
    if report.verdict == "warn":
        return f"metrics: {metrics}. {report.source} can be asked; see docs/check.md for what is doubtful"
    return f"metrics: {metrics}. {report.source} can be asked"


def _md(text: str) -> str:
    return printable(text).replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def _md_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
