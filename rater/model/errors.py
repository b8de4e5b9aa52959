"""The root of every error that rater raises on purpose.

Each message says what was wrong, where, and what to do. The tree so far:

    RaterError
    ├── RejectedError       a record that goes whole to topic `rejected` (rater.model.codec)
    ├── DocumentError       a hand-written file with every fault in it (rater.model.document)
    ├── UnratableError      a point that no rule can read (rater.rating)
    └── …                   each package draws its own branch in the module that defines it
"""

from __future__ import annotations

from typing import Literal, TypeAlias

RejectedKind: TypeAlias = Literal[
    "unreadable",  # no record of ours, or of a version that this rater does not know
    "wrong_key",
    "wrong_time",  # a range that cannot be: too long, too far ahead, too far back
    "wrong_unit",
    "unknown_metric",
    "reused_number",  # of a batch, for other content
    "late",  # for frames that have left the state
    "switched_off",  # the scope is not billed in that time
    "rework",  # of a rework that is not under way
    "invalid",  # all else
]
"""Why a record was refused, in a word of these few."""


class RaterError(Exception):
    """Something rater refuses or cannot do; the text is meant for the person who can mend it."""


class RejectedError(RaterError):
    """A record that cannot be taken. Its message is the `reason` written beside the record in `rejected`."""

    def __init__(self, reason: str, kind: RejectedKind = "invalid") -> None:
        """`kind` is what refused records are counted by."""
        super().__init__(reason)
        self.kind: RejectedKind = kind
