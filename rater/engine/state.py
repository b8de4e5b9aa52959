"""The state of one `usage` partition: a pure fold over its log, and all of it goes into the snapshot.

`PartitionState` holds scopes, a scope holds frames, a frame holds slices: collections cut to the frame's period.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from rater.engine.aggregate import Acc
from rater.model.codec import Headers
from rater.model.interval import Interval
from rater.model.metric import Aggregation
from rater.model.rated import Gap, MetricTotal
from rater.model.switches import Pauses
from rater.model.usage import Collection, QuarantinedItem, ReworkKind

__all__ = [
    "FOREVER",
    "Counts",
    "Frame",
    "MonthUse",
    "OutboxItem",
    "PartitionState",
    "Producer",
    "Record",
    "Rework",
    "Scope",
    "Slice",
]

FOREVER = 253_402_300_800  # the year 10000: the end of an expectation that has none


class Record(msgspec.Struct, frozen=True):
    """One record of a `usage` partition as the log holds it. `timestamp_ms` is the broker's."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes
    headers: Headers = ()


class OutboxItem(msgspec.Struct, frozen=True, array_like=True):
    """Final bytes for one of our topics; published only after the checkpoint that holds them is committed."""

    topic: Literal["rated", "alerts", "rejected"]
    key: bytes | None
    value: bytes
    headers: Headers


class Slice(msgspec.Struct, array_like=True):
    """One collection, cut to one period; with `proof: samples` everything one source pushed for the period."""

    begin: int
    end: int
    attempt: int
    collection_id: str
    parts: int
    """0 for pushed samples: there is no whole that could be incomplete."""
    received: list[Interval]
    """Numbers of the parts that are in, as a normal list."""
    covers: list[Interval]
    proof: Literal["proven", "weak"]
    samples: int = 0
    first_stray: int = FOREVER
    last_stray: int = -1
    """Begins of the first and the last sample outside `covers`; with `covers` they say what the slice takes."""
    quarantined: list[QuarantinedItem] = []
    points: dict[bytes, Acc] = {}
    """By line id."""

    @property
    def complete(self) -> bool:
        """Whether all parts are in."""
        return self.parts == 0 or self.received == [(0, self.parts)]

    @property
    def rank(self) -> tuple[int, str]:
        """Of two collections of one range the one with the greater rank holds."""
        return self.attempt, self.collection_id


class Rework(msgspec.Struct, array_like=True):
    """A rework of a closed frame that is under way: the frame is not rated before all of it is there."""

    rework_id: str
    kind: ReworkKind
    author: str
    reason: str
    begun_ms: int
    """Broker's time of its begin."""
    reopened: bool
    """The frame had left the state: it holds nothing but what this rework brings."""
    base_revision: int
    rule_version: int
    """Of the base revision, as are the totals."""
    totals: list[MetricTotal]
    records: int = 0
    """How many of its records came."""
    ended: bool = False
    """All of them came."""
    held: list[Collection] = []
    """Of a frame that is in the state: what its collections say that is new, until all of them came."""
    surplus: dict[str, dict[str, int]] = {}
    """Of such a frame by metric and source: pushed samples that came in the rework, less those that it had before."""


class Frame(msgspec.Struct, array_like=True):
    """Everything of one scope in one period. `revision` is -1 until it closes for the first time."""

    period_begin: int
    touched_ms: int
    """Broker's time of the last record that touched it, or of the plan that made it."""
    slices: dict[str, dict[str, list[Slice]]] = {}
    """By metric and source."""
    failures: dict[str, dict[str, str]] = {}
    """By metric and source: why there was no answer, last reason known."""
    forced: str = ""
    """Who closed it by force, and why."""
    dirty: bool = True
    """Something came in since `decide` last looked at it."""
    revision: int = -1
    closed_at: int = 0
    """When it was first closed."""
    digest: bytes = b""
    """Of what was last published: a revision that would say the same is not published."""
    emitted: dict[str, list[bytes]] = {}
    """Line ids of the last revision by metric: a line that vanishes is repeated with zero."""
    gaps: list[Gap] = []
    """Gaps that are open."""
    expected_until: int = 0
    """What its last revision said of the end of all that is expected of the scope."""
    unpriced: bool = False
    """Some of its usage has no price for want of a rule or script that can read it: tried again with other rules."""
    retry_at: int = 0
    """Seconds: when it is tried again by itself, since it failed by chance; 0 never."""
    failed: bool = False
    """Its last revision says that its rating failed."""
    used: dict[str, Decimal] = {}
    """What its last revision adds to the counts of graduated prices."""
    totals: list[MetricTotal] = []
    """Of its last revision, as is the version of the rules: what a rework starts from."""
    rule_version: int = 0
    rework: Rework | None = None
    status: str = ""
    """Of its last revision; empty while it has none, and if who made that did not note it (an earlier release)."""

    @property
    def is_closed(self) -> bool:
        """Whether at least one revision of it exists."""
        return self.revision >= 0


class MonthUse(msgspec.Struct, array_like=True):
    """What frames that have left the state used of graduated prices in one month."""

    evicted_at: int
    """When the last of them left."""
    used: dict[str, dict[int, Decimal]] = {}
    """Quantity by count and period begin."""


class Producer(msgspec.Struct, array_like=True):
    """Which batches of one producer were seen, so that a repeated one is known."""

    seen: list[Interval]
    """Sequence numbers, as a normal list."""
    last_ms: int
    recent: dict[int, int] = {}
    """Checksums of the last batches by number: a number used again for other content is no repetition."""
    hole_ms: int = 0
    """Broker's time at which numbers were first skipped that nobody was told of; 0 if there are none."""
    told_until: int = 0
    """Numbers below it that are missing were told."""
    refused: list[Interval] = []
    """Numbers of batches that came and were refused, as a normal list."""


class Scope(msgspec.Struct, array_like=True):
    """One scope: what is expected of it and the frames that are still in the state."""

    frames: dict[int, Frame] = {}
    """By period begin."""
    series: dict[bytes, bytes] = {}
    """Canonical series by line id, shared by all frames."""
    plans: dict[str, dict[str, list[Interval]]] = {}
    """Expected intervals by source and metric, as the source's plans say."""
    seen: dict[str, dict[str, int]] = {}
    """For sources without a plan: since when they send a metric."""
    producers: dict[str, Producer] = {}
    evicted: list[Interval] = []
    """Periods whose frames were closed and have left the state."""
    made_until: int = 0
    """Every expected frame that ends by then has been made; moved back when expectations change."""
    planned_ms: int = 0
    """Broker's time of the last change of what is expected."""
    dirty: bool = True
    wake_at: int = 0
    """No frame of the scope can change by the clock alone before this second."""
    months: dict[int, MonthUse] = {}
    """By begin of the month."""
    forgotten: list[int] = []
    """Begins of months of which graduated prices were counted once, and no longer are."""
    revised: dict[int, tuple[int, int]] = {}
    """By period begin, of frames that have left the state some days ago at most: last revision, if not 0, and when."""
    pauses: Pauses = Pauses()
    """When nothing is expected of it, since it is switched off, or was."""


class Counts(msgspec.Struct, array_like=True):
    """What became of the records of the log. It follows from it alone, so who takes the partition over counts on."""

    parts: int = 0
    """Of collections that were taken."""
    samples: int = 0
    """In them."""
    repeated: int = 0
    """Parts that were there before."""
    rejected: dict[str, int] = {}
    """Records by why they were refused."""


class PartitionState(msgspec.Struct, array_like=True):
    """Everything the engine knows of one partition."""

    partition: int
    partitions: int
    """How many partitions `usage` has: scopes move when that changes."""
    period: int
    next_offset: int = -1
    """The offset after the last applied record; -1 before the first."""
    scopes: dict[str, Scope] = {}
    outbox: list[OutboxItem] = []
    aggregations: dict[str, Aggregation] = {}
    """By metric: how the points in the state were made; another way cannot go on from them."""
    decided_at: int = 0
    """Seconds: `now` of the last `decide`; decisions never go back in time."""
    rule_version: int = -1
    """Of the rule book that frames without a price were last tried with."""
    last_ms: int = 0
    """The latest of the broker's times of all records that were applied."""
    counts: Counts = msgspec.field(default_factory=Counts)
    heard: dict[str, int] = {}
    """By source: the broker's time of the last part that was taken of it."""
