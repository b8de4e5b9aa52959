"""What the shell needs of the world: a log, a register, a clock. Kafka stands behind them, or a test's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from rater.engine import OutboxItem, Run
from rater.model.errors import RaterError

__all__ = [
    "At",
    "Clock",
    "CommitUnknownError",
    "Committed",
    "FencedError",
    "Log",
    "Pin",
    "Pointer",
    "Register",
    "RestoreRefusedError",
    "Run",
    "StreamUnavailableError",
    "nowhere",
]

Clock = Callable[[], float]
"""Seconds since the epoch."""
At = Callable[[str, int], None]
"""Told at each named point of the protocol, with the partition: tests kill and stall there, traces record it."""


def nowhere(point: str, partition: int) -> None:
    """The `At` of a service that nobody watches."""


class StreamUnavailableError(RaterError):
    """Kafka did not do what was asked, and may later. Nothing is lost: the next checkpoint tries again."""


class FencedError(RaterError):
    """Another worker owns the partition now: what is in memory is worth nothing any more."""


class CommitUnknownError(FencedError):
    """A commit was sent and never answered. It may still arrive, so this membership must not commit again."""


class RestoreRefusedError(RaterError):
    """Going on from here would lose or double usage; a person has to decide. Names the repair."""


class Pin(NamedTuple):
    """The group membership under which a partition's state was restored. Commits are valid under no other."""

    generation: int
    member_id: str


class Committed(NamedTuple):
    """What the register holds for one partition."""

    offset: int
    metadata: str


class Pointer(NamedTuple):
    """Where the snapshot lies that belongs to a committed offset; `chunks` is 0 for the empty state.

    It is the run of the manifest, which names the runs of everything else. A run is never changed, and one that no
    manifest names is never read: so the one commit that carries the pointer changes all of the state at once.
    """

    snapshot_id: str
    first_offset: int
    chunks: int
    crc32: int
    partitions: int

    @property
    def run(self) -> Run:
        """The chunks it points at."""
        return Run(self.snapshot_id, self.first_offset, self.chunks, self.crc32)


class Register(Protocol):
    """One value per partition, replaced atomically and only by the member that owns the partition."""

    def pin(self) -> Pin:
        """The membership of this moment."""

    async def fetch(self, partition: int) -> Committed | None:
        """What is committed; None if nothing ever was. Raises StreamUnavailableError."""

    def log_end(self, partition: int) -> int | None:
        """The offset after the newest record of the partition of `usage`; None if nobody could be asked just now."""

    async def commit(self, partition: int, committed: Committed, pin: Pin) -> None:
        """Replaces the value. Raises FencedError, CommitUnknownError if no answer came."""


class Log(Protocol):
    """Snapshot chunks, and the topics that rater publishes to.

    A checkpoint writes several runs, one after the other: what changed in the scopes, the outbox, and last the manifest
    that names every run that is still needed, of earlier checkpoints too. A log keeps them by `run_id`, which is
    unique, and gives back those it is asked for; it need not know what is in them.
    """

    async def write_chunks(self, partition: int, run_id: str, chunks: Sequence[bytes]) -> int:
        """Appends chunks and waits until all are safe; the offset of the first. Raises StreamUnavailableError."""

    async def read_chunks(self, partition: int, runs: Sequence[Run]) -> list[list[bytes]]:
        """The chunks of each run in order. Raises RestoreRefusedError if any is not there."""

    async def has_chunks(self, partition: int) -> bool:
        """Whether any snapshot was ever begun for the partition."""

    async def first_offset(self, partition: int) -> int:
        """The oldest offset that `usage` still has."""

    async def publish(self, partition: int, items: Sequence[OutboxItem]) -> None:
        """Appends to `rated`, `alerts` and `rejected`, in order, and waits until all is safe."""
