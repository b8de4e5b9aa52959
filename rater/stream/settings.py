"""What an operator may choose about the worker process."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ["WorkerSettings"]


class WorkerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section `worker` of rater.yaml."""

    checkpoint_interval: Annotated[float, Meta(ge=0.1, le=300)] = 5.0
    """Seconds between checkpoints: the delay of results, and what is read again after a crash."""
    session_timeout: Annotated[float, Meta(ge=1, le=300)] = 15.0
    """Seconds without a heartbeat until the partitions go to others. Below 15 a broker's restart evicts everybody."""
    instance_id: str = ""
    """Static membership: a name that is this replica's own, kept over restarts. Empty: none."""
