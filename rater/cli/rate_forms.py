"""How `rater rate` writes priced samples: JSON lines, CSV or pages of a table, none of them kept in memory."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable
from typing import Any

import click
import msgspec

from rater.cli.output import Cell, Column, Moment, printable, table
from rater.model.labels import label_text
from rater.rating.explanation import explanation_text, number_of
from rater.trial import FileTotals, Priced
from rater.trial.pricing import iso

__all__ = ["WRITERS", "print_totals"]

PAGE = 1_000  # rows of a table

_encode = msgspec.json.Encoder().encode
_CSV = (
    "scope_id",
    "metric",
    "begin",
    "end",
    "qty",
    "unit",
    "groupby",
    "metadata",
    "price",
    "error",
    "dropped",
    "added",
)
_ROWS = [
    Column("scope_id", "Scope"),
    Column("metric", "Metric"),
    Column("begin", "Begin (UTC)"),
    Column("qty", "Quantity", right=True),
    Column("unit", "Unit"),
    Column("labels", "Labels", prose=True),
    Column("price", "Price", right=True),
    Column("remark", "Remark", prose=True),
]
_TOTALS = [
    Column("scope_id", "Scope"),
    Column("metric", "Metric"),
    Column("points", "Points", right=True),
    Column("qty", "Quantity", right=True),
    Column("unit", "Unit"),
    Column("price", "Price", right=True),
    Column("failed", "Without price", right=True),
]


def print_totals(totals: FileTotals) -> bool:
    """Writes the sums per scope and metric to stderr; False if there are none."""
    found: list[tuple[Cell, ...]] = [
        (key.scope_id, key.metric, total.points, number_of(total.qty), key.unit, number_of(total.price), total.failed)
        for key, total in sorted(totals.by_key.items())
    ]
    if found:
        table(_TOTALS, found, file=sys.stderr)
    return bool(found)


def _write_json(found: Iterable[Priced], _explain: bool) -> None:
    write = sys.stdout.buffer.write
    for priced in found:
        write(_json_line(priced))


def _json_line(priced: Priced) -> bytes:
    """The sample's own line with what became of it at its end; written anew where a module changed it."""
    raw = priced.sample.raw
    if not raw or priced.changed:
        raw = _encode(_sample(priced))
    if priced.error:
        end = b',"error":' + _encode(priced.error)
    elif priced.dropped:
        end = b',"dropped":true'
    else:
        end = b',"price":"' + number_of(priced.point.price).encode() + b'"'
    if priced.added:
        end += b',"added":true'
    if priced.because is not None:
        end += b',"because":' + _encode(priced.because.steps)
    return raw[:-1] + end + b"}\n"


def _sample(priced: Priced) -> dict[str, Any]:
    point = priced.point
    return {
        "scope_id": priced.sample.scope_id,
        "metric": point.metric,
        "begin": iso(priced.sample.begin),
        "end": iso(priced.sample.end),
        "qty": number_of(point.qty),
        "unit": point.unit,
        "groupby": point.groupby,
        "metadata": point.metadata,
    }


def _price_text(priced: Priced) -> str:
    return "" if priced.error or priced.dropped else number_of(priced.point.price)


def _write_csv(found: Iterable[Priced], explain: bool) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*_CSV, "because"] if explain else _CSV)
    for priced in found:
        because = [] if priced.because is None else [_encode(priced.because.steps).decode()]
        writer.writerow([*_csv_row(priced), *(because or [""] * explain)])


def _csv_row(priced: Priced) -> list[str]:
    sample = _sample(priced)
    return [
        *(sample[name] for name in _CSV[:6]),
        *(_encode(sample[name]).decode() for name in ("groupby", "metadata")),
        _price_text(priced),
        priced.error,
        "true" if priced.dropped else "",
        "true" if priced.added else "",
    ]


def _write_table(found: Iterable[Priced], explain: bool) -> None:
    """Pages of a table; with explanations, these instead of rows."""
    if explain:
        for priced in found:
            _write_text(priced)
        return
    page: list[tuple[Cell, ...]] = []
    try:
        for priced in found:
            page.append(_table_row(priced))
            if len(page) == PAGE:
                table(_ROWS, page)
                page.clear()
    finally:
        if page:
            table(_ROWS, page)  # what was priced before an error, too


def _write_text(priced: Priced) -> None:
    place = f"{priced.sample.scope_id} {iso(priced.sample.begin)}"
    said = f"{priced.point.metric}: no price: {priced.error}"
    if priced.because is not None:
        said = explanation_text(priced.because)
    click.echo("\n".join(map(printable, f"{place} {said}\n".split("\n"))))


def _table_row(priced: Priced) -> tuple[Cell, ...]:
    point = priced.point
    labels = {**point.metadata, **point.groupby}
    marks = [word for word, holds in (("dropped", priced.dropped), ("added", priced.added)) if holds]
    return (
        priced.sample.scope_id,
        point.metric,
        Moment(priced.sample.begin),
        number_of(point.qty),
        point.unit,
        ", ".join(f"{name}={label_text(value)}" for name, value in labels.items()),
        _price_text(priced),
        "; ".join([*marks, *([priced.error] if priced.error else [])]),
    )


WRITERS: dict[str, Callable[[Iterable[Priced], bool], None]] = {
    "json": _write_json,
    "csv": _write_csv,
    "table": _write_table,
}
"""By the name of the form: writes all samples to stdout, with or without explanations."""
