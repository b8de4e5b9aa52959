"""Measures without a number: Gnocchi counts NaN and infinities, and leaves their granules out of its answer."""

from __future__ import annotations

from collections.abc import Iterable

from collectors.gnocchi_args import GnocchiArgs
from collectors.gnocchi_items import Item, Key, Reading, missing_granules, split_keys
from collectors.gnocchi_judgement import Judged
from collectors.times import iso

__all__ = ["lost_values"]


def lost_values(
    judged: Judged, items: Iterable[Item], args: GnocchiArgs, reading: Reading, scope_key: str, scope_id: str
) -> dict[Key, str]:
    """The groups of a scope of which a granule has measures and no value, each with the reason to put it aside."""
    if scope_id not in judged.owned:
        return {}
    answered: dict[Key, set[int]] = {}
    for item in items:
        answered.setdefault(item.key, set()).update(item.begins)
    at = reading.names.index(scope_key)
    lost: dict[Key, str] = {}
    for wanted in judged.wanted:
        for key, spans in split_keys(wanted.resource, reading).items():
            if key[at] != scope_id:
                continue
            known = answered.get(key, set())
            lacking = missing_granules(wanted.begins, wanted.length, spans, known)
            if not lacking:
                continue
            looked_at = reading.granules == "all" or not known
            # Else at the first one alone; where a revision begins, Gnocchi has a difference for its second at best.
            if looked_at or (not args.is_rate_of_groups and lacking[0] < min(known)):
                shown = ", ".join(iso(begin) for begin in lacking[:3])
                lost[key] = f"its granules of {shown} have measures and no finite number"
    return lost
