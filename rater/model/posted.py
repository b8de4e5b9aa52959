"""Usage that brings its price: what POST /v2/dataframes puts into topic `usage`, and what is passed on in `rated`.

Posted lines are no part of any frame. They are stored as they are and kept apart from what is collected: no rule rates
them, no coverage follows from them, and no frame waits for them or is closed by them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from rater.model.amounts import amount_fault
from rater.model.errors import RejectedError
from rater.model.labels import Labels, check_labels
from rater.model.version import FORMAT_VERSION

__all__ = [
    "LAST_POSTED",
    "MAX_POSTED_BYTES",
    "MAX_POSTED_LINES",
    "PostedLine",
    "PostedLines",
    "check_posted",
    "line_fault",
    "month_of_line",
]

MAX_POSTED_LINES = 10_000  # of one record
MAX_POSTED_BYTES = 1_000_000  # of one record as JSON: the engine passes it on so, and no topic takes more than 4 MB
LAST_POSTED = 2**32 - 1  # the last second that the store can hold, in 2106

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255)]
Amount: TypeAlias = Annotated[Decimal, Meta(description="decimal text, exact, at most 38 decimals")]
Second: TypeAlias = Annotated[int, Meta(ge=0, le=LAST_POSTED, description="seconds since the epoch, UTC")]

_encode = msgspec.json.Encoder().encode


class PostedLine(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One point as it was posted: its own begin and end, whatever the period is, and the price that it brings."""

    n: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    """Its number within the post. With `post_id` it is the line's identity: what has both was posted once."""
    metric: Name
    begin: Second
    end: Second
    qty: Amount
    price: Amount = Decimal(0)
    unit: Name = "undefined"
    groupby: Labels = {}
    metadata: Labels = {}


class PostedLines(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="posted_lines",
):
    """Lines of one post that are of one scope and begin in one month (UTC). A post becomes as many records as it takes.

    The record may come several times: of lines with the same `post_id` and `n` one counts.
    """

    scope_id: Name
    post_id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    lines: Annotated[list[PostedLine], Meta(min_length=1, max_length=MAX_POSTED_LINES)]
    source: Literal["api"] = "api"
    author: Annotated[str, Meta(max_length=255)] = ""
    """Who posted it, as far as the service knows."""
    version: int = FORMAT_VERSION


def line_fault(line: PostedLine) -> str:
    """Why this line cannot be taken, as the end of a sentence; empty if it can."""
    if line.begin >= line.end:
        return f"lasts from {line.begin} to {line.end}: begin must be before end"
    for name, amount in (("quantity", line.qty), ("price", line.price)):
        if fault := amount_fault(amount):
            return f"has a {name} that {fault}"
    try:
        check_labels(line.groupby)
        check_labels(line.metadata)
    except RejectedError as fault:
        return f"has a label that cannot be kept: {fault}"
    return ""


def month_of_line(line: PostedLine) -> tuple[int, int]:
    """Year and month of its begin, UTC."""
    begin = datetime.fromtimestamp(line.begin, UTC)
    return begin.year, begin.month


def check_posted(record: PostedLines) -> None:
    """Raises RejectedError. The engine and the store ask the same question and so agree on what was posted."""
    for place, line in enumerate(record.lines):
        if fault := line_fault(line):
            raise RejectedError(f"lines[{place}] {fault}")
    if len({line.n for line in record.lines}) < len(record.lines):
        raise RejectedError("two lines have the same number n")
    if len({month_of_line(line) for line in record.lines}) > 1:
        raise RejectedError("the lines begin in several months: send a record for each")
    size = len(_encode(record))
    if size > MAX_POSTED_BYTES:
        raise RejectedError(f"the record has {size} bytes as JSON: at most {MAX_POSTED_BYTES} are taken, split it")
