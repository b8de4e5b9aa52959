"""The errors of the collectors, one branch of the tree that `rater.model.errors` begins.

    CollectorError
    ├── PublishError         Kafka did not confirm what was to be published
    │   ├── OversizedError   an item that no record can hold: trying again is of no use
    │   └── SeatLostError    this replica has to join its group anew
    ├── SettingsError        a file or plug-in that the settings name cannot be used
    ├── SourceError          no answer, or not a whole one: becomes a `CollectionFailed`
    │   ├── SourceAwayError  nothing can be asked at all right now: the rest of the round is not tried
    │   ├── SourceFaultError the source failed at this one question: the same may be answered the next time
    │   ├── NotSettledError  the source may still receive samples of that period: ask again later
    │   └── UnfitSourceError the source can never answer as asked: refused at start
    └── ReplayError          a usage file that cannot be replayed at all

A metrics.yml with faults raises `rater.model.document.DocumentError`.
"""

from __future__ import annotations

from rater.model.errors import RaterError

__all__ = [
    "CollectorError",
    "NotSettledError",
    "OversizedError",
    "PublishError",
    "ReplayError",
    "SeatLostError",
    "SettingsError",
    "SourceAwayError",
    "SourceError",
    "SourceFaultError",
    "UnfitSourceError",
]


class CollectorError(RaterError):
    """Something that a collector refuses or cannot do."""


class PublishError(CollectorError):
    """Kafka did not confirm a record. What was not confirmed may still arrive: publish it again as a new attempt."""


class SeatLostError(PublishError):
    """This replica is no member of its group of collectors any more, or the group has not come to rest: join anew."""


class OversizedError(PublishError):
    """One item of an answer is too large for a record."""


class SettingsError(CollectorError):
    """A file or a plug-in that section `collect` of rater.yaml names cannot be used."""


class SourceError(CollectorError):
    """A source gave no answer, or not a whole one. The message becomes the reason of a `CollectionFailed`."""


class SourceAwayError(SourceError):
    """The source cannot be reached or refuses us: other questions would fare no better."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        """`retry_after`: for so many seconds the source asks to be left in peace (HTTP's Retry-After); 0 if not."""
        super().__init__(message)
        self.retry_after = retry_after


class SourceFaultError(SourceError):
    """The source failed at this question by a fault of its own (HTTP's status 500); it says nothing of others."""


class NotSettledError(SourceError):
    """Samples of the period may still arrive at the source, so an answer would prove nothing yet."""


class UnfitSourceError(SourceError):
    """The source can never answer what it would be asked: wrong metric, retention too short, scrapes too rare."""


class ReplayError(CollectorError):
    """A usage file that cannot be replayed as a whole. A single bad line is reported instead, and the rest taken."""
