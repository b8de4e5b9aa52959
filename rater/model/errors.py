"""The root of every error that rater raises on purpose.

Each message says what was wrong, where, and what to do. The tree so far:

    RaterError
    ├── RejectedError       a record that goes whole to topic `rejected` (rater.model.codec)
    ├── DocumentError       a hand-written file with every fault in it (rater.model.document)
    ├── UnratableError      a point that no rule can read (rater.rating)
    └── …                   each package draws its own branch in the module that defines it
"""

from __future__ import annotations


class RaterError(Exception):
    """Something rater refuses or cannot do; the text is meant for the person who can mend it."""


class RejectedError(RaterError):
    """A record that cannot be taken. Its message is the `reason` written beside the record in `rejected`."""
