"""Prices the sample that a check of a source fetched, and compares what rules ask for with what the source has."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, localcontext

import msgspec

from collectors.checking import CheckReport, Code, Finding, MetricCheck
from rater.model.labels import canonical_series
from rater.rating import Module, RuleBook, ScriptRunner
from rater.trial.pricing import Measured, Priced, Pricer

__all__ = ["SamplePrice", "price_samples", "with_rules"]


class SamplePrice(msgspec.Struct, frozen=True):
    """What the points of a sample cost, each taken alone as `rater rate` does."""

    price: Decimal
    is_charged: bool
    """False: the rules have nothing for the metric."""
    reason: str = ""
    """Why a point has no price; empty if all have one."""


def price_samples(
    report: CheckReport, book: RuleBook, scripts: ScriptRunner, modules: Mapping[str, Module]
) -> dict[str, SamplePrice]:
    """The prices of all metrics that have a sample, by public name."""
    return {
        row.service: _price(row, book, scripts, modules)
        for row in report.metrics
        if row.sampled is not None and row.sampled.answer.samples
    }


def with_rules(report: CheckReport, book: RuleBook, prices: Mapping[str, SamplePrice]) -> CheckReport:
    """The report with what the rules add to it: labels that they ask for in vain, points without a price."""
    rows = []
    for row in report.metrics:
        found = [*row.findings, *_label_findings(row, book)]
        price = prices.get(row.service)
        if price is not None and price.reason:
            found.append(Finding(Code.NOT_PRICED, "warn", f"a point of the sample has no price: {price.reason}"))
        rows.append(msgspec.structs.replace(row, findings=tuple(found)))
    return msgspec.structs.replace(report, metrics=tuple(rows))


def _price(row: MetricCheck, book: RuleBook, scripts: ScriptRunner, modules: Mapping[str, Module]) -> SamplePrice:
    assert row.sampled is not None, "the caller looked"
    pricer = Pricer(book, scripts, modules, row.period)
    answer, scope_id = row.sampled.answer, row.sampled.scope_id
    priced: list[Priced] = []
    for sample in answer.samples:
        series = answer.series[sample.series]
        labels = canonical_series(series.groupby, series.metadata)
        priced += pricer.take(Measured(scope_id, row.service, sample.begin, sample.end, sample.qty, row.unit, labels))
    priced += pricer.finish()
    with localcontext(prec=200):  # so that the sum is not rounded
        price = sum((one.point.price for one in priced if not one.error and not one.dropped), Decimal(0))
    reason = next((one.error for one in priced if one.error), "")
    charged = book.service_named(row.service) is not None or bool(book.scripts_in_order())
    return SamplePrice(price, charged, reason)


def _label_findings(row: MetricCheck, book: RuleBook) -> list[Finding]:
    service = book.service_named(row.service)
    if service is None or row.labels is None:
        return []
    found = []
    for name in dict.fromkeys(field.name for field in book.fields_of(service.service_id)):
        if name not in row.labels:
            what = f"rules ask for the label {name!r}, which it lacks, so they match nothing"
            todo = f"use {', '.join(row.labels) or 'none'}, or name it under groupby or metadata in metrics.yml"
            found.append(Finding(Code.RULE_LABEL, "warn", what, todo))
    return found
