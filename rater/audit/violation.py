"""What an invariant found broken, and the rows by which it can be found again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

import msgspec

from rater.model.rated import RatedFrame

__all__ = ["LINES", "Invariant", "RowKey", "Violation", "frame_row", "frame_violation", "line_row", "roots"]


LINES = " lines"
"""How the text ends of a violation about the number of a frame's lines."""


class Invariant(Enum):
    """What must hold. The values are the names that docs/audit.md, logs and metrics use."""

    EVERY_SAMPLE_ONCE = "every_sample_once"
    QUANTITIES_ADD_UP = "quantities_add_up"
    BEST_REVISION_IS_TRUTH = "best_revision_is_truth"
    ONE_PAYLOAD = "one_payload"
    REVISIONS_CONTIGUOUS = "revisions_contiguous"
    PERIODS_ACCOUNTED = "periods_accounted"
    NO_FRAME_MISSING = "no_frame_missing"
    GAPS_ALERTED_ONCE = "gaps_alerted_once"
    OFFSETS_NEVER_GO_BACK = "offsets_never_go_back"
    STORE_IS_BEST_OF_RATED = "store_is_best_of_rated"
    TOTALS_ARE_SUMS = "totals_are_sums"
    FRAMES_HAVE_THEIR_LINES = "frames_have_their_lines"
    PRICES_FOLLOW_RULES = "prices_follow_rules"
    POSTED_ONCE = "posted_once"


class RowKey(msgspec.Struct, frozen=True):
    """A row: `table` is a table of the store or `topic NAME`; `key` its column names and values."""

    table: str
    key: tuple[tuple[str, str | int], ...]

    def text(self) -> str:
        """`lines(scope_id=a, period_begin=1767225600, …)`."""
        return f"{self.table}({', '.join(f'{name}={value}' for name, value in self.key)})"


class Violation(msgspec.Struct, frozen=True):
    """One broken invariant at one place. `period_begin` is -1 and texts are empty where they do not apply."""

    invariant: Invariant
    scope_id: str
    period_begin: int
    metric: str
    expected: str
    found: str
    rows: tuple[RowKey, ...]

    @property
    def identity(self) -> tuple[Invariant, str, int, str, tuple[RowKey, ...]]:
        """The same for the same trouble at another look."""
        return self.invariant, self.scope_id, self.period_begin, self.metric, self.rows

    def text(self) -> str:
        """One line."""
        return f"{self._where()}: expected {self.expected}, found {self.found}: {self._rows()}"

    def place(self) -> str:
        """The same without quantities and prices, for logs."""
        return f"{self._where()}: {self._rows()}"

    def _where(self) -> str:
        where = " ".join(filter(None, (self.scope_id, str(self.period_begin), self.metric)))
        return f"{self.invariant.value}: {where}"

    def _rows(self) -> str:
        return "; ".join(row.text() for row in self.rows)


def roots(violations: Iterable[Violation]) -> list[Violation]:
    """Without those that only follow from others, and each once: a wrong line also makes its frame's total wrong.

    Where a line of a frame was named, the totals of its metric are left out; where one was named that is missing or too
    much, the number of the frame's lines.
    """
    listed: Sequence[Violation] = list(dict.fromkeys(violations))
    wrong: set[tuple[str, int, str]] = set()
    miscounted: set[tuple[str, int]] = set()
    for one in listed:
        if any(row.table == "lines" for row in one.rows):
            wrong.add((one.scope_id, one.period_begin, one.metric))
            if one.invariant is Invariant.EVERY_SAMPLE_ONCE:
                miscounted.add((one.scope_id, one.period_begin))
    return [one for one in listed if not _follows(one, wrong, miscounted)]


def _follows(one: Violation, wrong: set[tuple[str, int, str]], miscounted: set[tuple[str, int]]) -> bool:
    if one.invariant is Invariant.TOTALS_ARE_SUMS:
        return (one.scope_id, one.period_begin, one.metric) in wrong
    is_count = one.invariant is Invariant.FRAMES_HAVE_THEIR_LINES and one.expected.endswith(LINES)
    return is_count and (one.scope_id, one.period_begin) in miscounted


def frame_row(frame: RatedFrame, where: str) -> RowKey:
    """The row of a frame: of table `frames` (`where` is `store`), else its revision in topic `rated`."""
    key: tuple[tuple[str, str | int], ...] = (("scope_id", frame.scope_id), ("period_begin", frame.period_begin))
    return RowKey("frames", key) if where == "store" else RowKey("topic rated", (*key, ("revision", frame.revision)))


def line_row(
    scope_id: str, period_begin: int, revision: int, metric: str, line_id: str, where: str = "store"
) -> RowKey:
    """The row of a line."""
    key = (
        ("scope_id", scope_id), ("period_begin", period_begin), ("revision", revision), ("metric", metric),
        ("line_id", line_id),
    )  # fmt: skip
    return RowKey("lines" if where == "store" else "topic rated", key)


def frame_violation(
    invariant: Invariant, frame: RatedFrame, metric: str, expected: str, found: str, *rows: RowKey
) -> Violation:
    """At a frame, or a part of it."""
    return Violation(invariant, frame.scope_id, frame.period_begin, metric, expected, found, rows)
