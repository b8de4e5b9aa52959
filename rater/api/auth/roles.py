"""Roles by the names that others give them become those that we know."""

from __future__ import annotations

from collections.abc import Iterable

from rater.api.auth.settings import RoleNames
from rater.api.identity import ADMIN, PUSH, READER

__all__ = ["known_roles"]

_OURS = frozenset({ADMIN, READER, PUSH})


def known_roles(names: RoleNames, given: Iterable[str]) -> frozenset[str]:
    """Ours for those that `names` maps to them, and all others as they are, in small letters.

    One that is called as one of ours and is not mapped is left out. Administrators push, too.
    """
    lowered = {name.lower() for name in given}
    mapped = {role for role in _OURS if lowered.intersection(name.lower() for name in getattr(names, role))}
    if ADMIN in mapped:
        mapped.add(PUSH)
    return frozenset((lowered - _OURS) | mapped)
