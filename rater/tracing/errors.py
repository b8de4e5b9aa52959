"""What keeps traces from being made."""

from __future__ import annotations

from rater.model.errors import RaterError

__all__ = ["TracingError"]


class TracingError(RaterError):
    """`observe.tracing` cannot be followed; the message says what to change."""
