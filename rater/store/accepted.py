"""Gaps that somebody has decided to live with: their rows, and reading them."""

from __future__ import annotations

import msgspec

from rater.model.rated import Alert, AlertKind
from rater.store.blocks import LAST_INSTANT, Row, Table
from rater.store.client import Store
from rater.store.errors import UnstorableError

__all__ = ["ACCEPTED", "AcceptedGap", "accepted_gaps", "accepted_row"]

ACCEPTED = Table(
    "accepted_gaps",
    (
        ("scope_id", "LowCardinality(String)"),
        ("period_begin", "UInt32"),
        ("gap_id", "FixedString(16)"),
        ("accepted_at", "UInt32"),
        ("author", "String"),
        ("reason", "String"),
    ),
)
_ACCEPTED = """
SELECT scope_id, toUInt32(period_begin), lower(hex(gap_id)), toUInt32(accepted_at), author, reason
FROM accepted_gaps FINAL
WHERE scope_id >= {first_scope:String} AND ({last_scope:String} = '' OR scope_id <= {last_scope:String})
    AND period_begin >= {begin:UInt32} AND period_begin < {end:UInt32}
ORDER BY scope_id, period_begin, gap_id
"""


class AcceptedGap(msgspec.Struct, frozen=True):
    """Who has decided to live with a gap, when (seconds since the epoch) and why."""

    scope_id: str
    period_begin: int
    gap_id: str
    accepted_at: int
    author: str
    reason: str


def accepted_row(alert: Alert) -> Row | None:
    """The row of ACCEPTED for an alert that a gap is accepted; None for every other alert. Raises UnstorableError."""
    if alert.kind is not AlertKind.GAP_ACCEPTED:
        return None
    for instant in (alert.period_begin, alert.raised_at):
        if not 0 <= instant <= LAST_INSTANT:
            raise UnstorableError(f"the instant {instant} cannot be stored: only those from 1970 to 2106 can")
    key = (alert.scope_id, alert.period_begin, bytes.fromhex(alert.alert_id))
    return (*key, alert.raised_at, alert.author, alert.reason)


def accepted_gaps(
    store: Store, first_scope: str = "", last_scope: str = "", begin: int = 0, end: int = LAST_INSTANT
) -> list[AcceptedGap]:
    """Those of periods that begin within `[begin, end)`, by scope and period; an empty `last_scope` is no bound."""
    asked = {"first_scope": first_scope, "last_scope": last_scope, "begin": begin, "end": min(end, LAST_INSTANT)}
    return [AcceptedGap(*row) for row in store.rows(_ACCEPTED, asked)]
