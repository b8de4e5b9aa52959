"""What of a period the answer of a REST source proves: the range it declares, its count of items, its watermark."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec

from collectors.errors import SourceError
from collectors.rest.answer import Expression, Page, instant, kind_of, written
from collectors.rest.settings import RestProof, TimeFormat
from collectors.times import iso
from rater.model.interval import Interval, clip

__all__ = ["Proof", "Verdict"]

_COUNT = re.compile(r"\d{1,15}")


class Verdict(msgspec.Struct, frozen=True):
    """What is covered, how well that is proven, and why it is not more."""

    covers: list[Interval]
    proof: Literal["proven", "weak"]
    note: str = ""


class Proof:
    """The proofs that the settings name. A field that they name and the answer lacks makes it no answer."""

    def __init__(self, settings: RestProof, time_format: TimeFormat, key: str) -> None:
        """`key` is how rater.yaml calls the section."""
        self._form = time_format
        self._is_none = settings.is_none
        self._found = {
            name: Expression(f"{key}.{name}", text)
            for name in settings.__struct_fields__
            if (text := getattr(settings, name))
        }

    def of(self, period: Interval, pages: Sequence[Page]) -> Verdict:
        """What the pages of one answer prove. Raises SourceError if they are not all, or do not say so."""
        self._check_count(pages)
        if self._is_none:
            return Verdict([period], "weak")
        begins, ends, marks = (self._times(name, pages) for name in ("begin", "end", "watermark"))
        begin = max([period.begin, *map(math.ceil, begins)])
        end = min([period.end, *map(math.floor, ends), *map(math.floor, marks)])
        covers = clip([Interval(begin, end)], period)
        return Verdict(covers, "proven", "" if covers == [period] else self._note(begins, ends, marks))

    def _check_count(self, pages: Sequence[Page]) -> None:
        expression = self._found.get("count")
        if expression is None:
            return
        counts = {_count(expression, value) for value in self._values(expression, pages)}
        received = sum(len(page.items) for page in pages)
        if len(counts) > 1:
            raise SourceError(f"the number of items changed from page to page ({expression.key}): ask again")
        (count,) = counts
        if count != received:
            raise SourceError(f"the answer has {received} of {count} items ({expression.key})")

    def _times(self, name: str, pages: Sequence[Page]) -> list[Decimal]:
        """What each page that says it says; none where the settings do not name it."""
        expression = self._found.get(name)
        if expression is None:
            return []
        try:
            return [instant(value, self._form) for value in self._values(expression, pages)]
        except ValueError as fault:
            raise SourceError(f"the time that {expression.key} finds {fault}") from None

    @staticmethod
    def _values(expression: Expression, pages: Sequence[Page]) -> list[Any]:
        """What the pages say, at least one of which has to."""
        values = [expression.of(page.document, page.headers) for page in pages]
        said = [value for value in values if value is not None]
        if not said:
            raise SourceError(f"{expression.key} finds nothing in the answer")
        return said

    @staticmethod
    def _note(begins: list[Decimal], ends: list[Decimal], marks: list[Decimal]) -> str:
        parts = []
        if begins and ends:
            parts.append(f"the source declares {iso(math.ceil(max(begins)))} to {iso(math.floor(min(ends)))}")
        if marks:
            parts.append(f"the source has everything until {iso(math.floor(min(marks)))}")
        return ", ".join(parts)


def _count(expression: Expression, value: Any) -> int:
    text = written(value)
    if text is None or not _COUNT.fullmatch(text):
        raise SourceError(f"{expression.key} finds {kind_of(value) if text is None else repr(text[:60])}, not a count")
    return int(text)
