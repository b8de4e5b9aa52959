"""Rules that CloudKitty lets stand side by side, reduced to those that count: the last one loaded wins.

CloudKitty loads rules into dicts at every period: a later rule of the same group and value (or level) replaces an
earlier one that is valid at the same time, but in the place that this one had. Places decide the order of groups, and
so the last digit of a sum; where there is more than one group, the reduced rules keep them too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple
from uuid import UUID, uuid5

import msgspec

from rater.model.rules import MAX_INSTANT, MappingRule, ThresholdRule

__all__ = ["last_mappings", "last_thresholds"]

_FIRST, _EVER = -1, MAX_INSTANT + 1


class _Piece(NamedTuple):
    """A rule for a part of its time, and the place it takes among the others."""

    place: int
    begin: int
    end: int
    number: int


def last_thresholds(rules: Sequence[ThresholdRule], group: Callable[[ThresholdRule], str]) -> list[ThresholdRule]:
    """The thresholds of one parent and tenant, in order, each level of a group once."""
    kept: dict[tuple[str, object], ThresholdRule] = {}
    for rule in rules:
        kept[group(rule), rule.level] = rule  # a dict keeps the place of the first
    return list(kept.values())


def last_mappings(rules: Sequence[MappingRule], group: Callable[[MappingRule], str]) -> list[MappingRule]:
    """The mappings of one parent and tenant, in order, each value of a group once at any time.

    A rule that wins only for a part of its time is cut; its further parts get ids made of its own and no name.
    """
    alike: dict[tuple[str, str], list[int]] = {}
    for number, rule in enumerate(rules):
        alike.setdefault((group(rule), rule.value), []).append(number)
    places_matter = len({name for name, _ in alike}) > 1
    pieces = sorted(piece for numbers in alike.values() for piece in _pieces(rules, numbers, places_matter))
    parts: dict[int, int] = {}
    result = []
    for piece in pieces:
        parts[piece.number] = part = parts.get(piece.number, -1) + 1
        result.append(_part(rules[piece.number], piece, part))
    return result


def _pieces(rules: Sequence[MappingRule], numbers: list[int], places_matter: bool) -> Iterator[_Piece]:
    """Who counts when, among rules of one group and value."""
    if len(numbers) == 1:
        yield _Piece(numbers[0], _begin(rules[numbers[0]]), _end(rules[numbers[0]]), numbers[0])
        return
    last: _Piece | None = None
    for begin, end in pairwise(sorted({bound(rules[number]) for number in numbers for bound in (_begin, _end)})):
        valid = [number for number in numbers if _begin(rules[number]) <= begin and end <= _end(rules[number])]
        if not valid:
            continue
        place = valid[0] if places_matter else valid[-1]
        if last is not None and (last.number, last.place, last.end) == (valid[-1], place, begin):
            last = last._replace(end=end)
            continue
        if last is not None:
            yield last
        last = _Piece(place, begin, end, valid[-1])
    if last is not None:
        yield last


def _part(rule: MappingRule, piece: _Piece, part: int) -> MappingRule:
    start = None if piece.begin == _FIRST else piece.begin
    end = None if piece.end == _EVER else piece.end
    if part == 0:
        return msgspec.structs.replace(rule, start=start, end=end)
    own_id = str(uuid5(UUID(rule.mapping_id), str(part)))
    return msgspec.structs.replace(rule, start=start, end=end, mapping_id=own_id, name=None)


def _begin(rule: MappingRule) -> int:
    return _FIRST if rule.start is None else rule.start


def _end(rule: MappingRule) -> int:
    return _EVER if rule.end is None else rule.end
