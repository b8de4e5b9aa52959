"""How a collector does: what its health endpoint and its metrics are made of."""

from __future__ import annotations

import msgspec

__all__ = ["CollectorStatus"]


class CollectorStatus(msgspec.Struct, frozen=True):
    """After a round. Times in seconds since the epoch."""

    scopes: int = 0
    partitions: int = 0
    """Of topic `usage`, whose scopes are this replica's own."""
    published: int = 0
    failed: int = 0
    skipped: int = 0
    """Points that a `skip_datapoints_expression` left out of what was published."""
    queries: int = 0
    """Requests sent to the source, as far as it counts them."""
    open_periods: int = 0
    """Periods of a scope and metric that are not proven whole."""
    oldest_open: int = 0
    reached: int = 0
    complete_until: dict[str, int] = {}
    """By metric: every period of all scopes that ends here or before is proven whole."""
    behind: dict[str, int] = {}
    """By metric: seconds since then."""
    silent: bool = False
    """It was told that the source is silent, and not yet that it is back."""
    ended_at: int = 0
    """When the round ended."""
    fault: str = ""
    """Why the last round did not come to its end; empty if it did."""
