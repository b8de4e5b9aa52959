"""Section `rework` of rater.yaml."""

from __future__ import annotations

import msgspec

__all__ = ["ReworkSettings"]


class ReworkSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section `rework` of rater.yaml: what is rated again by itself."""

    late_usage: bool = True
    """Whether frames are rated again when usage, or a plan, comes too late for them.

    Each leaves a record, by the author rater.
    """
