"""What an operator may choose about /v3."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ["V3Settings"]


class V3Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section `api.v3` of rater.yaml."""

    max_in_flight: Annotated[int, Meta(ge=1, le=1000)] = 256
    """Requests that are worked on; more are answered 429."""
    max_listeners: Annotated[int, Meta(ge=0, le=1000)] = 16
    """Streams of alerts at the same time, each with a connection to Kafka; more are answered 429. 0: none."""
