"""All operations of /v3, in the order of the document."""

from __future__ import annotations

from rater.api.v3 import alerts, explain, frames, gaps, lines, rules, scopes, state, whatif
from rater.api.v3.operations import Operation

__all__ = ["OPERATIONS"]

OPERATIONS: tuple[Operation, ...] = (
    *scopes.OPERATIONS,
    *frames.OPERATIONS,
    *lines.OPERATIONS,
    *explain.OPERATIONS,
    *gaps.OPERATIONS,
    *alerts.OPERATIONS,
    *state.OPERATIONS,
    *rules.OPERATIONS,
    *whatif.OPERATIONS,
)
