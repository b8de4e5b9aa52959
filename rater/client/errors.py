"""What the client library raises.

RaterError
└── ClientError
    ├── InvalidItemError       what no service would take; of a list, what stands before it was taken
    ├── RefusedError           the service refused requests for good, with its reasons
    ├── NotAcknowledgedError   the time was up before everything was acknowledged; names what is not
    ├── SpoolError             the spool directory cannot be used
    └── ClosedError            the client was closed already
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rater.client.wire import Problem
from rater.model.errors import RaterError

__all__ = [
    "BatchInfo",
    "ClientError",
    "ClosedError",
    "InvalidItemError",
    "NotAcknowledgedError",
    "RefusedError",
    "SpoolError",
]


class BatchInfo(msgspec.Struct, frozen=True):
    """A request that was made, for people and logs."""

    number: int
    """Counts the requests of this client, or of its spool."""
    producer_id: str
    scopes: dict[str, tuple[int, int]]
    """By scope, its sequence numbers [first, next)."""
    samples: int


class ClientError(RaterError):
    """Something the client library cannot do, or was refused."""


class InvalidItemError(ClientError):
    """A sample, collection or plan that no service would take."""


class SpoolError(ClientError):
    """The spool directory cannot be used."""


class ClosedError(ClientError):
    """The client was closed already."""


class RefusedError(ClientError):
    """The service refused requests for good. What they held is not in the log, and an alert will name their numbers."""

    def __init__(self, refused: Sequence[tuple[BatchInfo, Problem]]) -> None:
        self.refused = tuple(refused)
        texts = []
        for batch, problem in refused:
            faults = "".join(f"\n  {fault.place}: {fault.message}" for fault in problem.faults)
            more = f"\n  and {problem.more_faults} more" if problem.more_faults else ""
            scopes = ", ".join(batch.scopes) or "plans"
            texts.append(
                f"request {batch.number} ({batch.samples} samples of {scopes}) was refused with {problem.status}: "
                f"{problem.detail}{faults}{more}"
            )
        super().__init__("\n".join(texts))


class NotAcknowledgedError(ClientError):
    """The time was up. `batches` are not acknowledged: each may or may not be in the log."""

    def __init__(self, batches: Sequence[BatchInfo], trouble: str) -> None:
        self.batches = tuple(batches)
        self.trouble = trouble
        """What stands in the way, as last seen; empty if nothing was seen."""
        numbers = ", ".join(str(batch.number) for batch in self.batches[:20])
        super().__init__(
            f"{len(self.batches)} requests are not acknowledged ({numbers}{', …' if len(self.batches) > 20 else ''})"
            f"{f': {trouble}' if trouble else ''}"
        )
