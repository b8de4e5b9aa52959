"""Table `posted`: lines that brought their price, how they are written and what may be asked of them alone.

Sums and points over everything that is billed are in `summing` and `pointing`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from rater.model.posted import PostedLines
from rater.store.blocks import LAST_INSTANT, Row, Table, amount_text, text_labels
from rater.store.client import Store
from rater.store.rows import TotalRow

__all__ = [
    "POSTED",
    "PostedRow",
    "any_posted",
    "posted",
    "posted_columns",
    "posted_count",
    "posted_rows",
    "posted_totals",
]

PAGE_LINES = 10_000  # about 10 MB of rows
BELIEVED_SECONDS = 0.5
_NAME = "LowCardinality(String)"
_LABELS = f"Map({_NAME}, {_NAME})"

POSTED = Table(
    "posted",
    (
        ("scope_id", _NAME),
        ("period_begin", "UInt32"),
        ("period_end", "UInt32"),
        ("post_id", "FixedString(16)"),
        ("n", "UInt32"),
        ("metric", _NAME),
        ("qty", "String"),
        ("price", "String"),
        ("unit", _NAME),
        ("groupby", _LABELS),
        ("metadata", _LABELS),
        ("author", _NAME),
    ),
)

_CHOSEN = """
    ({scope_id:String} = '' OR scope_id = {scope_id:String})
    AND period_begin >= {begin:UInt32} AND period_begin < {end:UInt32}
"""
_ROWS = f"""
SELECT DISTINCT scope_id, toUInt32(period_begin) AS begins, toUInt32(period_end), lower(hex(post_id)) AS post, n,
    lower(hex(line_id)), metric, toString(qty), toString(price), unit, groupby, metadata, author
FROM posted
WHERE {_CHOSEN}
ORDER BY scope_id, begins, post, n
"""  # noqa: S608  the only thing put in is the constant above
_TOTALS = f"""
SELECT metric, unit, toString(sum(qty)), toString(sum(price)), count()
FROM posted FINAL
WHERE {_CHOSEN}
GROUP BY metric, unit
ORDER BY metric, unit
"""  # noqa: S608  the only thing put in is the constant above
_COUNT = f"SELECT count() FROM posted FINAL WHERE {_CHOSEN}"  # noqa: S608  the only thing put in is the constant above
_PAGE = f"""
SELECT scope_id, toUInt32(period_begin) AS begins, toUInt32(0), metric, lower(hex(line_id)), toString(qty),
    toString(price), unit, groupby, metadata, toUInt32(0), post_id, n
FROM posted FINAL
WHERE {_CHOSEN} AND (scope_id, begins, post_id, n) > {{after:Tuple(String, UInt32, FixedString(16), UInt32)}}
ORDER BY scope_id, begins, post_id, n
LIMIT {{limit:UInt32}}
"""  # noqa: S608  the only thing put in is the constant above


class PostedRow(msgspec.Struct, frozen=True):
    """A line as it was posted. `line_id` is made of `post_id` and `n`: no other line has it."""

    scope_id: str
    period_begin: int
    period_end: int
    post_id: str
    n: int
    line_id: str
    metric: str
    qty: Decimal
    price: Decimal
    unit: str
    groupby: dict[str, str]
    metadata: dict[str, str]
    author: str


def any_posted(store: Store) -> bool:
    """Whether anything was ever posted: where nothing was, questions leave table `posted` out, a third of a short one.

    That nothing was is believed for a moment, and until this process posts something itself.
    """
    now = time.monotonic()
    if not store.has_posted and now - store.posted_asked_at > BELIEVED_SECONDS:
        store.has_posted = bool(store.rows("SELECT 1 FROM posted LIMIT 1"))
        store.posted_asked_at = now
    return store.has_posted


def posted_rows(record: PostedLines) -> list[Row]:
    """The rows of POSTED for a record that `check_posted` has passed: all of one month."""
    post_id = bytes.fromhex(record.post_id)
    return [
        (
            record.scope_id,
            line.begin,
            line.end,
            post_id,
            line.n,
            line.metric,
            amount_text(line.qty),
            amount_text(line.price),
            line.unit,
            text_labels(line.groupby),
            text_labels(line.metadata),
            record.author,
        )
        for line in record.lines
    ]


def posted(store: Store, scope_id: str, begin: int, end: int) -> Iterator[PostedRow]:
    """The posted lines of a scope that begin within `[begin, end)`, by begin and post.

    Of rows that share a key and differ, which there should never be, each.
    """
    for row in store.rows(_ROWS, _asked(scope_id, begin, end)):
        values: list[Any] = [*row[:7], Decimal(row[7]), Decimal(row[8]), *row[9:]]
        yield PostedRow(*values)


def posted_totals(
    store: Store, scope_id: str | None = None, begin: int | None = None, end: int | None = None
) -> list[TotalRow]:
    """Exact sums per metric and unit over posted lines."""
    answer = store.rows(_TOTALS, _asked(scope_id, begin, end))
    return [TotalRow(metric, unit, Decimal(qty), Decimal(price), n) for metric, unit, qty, price, n in answer]


def posted_count(store: Store, scope_id: str | None = None, begin: int | None = None, end: int | None = None) -> int:
    """How many posted lines there are."""
    return int(store.rows(_COUNT, _asked(scope_id, begin, end))[0][0])


def posted_columns(
    store: Store, scope_id: str | None = None, begin: int | None = None, end: int | None = None
) -> Iterator[list[Sequence[Any]]]:
    """Posted lines by scope and begin, in blocks of columns as LineRow has them; revision and rule version are 0."""
    asked = _asked(scope_id, begin, end)
    after: tuple[Any, ...] = ("", 0, "\0" * 16, 0)
    while True:
        columns = store.columns(_PAGE, {**asked, "after": after, "limit": PAGE_LINES})
        if not columns or not len(columns[0]):
            return
        yield columns[:-2]
        if len(columns[0]) < PAGE_LINES:
            return
        after = (columns[0][-1], columns[1][-1], columns[-2][-1], columns[-1][-1])


def _asked(scope_id: str | None, begin: int | None, end: int | None) -> dict[str, Any]:
    first, last = (min(max(instant, 0), LAST_INSTANT) for instant in (begin or 0, LAST_INSTANT if end is None else end))
    return {"scope_id": scope_id or "", "begin": first, "end": last}
