"""The history of the rules in the store, for audits in SQL: one row for each version, with the event that made it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rater.store.blocks import Table
from rater.store.client import Store

__all__ = ["RuleEventRow", "newest_rule_version", "write_rule_events"]

_TABLE = Table(
    "rule_events",
    (("version", "UInt32"), ("recorded_at", "UInt32"), ("author", "String"), ("event", "String")),
)


class RuleEventRow(NamedTuple):
    """A version of the rules. `recorded_at` is when its event came into the log, seconds since the epoch, UTC."""

    version: int
    recorded_at: int
    author: str
    event: str
    """The event as JSON."""


def newest_rule_version(store: Store) -> int:
    """The newest version that is stored; 0 if none is."""
    return int(store.rows("SELECT max(version) FROM rule_events")[0][0])


def write_rule_events(store: Store, rows: Sequence[RuleEventRow]) -> None:
    """Inserts consecutive versions as one block. Repeating it changes nothing: a version has one event for ever."""
    token = f"rule-events-{rows[0].version}-{rows[-1].version}"
    store.insert(_TABLE.name, _TABLE.block(zip(*rows, strict=True)), token)
