"""How often a sink audits what it has stored."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ["AuditSettings"]


class AuditSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section `audit` of rater.yaml."""

    interval: Annotated[int, Meta(ge=0, le=7 * 86_400)] = 3600
    """Seconds between two audits in the sink's process; 0: none. `rater audit` can be run at any time."""
    look_back: Annotated[int, Meta(ge=0, le=366 * 86_400)] = 86_400
    """Seconds: each audit looks at the frames closed since the one before began, and so much earlier."""
