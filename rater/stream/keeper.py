"""Keeps one partition: restore, apply, and the checkpoint that makes state, offset and output change at once.

The order is what everything rests on: runs of chunks are safe, then one commit points at the manifest that names them,
under the membership of the restore, and only then the outbox is published (docs/architecture.md, "Checkpoint").
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Iterator

import msgspec

from rater.engine import (
    EngineContext,
    Limits,
    OutboxItem,
    PartitionState,
    Record,
    Step,
    Tally,
    apply,
    check_catalog,
    deciding,
    retry_unpriced,
    tally,
)
from rater.log_fields import of
from rater.rating import Chain
from rater.stream.interfaces import (
    At,
    Clock,
    Committed,
    FencedError,
    Log,
    Pin,
    Pointer,
    Register,
    RestoreRefusedError,
    nowhere,
)
from rater.stream.pace import Pace
from rater.stream.pointer import decode_pointer, encode_pointer, genesis
from rater.stream.snapshots import Snapshots
from rater.stream.traces import Traces

__all__ = ["Keeper", "News"]

log = logging.getLogger(__name__)

MAX_IDLE_SECONDS = 12 * 3600  # topic checkpoints keeps a week: an idle partition's manifest is renewed long before
SLICE_LINES = 1_000  # decided in about 10 ms; a scope that has many more is decided in a thread
SLICE_RECORDS = 20  # applied in some milliseconds


class News(msgspec.Struct):
    """What a keeper did since somebody asked last, for those who count it."""

    revisions: Counter[str] = msgspec.field(default_factory=Counter)
    """Decided, by status."""
    alerts: Counter[str] = msgspec.field(default_factory=Counter)
    """Published, by kind."""
    records: Counter[str] = msgspec.field(default_factory=Counter)
    """Published, by topic."""
    checkpoint_bytes: int = 0
    """Of snapshots, not compressed."""


class _Alert(msgspec.Struct):
    """What of an alert is counted."""

    kind: str


_alert = msgspec.json.Decoder(_Alert).decode


class Keeper:
    """Owns the state of one partition under one membership. Everything but `apply` may take a while.

    `apply` may run between the awaits of a checkpoint: what comes after the cut is left for the next checkpoint, though
    the cut is encoded in slices. A scope that a record is about to change is encoded before. A scope so large that
    deciding it would hold up the event loop is decided in a thread; records that come meanwhile wait for it.
    """

    def __init__(
        self,
        partition: int,
        context: EngineContext,
        log: Log,
        register: Register,
        clock: Clock,
        at: At = nowhere,
        limits: Limits | None = None,
        traces: Traces | None = None,
    ) -> None:
        self.partition = partition
        self.fenced = False
        self.checkpointed_at = 0.0
        self.settled_at = 0.0
        """When a checkpoint last came to its end, or there was nothing to write. Seconds, as all instants here."""
        self._news = News()
        self.pace = Pace()
        """Of its checkpoints: how long one has held up the event loop."""
        self.snapshots = Snapshots(partition, context, log, self.pace, limits)
        self._context = context
        self._log = log
        self._register = register
        self._clock = clock
        self._traces = traces
        self._at = at if traces is None else traces.telling(at)
        self._pin: Pin | None = None
        self._state: PartitionState | None = None
        self._committed_offset = -1
        self._committed_items = 0
        self._torn = False
        self._waiting: deque[Record] | None = None
        """Records that came while a thread is at the state; None if none is."""
        self._lock = asyncio.Lock()

    @property
    def state(self) -> PartitionState:
        """The state; only after `restore`."""
        assert self._state is not None, "restore comes first"
        return self._state

    @property
    def is_restored(self) -> bool:
        """Whether records may be applied."""
        return self._state is not None and not self.fenced

    async def restore(self, partitions: int, pin: Pin) -> None:
        """Reads the state that the register points at, publishes its outbox again, and pins the membership.

        Raises RestoreRefusedError if going on could lose or double anything, SnapshotError for a snapshot made under
        other terms, FencedError and StreamUnavailableError.
        """
        self._at("restore", self.partition)
        self._pin = pin
        committed = await self._register.fetch(self.partition)
        if committed is None:
            committed = await self._begin(partitions, pin)
        pointer = decode_pointer(committed.metadata)
        state = await self._read(pointer, partitions)
        if pointer.chunks == 0:
            state.next_offset = committed.offset
        if state.next_offset != committed.offset:
            raise RestoreRefusedError(
                f"partition {self.partition}: the snapshot reaches to offset {state.next_offset}, the committed offset "
                f"is {committed.offset}. See `rater recover`"
            )
        self._at("restored", self.partition)
        self._state = state
        self._committed_offset = committed.offset
        self.checkpointed_at = self.settled_at = self._clock()
        self._committed_items = len(state.outbox)
        await self._publish(self._committed_items)

    async def _begin(self, partitions: int, pin: Pin) -> Committed:
        """The first start of a partition: the pointer to the empty state, before anything else is written."""
        if await self._log.has_chunks(self.partition):
            raise RestoreRefusedError(
                f"partition {self.partition} has snapshots, but nothing points at them: the consumer group's offsets "
                "are gone (it was empty longer than offsets.retention.minutes?). `rater recover` shows what there is"
            )
        offset = await self._log.first_offset(self.partition)
        first = Committed(offset, encode_pointer(genesis(partitions)))
        await self._register.commit(self.partition, first, pin)
        return first

    async def _read(self, pointer: Pointer, partitions: int) -> PartitionState:
        if pointer.partitions != partitions:
            raise RestoreRefusedError(
                f"topic usage had {pointer.partitions} partitions and now has {partitions}: scopes would change "
                "partition and be billed twice. Start with a new kafka.prefix and replay"
            )
        if pointer.chunks == 0:
            return PartitionState(self.partition, partitions, self._context.settings.period)
        state = await self.snapshots.read(pointer, partitions)
        check_catalog(state, self._context.catalog)
        retry_unpriced(state)
        return state

    def apply(self, record: Record) -> bool:
        """Takes a record into the state; False if it was there before. Raises LogGapError.

        It changes no scope but that of its key. After any other error no checkpoint is made any more. While a thread is
        at the state the record waits, and so do those after it: `checkpoint` takes them in, and raises in its place.
        """
        if self._waiting is not None:
            self._waiting.append(record)
            return True
        return self._apply(record)

    def _apply(self, record: Record) -> bool:
        scope_id = _scope_of(record)
        self.snapshots.before(scope_id)
        self._torn, was_torn = True, self._torn
        if self._traces is None:
            taken = apply(self.state, record, self._context)
        else:
            taken = self._traces.applied(record, scope_id, lambda: apply(self.state, record, self._context))
        self._torn = was_torn
        if scope_id in self.state.scopes:
            self.snapshots.touch(scope_id)
        return taken

    def is_due(self) -> bool:
        """Whether a checkpoint would write anything: records, output, or a snapshot that grows old.

        One whose output is published by now is renewed too, so that a quiet partition's output is not repeated by
        whoever restores it.
        """
        state = self.state
        changed = state.next_offset != self._committed_offset or bool(state.outbox)
        changed = changed or self._committed_items > 0
        now = self._clock()
        return changed or now - self.checkpointed_at > MAX_IDLE_SECONDS or self.snapshots.is_ageing(int(now))

    async def checkpoint(self, rules: Chain) -> None:
        """Decides what is due, and makes all of it durable and public, in this order.

        Raises FencedError if the partition belongs to somebody else, or may: the state is dead then. Raises
        StreamUnavailableError if Kafka does not take what is written: calling again is safe.
        """
        async with self._lock:
            if self.fenced or self._state is None or self._pin is None:
                return
            now = int(self._clock())
            await self._decide(now, rules)
            if self._torn:
                return
            if not self.is_due():
                if self._register.log_end(self.partition) is not None:  # else Kafka is away, and nothing becomes due
                    self.settled_at = self._clock()
                return
            self._at("cut", self.partition)
            offset, items = self._state.next_offset, len(self._state.outbox)
            pointer = await self.snapshots.write(self._state, items, now)
            self._news.checkpoint_bytes += self.snapshots.written_bytes
            self._at("chunks_written", self.partition)
            await self._commit(Committed(offset, encode_pointer(pointer)))
            self.snapshots.committed()
            self._committed_items = items
            await self._publish(items)
            self.settled_at = self._clock()

    async def _decide(self, now: int, rules: Chain) -> None:
        """Decides scope by scope, with pauses; an error leaves a state that no checkpoint is made of."""
        self.pace.begin()
        was_torn = self._torn
        log_end = self._register.log_end(self.partition)
        caught_up = log_end is not None and self.state.next_offset >= log_end
        steps = deciding(self.state, now, rules, self._context, caught_up=caught_up)
        is_long = False
        while not self._torn:
            self._torn = True
            decided, began = len(self.state.outbox), self._clock() if self._traces is not None else 0.0
            step = await self._in_thread(steps) if is_long else next(steps, None)
            self._torn = was_torn
            if step is None:
                break
            self._news.revisions.update(step.statuses)
            if step.scope_id is not None and step.statuses:
                told = of(scope_id=step.scope_id, partition=self.partition)
                log.debug("revisions decided: %s", ", ".join(step.statuses), extra=told)
            if step.scope_id is not None:
                self.snapshots.touch(step.scope_id)
                if self._traces is not None:
                    self._traces.decided(self.state.outbox, decided, step.scope_id, began)
            if is_long:
                await self._take_waiting()
            is_long = step.next_is_long
            await self.pace(0 if is_long else step.work / SLICE_LINES)
        self.pace.end()

    async def _in_thread(self, steps: Iterator[Step]) -> Step | None:
        """The next step. If we are cancelled meanwhile, the state is torn and nobody uses it any more."""
        self._waiting = deque()
        self.pace.end()
        step = await asyncio.to_thread(next, steps, None)
        self.pace.begin()
        return step

    async def _take_waiting(self) -> None:
        """The records that came while the thread was at work, in order; others may come while it is done."""
        while self._waiting:
            self._apply(self._waiting.popleft())
            await self.pace(1 / SLICE_RECORDS)
        self._waiting = None

    async def _commit(self, committed: Committed) -> None:
        assert self._pin is not None
        assert committed.offset >= self._committed_offset, "the broker does not refuse an offset that goes back"
        self._at("before_commit", self.partition)
        try:
            await self._register.commit(self.partition, committed, self._pin)
        except FencedError:
            self.fenced = True
            self.checkpointed_at = self._clock()
            raise
        self._at("committed", self.partition)
        self._committed_offset = committed.offset
        self.checkpointed_at = self._clock()

    async def _publish(self, items: int) -> None:
        """Publishes the first `items` of the outbox, which a committed snapshot holds, and drops them."""
        outbox = self.state.outbox
        if items:
            self._at("before_publish", self.partition)
            await self._log.publish(self.partition, outbox[:items])
            self._at("published", self.partition)
            self._note(outbox[:items])
        del outbox[:items]

    # --- what others are told

    @property
    def lag(self) -> int | None:
        """Records of the log that are not applied yet; None if the broker was not heard of for long."""
        log_end = self._register.log_end(self.partition)
        return None if log_end is None else max(0, log_end - self.state.next_offset)

    def tally(self) -> Tally:
        """Counts what is in the state now."""
        return tally(self.state, int(self._clock()), self._context)

    def news(self) -> News:
        """What happened since this was asked last."""
        found, self._news = self._news, News()
        return found

    def _note(self, published: list[OutboxItem]) -> None:
        self._news.records.update(item.topic for item in published)
        self._news.alerts.update(_alert(item.value).kind for item in published if item.topic == "alerts")


def _scope_of(record: Record) -> str:
    """Of the record's key. One that is no text is refused, whatever is in the record."""
    return (record.key or b"").decode(errors="replace")
