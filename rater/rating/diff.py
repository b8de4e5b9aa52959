"""What would change in a rule book, as values to print and as the events to write."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from rater.model.codec import encode_json
from rater.model.errors import RaterError
from rater.model.rules import Change, RuleEvent

__all__ = ["ChangeTooLargeError", "Diff", "DiffEntry", "Sign", "What"]

_VERSION_DIGITS = 16  # of `expected_version`, which is at most 2**53

Sign: TypeAlias = Literal["+", "-", "~"]
What: TypeAlias = Literal["module", "group", "service", "field", "mapping", "threshold", "tiers", "script"]


class ChangeTooLargeError(RaterError):
    """A change that no event can carry."""


class DiffEntry(msgspec.Struct, frozen=True):
    """One line of a plan: `place` names the thing, `before` and `after` say what it is, empty if it is not."""

    sign: Sign
    what: What
    place: str
    before: str
    after: str


class Diff(msgspec.Struct, frozen=True):
    """What leads from version `expected_version` of a book to a document; false if nothing does."""

    expected_version: int
    changes: tuple[Change, ...]
    entries: tuple[DiffEntry, ...]

    def __bool__(self) -> bool:
        return bool(self.changes)

    @property
    def counts(self) -> dict[str, int]:
        """How many entries there are of each sign."""
        return {sign: sum(entry.sign == sign for entry in self.entries) for sign in ("+", "-", "~")}

    def event(self, author: str, reason: str, created_at: int) -> RuleEvent:
        """All changes as one event, which applies as a whole or not at all. `created_at` in seconds UTC."""
        assert self.changes, "a diff without changes makes no event"
        return RuleEvent(self.expected_version, author, reason, created_at, self.changes)

    def events(self, author: str, reason: str, created_at: int, max_bytes: int) -> list[RuleEvent]:
        """The changes as consecutive events of at most `max_bytes` each as JSON, one for each version; none if empty.

        Each applies as a whole. Several together do not: whoever writes them waits for each to apply, and if somebody
        else changes the rules in between, makes a new plan from where the book then is. Raises ChangeTooLargeError.
        """
        empty = len(encode_json(RuleEvent(0, author, reason, created_at, ()))) + _VERSION_DIGITS
        parts: list[list[Change]] = []
        size = max_bytes
        for change in self.changes:
            needed = len(encode_json(change)) + 1  # and a comma
            if empty + needed > max_bytes:
                raise ChangeTooLargeError(
                    f"a change of kind {change.__struct_config__.tag} has {needed} bytes: an event holds {max_bytes}, "
                    f"{empty} of them for author and reason; split the script, or give a shorter reason"
                )
            if size + needed > max_bytes:
                parts.append([])
                size = empty
            parts[-1].append(change)
            size += needed
        return [
            RuleEvent(version, author, reason, created_at, tuple(part))
            for version, part in enumerate(parts, self.expected_version)
        ]
