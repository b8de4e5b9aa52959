"""Why a change of rules that somebody asks for is not made: the reason as a value, and a text for the person.

For `rater.rating.validation` and whoever answers with it: which status goes with a reason is the caller's matter.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import msgspec

from rater.model.errors import RaterError

__all__ = ["Refusal", "RefusalError", "Refused", "refuse_all"]


class Refused(Enum):
    """The reasons. Those that end in `_taken` or `_overlaps` are conflicts with a rule that is there."""

    COST_MISSING = "cost_missing"
    COST_INVALID = "cost_invalid"  # no number, not finite, or more than 12 digits before the point
    LEVEL_MISSING = "level_missing"
    LEVEL_INVALID = "level_invalid"
    TYPE_UNKNOWN = "type_unknown"
    NAME_MISSING = "name_missing"
    DATA_MISSING = "data_missing"  # of a script
    TEXT_EMPTY = "text_empty"
    TEXT_TOO_LONG = "text_too_long"
    DATE_INVALID = "date_invalid"
    START_IN_PAST = "start_in_past"
    END_IN_PAST = "end_in_past"
    END_BEFORE_START = "end_before_start"
    END_MISSING = "end_missing"
    TWO_PARENTS = "two_parents"
    NO_PARENT = "no_parent"
    VALUE_WITH_SERVICE = "value_with_service"
    VALUE_MISSING = "value_missing"
    PARENT_UNKNOWN = "parent_unknown"  # the service or field that a new thing is to belong to
    GROUP_UNKNOWN = "group_unknown"  # the group that a rule is to be in
    RULE_UNKNOWN = "rule_unknown"  # what is to be changed or deleted
    SERVICE_HAS_TIERS = "service_has_tiers"
    NAME_TAKEN = "name_taken"
    VALIDITY_OVERLAPS = "validity_overlaps"  # same value, tenant, parent and group at the same time
    LEVEL_TAKEN = "level_taken"  # same level, tenant, parent and group
    UNGROUPED_OVERLAPS = "ungrouped_overlaps"  # rules that would be alike without their group
    ONLY_END_MAY_CHANGE = "only_end_may_change"  # of a rule that has started
    ALREADY_ENDED = "already_ended"  # it has started and its end is set
    SYNTAX = "syntax"  # of a script
    MODULE_UNKNOWN = "module_unknown"
    PRIORITY_INVALID = "priority_invalid"


class Refusal(msgspec.Struct, frozen=True):
    """A change that is not made. `ids` are those of the things it stands against, if there are any."""

    reason: Refused
    message: str
    ids: tuple[str, ...] = ()


class RefusalError(RaterError):
    """A refusal on its way up; the functions of `rater.rating.validation` return it as a value."""

    def __init__(self, reason: Refused, message: str, *ids: str) -> None:
        self.refusal = Refusal(reason, message, ids)
        super().__init__(message)


def refuse_all(*checks: Callable[[], object]) -> None:
    """Makes all checks. Raises RefusalError for all that fail together, each message once, with the first reason."""
    found: dict[str, Refusal] = {}
    for check in checks:
        try:
            check()
        except RefusalError as refused:
            found.setdefault(refused.refusal.message, refused.refusal)
    if found:
        first = next(iter(found.values()))
        raise RefusalError(first.reason, "; ".join(found), *(each for one in found.values() for each in one.ids))
