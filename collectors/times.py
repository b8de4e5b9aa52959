"""How times are shown to people: ISO 8601, UTC."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["iso"]


def iso(instant: float) -> str:
    """Seconds since the epoch as `2026-01-01T00:00:00Z`; fractions are cut off."""
    return datetime.fromtimestamp(int(instant), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
