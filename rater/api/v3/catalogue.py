"""All operations of /v3, in the order of the document."""

from __future__ import annotations

from rater.api.v3 import rules, scopes
from rater.api.v3.operations import Operation

__all__ = ["OPERATIONS"]

OPERATIONS: tuple[Operation, ...] = (*scopes.OPERATIONS, *rules.OPERATIONS)
