"""Measures without a number: Gnocchi counts NaN and infinities, and leaves their granules out of its answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from collectors.gnocchi.args import GnocchiArgs
from collectors.gnocchi.items import Item, Key, Reading, missing_granules, split_keys
from collectors.gnocchi.judgement import Judged, Wanted
from collectors.times import iso
from rater.model.interval import Interval

__all__ = ["Lost"]


class _Due(NamedTuple):
    """A group that has to have values."""

    key: Key
    spans: list[Interval]
    wanted: Wanted


class Lost:
    """What one metric has to have values of in a period, by scope; made once for all of them."""

    def __init__(self, judged: Judged, args: GnocchiArgs, reading: Reading, scope_key: str) -> None:
        self._args = args
        self._reading = reading
        at = reading.names.index(scope_key)
        self._due: dict[str, list[_Due]] = {}
        for wanted in judged.wanted:
            for key, spans in split_keys(wanted.resource, reading).items():
                self._due.setdefault(str(key[at]), []).append(_Due(key, spans, wanted))

    def of(self, scope_id: str, items: Iterable[Item]) -> dict[Key, str]:
        """The groups of which a granule has measures and no value, each with the reason to put it aside."""
        answered: dict[Key, set[int]] = {}
        for item in items:
            answered.setdefault(item.key, set()).update(item.begins)
        lost: dict[Key, str] = {}
        for due in self._due.get(scope_id, ()):
            known = answered.get(due.key, set())
            lacking = missing_granules(due.wanted.begins, due.wanted.length, due.spans, known)
            if not lacking:
                continue
            looked_at = self._reading.granules == "all" or not known
            # Else at the first one alone; where a revision begins, Gnocchi has a difference for its second at best.
            if looked_at or (not self._args.is_rate_of_groups and lacking[0] < min(known)):
                shown = ", ".join(iso(begin) for begin in lacking[:3])
                lost[due.key] = f"its granules of {shown} have measures and no finite number"
        return lost
