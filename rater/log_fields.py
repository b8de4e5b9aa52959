"""What lines of the log are about, as fields beside their text: docs/logs.md names each. Imports nothing of ours.

A field names where something lies: a scope, a period, an offset. What was used, its labels and its prices stand in no
line of any log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypedDict, Unpack

__all__ = ["FIELDS", "Fields", "about", "fields_of_context", "of"]

FIELDS = "fields"
"""Key of `extra` for what stands in the JSON form of a line of the log, instead of or beside the usual: a mapping."""


class Fields(TypedDict, total=False):
    """The fields that code may set. Texts come from outside now and then: both forms of the log quote them."""

    scope_id: str
    metric: str
    source: str
    period_begin: int
    """Seconds since the epoch; shown as 2026-01-01T00:00:00Z."""
    revision: int
    topic: str
    """Its name at the broker."""
    partition: int
    offset: int
    group: str
    """A consumer group, without `kafka.prefix`."""
    invariant: str
    """Of an audit."""
    trace_id: str
    span_id: str


_NOTHING: Mapping[str, Any] = {}
_context: ContextVar[Mapping[str, Any]] = ContextVar("log_fields", default=_NOTHING)


def of(**fields: Unpack[Fields]) -> dict[str, Any]:
    """`extra` of a single line: `log.info("…", extra=of(partition=3))`."""
    return {FIELDS: fields}


@contextmanager
def about(**fields: Unpack[Fields]) -> Iterator[None]:
    """Every line that this task logs in the block has these fields, also from tasks that it starts meanwhile."""
    before = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(before)


def fields_of_context() -> Mapping[str, Any]:
    """Those of `about` at this moment."""
    return _context.get()
