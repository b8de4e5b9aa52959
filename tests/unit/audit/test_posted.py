"""The audit of posted lines: a fault planted in each respect is found, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal

import msgspec
import pytest

from rater.audit import Invariant, UsageEntry
from rater.audit.posted import differs_from_posted, posted_once
from rater.model.posted import PostedLine, PostedLines
from rater.reports import UsageRequest
from rater.store import PostedRow

POST, T = "ab" * 16, 1767225600
LINES = [
    PostedLine(n, "cpu", T + n, T + 60, Decimal("1.50"), Decimal("0E-3"), "u", {"id": n, "gone": None}, {"deep": True})
    for n in range(2)
]
ENTRY = UsageEntry(PostedLines("A", POST, LINES))


def row(line: PostedLine) -> PostedRow:
    """As the store has it: labels as text, numbers without what they need not have."""
    groupby = {"id": str(line.n), "gone": "None"}
    amounts = (Decimal("1.5"), Decimal(0))
    return PostedRow(
        "A", line.begin, line.end, POST, line.n, "", line.metric, *amounts, line.unit, groupby, {"deep": "True"}, ""
    )


ROWS = [row(line) for line in LINES]


def test_what_is_there_once_is_right() -> None:
    assert list(posted_once([ENTRY, ENTRY], ROWS)) == []
    assert list(posted_once([], ROWS)) == []  # the topic has forgotten it
    refused = msgspec.structs.replace(ENTRY, refused="no")
    assert list(posted_once([refused], [])) == []


CHANGES: dict[str, Callable[[PostedRow], PostedRow]] = {
    name: lambda of, name=name, value=value: msgspec.structs.replace(of, **{name: value})
    for name, value in {
        "price": Decimal("1e-38"), "qty": Decimal(2), "unit": "v", "metric": "net", "period_end": T + 61,
        "groupby": {"id": "0"}, "metadata": {},
    }.items()
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_another_row_is_told_once(change: Callable[[PostedRow], PostedRow]) -> None:
    (found,) = posted_once([ENTRY, ENTRY], [change(ROWS[0]), ROWS[1]])
    assert (found.invariant, found.scope_id, found.period_begin) == (Invariant.POSTED_ONCE, "A", T)
    assert found.rows[0].text() == f"posted(scope_id=A, period_begin={T}, post_id={POST}, n=0)"


def test_a_row_that_is_missing_and_one_that_is_there_twice() -> None:
    (lost,) = posted_once([ENTRY], ROWS[1:])
    assert (lost.period_begin, lost.found) == (T, "no row")
    (twice,) = posted_once([ENTRY], [*ROWS, CHANGES["price"](ROWS[1])])
    assert twice.rows[0].key[-1] == ("n", 1)


def test_each_scope_is_asked_for_its_own_time() -> None:
    asked: list[UsageRequest] = []

    class View:
        def posted(self, request: UsageRequest) -> Iterator[PostedRow]:
            asked.append(request)
            return iter(ROWS if request.scope_id == "A" else [])

    other = UsageEntry(PostedLines("B", POST, LINES[:1]))
    found = list(differs_from_posted(View(), [other, ENTRY]))
    assert asked == [UsageRequest("A", T, T + 2), UsageRequest("B", T, T + 1)]
    assert [violation.scope_id for violation in found] == ["B"]
