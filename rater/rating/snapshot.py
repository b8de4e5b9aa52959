"""A rule book as bytes and back, so that a reader need not fold a long log from its beginning.

`decode_book(encode_book(book))` folds any further events exactly as `book` does: all tables travel as they are.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from rater.model.errors import RaterError
from rater.model.rules import Field, Group, ModuleSet, Service, Tiers
from rater.rating.book import RuleBook
from rater.rating.tables import Children, MappingEntry, ScriptEntry, Tables, ThresholdEntry

__all__ = ["BOOK_FORMAT", "BookSnapshotError", "decode_book", "encode_book"]

BOOK_FORMAT = 2  # of the bytes

_Order: TypeAlias = dict[str, list[str]]  # ids of the children by parent


class BookSnapshotError(RaterError):
    """Bytes that this rater cannot make a rule book of; the log of the rules still can."""


class _Head(msgspec.Struct, frozen=True, array_like=True):
    format: int


class _Snapshot(_Head, frozen=True, array_like=True):
    """Everything in `Tables`, rows in their order; a test compares the names."""

    version: int
    modules: list[ModuleSet]
    services: list[Service]
    fields: list[Field]
    groups: list[Group]
    mappings: list[MappingEntry]
    thresholds: list[ThresholdEntry]
    tiers: list[Tiers]
    scripts: list[ScriptEntry]
    names: list[tuple[str, str, str, str]]  # kind, id of the parent, name, id
    collector_of: dict[str, str]
    collectors: dict[str, bool]
    fields_of: _Order
    mappings_of: _Order
    thresholds_of: _Order
    scripts_of: _Order
    deleted_of: _Order
    in_group: _Order


_encode = msgspec.msgpack.Encoder(decimal_format="string").encode
_head = msgspec.msgpack.Decoder(_Head).decode
_whole = msgspec.msgpack.Decoder(_Snapshot).decode


def encode_book(book: RuleBook) -> bytes:
    """All of the book. The same book, come to in the same way, gives the same bytes."""
    tables = book._tables
    return _encode(
        _Snapshot(
            BOOK_FORMAT,
            book.version,
            list(tables.modules.values()),
            list(tables.services.values()),
            list(tables.fields.values()),
            list(tables.groups.values()),
            list(tables.mappings.values()),
            list(tables.thresholds.values()),
            list(tables.tiers.values()),
            list(tables.scripts.values()),
            [(*key, row_id) for key, row_id in tables.names.items()],
            tables.collector_of,
            tables.collectors,
            *(
                {parent_id: list(children) for parent_id, children in order.items()}
                for order in (
                    tables.fields_of, tables.mappings_of, tables.thresholds_of,
                    tables.scripts_of, tables.deleted_of, tables.in_group,
                )
            ),
        )
    )  # fmt: skip


def decode_book(raw: bytes) -> RuleBook:
    """The book that `encode_book` was given. Raises BookSnapshotError for anything else."""
    try:
        found_format = _head(raw).format
        if found_format != BOOK_FORMAT:
            raise BookSnapshotError(
                f"the rule book's snapshot has format {found_format}, this rater reads format {BOOK_FORMAT}: "
                "the rules are read from the log"
            )
        found = _whole(raw)
    except msgspec.DecodeError as fault:
        raise BookSnapshotError(
            f"the rule book's snapshot is broken ({fault}): the rules are read from the log"
        ) from None
    tables = Tables()
    tables.modules = {row.module: row for row in found.modules}
    tables.services = {row.service_id: row for row in found.services}
    tables.fields = {row.field_id: row for row in found.fields}
    tables.groups = {row.group_id: row for row in found.groups}
    tables.mappings = {row.rule.mapping_id: row for row in found.mappings}
    tables.thresholds = {row.rule.threshold_id: row for row in found.thresholds}
    tables.tiers = {row.service_id: row for row in found.tiers}
    tables.scripts = {row.script.script_id: row for row in found.scripts}
    tables.names = {(kind, parent_id, name): row_id for kind, parent_id, name, row_id in found.names}
    tables.fields_of = _children(found.fields_of)
    tables.mappings_of = _children(found.mappings_of)
    tables.thresholds_of = _children(found.thresholds_of)
    tables.scripts_of = _children(found.scripts_of)
    tables.deleted_of = _children(found.deleted_of)
    tables.in_group = _children(found.in_group)
    tables.collector_of, tables.collectors = found.collector_of, found.collectors
    return RuleBook(found.version, tables)


def _children(order: _Order) -> dict[str, Children]:
    return {parent_id: dict.fromkeys(children, True) for parent_id, children in order.items()}
