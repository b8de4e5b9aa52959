"""What topic `usage` has of posted lines is in the store once, with the same price."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Protocol, TypeAlias

from rater.audit.facts import UsageEntry
from rater.audit.violation import Invariant, RowKey, Violation
from rater.model.labels import Labels, label_text
from rater.model.posted import PostedLine, PostedLines
from rater.reports import UsageRequest
from rater.store import PostedRow

__all__ = ["PostedView", "differs_from_posted", "posted_once"]

Key: TypeAlias = tuple[str, int, str, int]
_EXACT = Context(prec=200, rounding=ROUND_HALF_EVEN)


class PostedView(Protocol):
    """What of `rater.reports.View` is read."""

    def posted(self, request: UsageRequest) -> Iterator[PostedRow]:
        """All rows of posted lines."""


def differs_from_posted(view: PostedView, usage: Iterable[UsageEntry]) -> Iterator[Violation]:
    """Where the store is not what these records say. They were stored before it is read now."""
    by_scope: dict[str, list[UsageEntry]] = {}
    for entry in usage:
        if isinstance(entry.record, PostedLines):
            by_scope.setdefault(entry.record.scope_id, []).append(entry)
    for scope_id, entries in sorted(by_scope.items()):
        begins = [
            line.begin for entry in entries if isinstance(entry.record, PostedLines) for line in entry.record.lines
        ]
        yield from posted_once(entries, view.posted(UsageRequest(scope_id, min(begins), max(begins) + 1)))


def posted_once(usage: Iterable[UsageEntry], rows: Iterable[PostedRow]) -> Iterator[Violation]:
    """Each line that was posted and not refused is in table `posted`, once, as it was posted.

    Rows of which the topic knows nothing are left alone: it forgets after days.
    """
    listed = list(rows)
    stored = {_key(row): row for row in listed}
    told: set[Key] = set()
    for key in _differing(listed):
        told.add(key)
        yield _violation(key, stored[key].metric, "one row", f"several that differ, one of them {_of_row(stored[key])}")
    for entry in usage:
        if not isinstance(entry.record, PostedLines) or entry.refused:
            continue
        for line in entry.record.lines:
            key = (entry.record.scope_id, line.begin, entry.record.post_id, line.n)
            row = stored.get(key)
            expected, found = _said(line), "no row" if row is None else _of_row(row)
            if expected != found and key not in told:
                told.add(key)
                yield _violation(key, line.metric, expected, found)


def _differing(rows: Iterable[PostedRow]) -> list[Key]:
    """Keys of rows that say different things: of those a merge keeps one, whichever it is."""
    seen: dict[Key, PostedRow] = {}
    return [_key(row) for row in rows if seen.setdefault(_key(row), row) != row]


def _key(row: PostedRow) -> Key:
    return row.scope_id, row.period_begin, row.post_id, row.n


def _said(line: PostedLine) -> str:
    return _text(line.metric, line.end, line.qty, line.price, line.unit, line.groupby, line.metadata)


def _of_row(row: PostedRow) -> str:
    return _text(row.metric, row.period_end, row.qty, row.price, row.unit, {**row.groupby}, {**row.metadata})


def _text(metric: str, end: int, qty: Decimal, price: Decimal, unit: str, groupby: Labels, metadata: Labels) -> str:
    labels = [{name: label_text(value) for name, value in sorted(of.items())} for of in (groupby, metadata)]
    amounts = f"quantity {qty.normalize(_EXACT) + 0}, price {price.normalize(_EXACT) + 0}"
    return f"{metric} until {end}, {amounts}, unit {unit}, {labels}"


def _violation(key: Key, metric: str, expected: str, found: str) -> Violation:
    scope_id, begin, post_id, n = key
    row = RowKey("posted", (("scope_id", scope_id), ("period_begin", begin), ("post_id", post_id), ("n", n)))
    return Violation(Invariant.POSTED_ONCE, scope_id, begin, metric, expected, found, (row,))
