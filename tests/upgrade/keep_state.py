"""Writes a state as a release leaves it when it is killed between a commit and its output, and what it did after that.

Run by `make upgrade-previous` with the code of the release that is kept, so it imports nothing of the tests:
`PYTHONPATH=RELEASE python tests/upgrade/keep_state.py FILE`. Log and register are in memory, the clock stands still:
the same release writes the same file but for the names of runs.
"""

from __future__ import annotations

import asyncio
import gzip
import sys
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from rater.engine import EngineContext, EngineSettings, OutboxItem, Record
from rater.model.codec import CONTENT_TYPE, MSGPACK, encode_msgpack
from rater.model.interval import Interval
from rater.model.metric import Aggregation, Catalog, Coverage, MetricSpec
from rater.model.rules import MappingCreated, MappingRule, ModuleSet, RuleEvent, Service, ServiceCreated
from rater.model.usage import Collection, CollectionFailed, FrameForced, Sample, ScopePlan, Series, UsageRecord
from rater.rating import Chain, RuleBook
from rater.stream.interfaces import Committed, Pin, RestoreRefusedError, Run
from rater.stream.keeper import Keeper

HOUR = 3600
START = 1_767_225_600  # 2026-01-01T00:00:00Z
SCOPES = ("A", "B", "C")
PARTITION, PARTITIONS = 0, 1
CUT = 6 * HOUR  # when the release is killed, after START
END = 12 * HOUR
CONTEXT = EngineContext(
    EngineSettings(),
    Catalog(
        [
            MetricSpec("cpu"),
            MetricSpec("disk", aggregation=Aggregation.MAX),
            MetricSpec("net", proof=Coverage.SAMPLES, resolution=60),
        ]
    ),
)


class Kept(msgspec.Struct):
    """The file."""

    release: str
    log: list[Record]
    """All of the partition of `usage`; the first `offset` of them are in the state."""
    offset: int
    metadata: str
    """As committed: the pointer to the snapshot."""
    chunks: dict[str, list[bytes]]
    """By run: what topic `checkpoints` holds."""
    outbox: list[OutboxItem]
    """What was not published when it was killed; whoever restores the state publishes it."""
    then: list[OutboxItem]
    """What the release itself published of the rest of the log, to END."""


class KilledError(Exception):
    """In place of SIGKILL."""


class Memory:
    """Log and register. Follows the protocols `Log` and `Register` of `rater.stream.interfaces`."""

    def __init__(self) -> None:
        self.chunks: dict[str, list[bytes]] = {}
        self.published: list[OutboxItem] = []
        self.committed: Committed | None = None
        self.end = 0

    async def write_chunks(self, partition: int, run_id: str, chunks: Sequence[bytes]) -> int:
        """At the offset of how many there were."""
        offset = sum(map(len, self.chunks.values()))
        self.chunks[run_id] = list(chunks)
        return offset

    async def read_chunks(self, partition: int, runs: Sequence[Run]) -> list[list[bytes]]:
        """Those of each run."""
        missing = [run for run in runs if run.run_id not in self.chunks]
        if missing:
            raise RestoreRefusedError(f"{missing} are not there")
        return [self.chunks[run.run_id] for run in runs]

    async def has_chunks(self, partition: int) -> bool:
        """Whether there is any."""
        return bool(self.chunks)

    async def first_offset(self, partition: int) -> int:
        """Nothing was deleted."""
        return 0

    async def publish(self, partition: int, items: Sequence[OutboxItem]) -> None:
        """Kept in order."""
        self.published += items

    def pin(self) -> Pin:
        """The only membership."""
        return Pin(1, "kept")

    def log_end(self, partition: int) -> int | None:
        """After what was applied last."""
        return self.end

    async def fetch(self, partition: int) -> Committed | None:
        """The last."""
        return self.committed

    async def commit(self, partition: int, committed: Committed, pin: Pin) -> None:
        """Nobody else is there."""
        self.committed = committed


def rules() -> Chain:
    """A price for each metric."""
    changes: list[Any] = [ModuleSet("hashmap", True)]
    for number, (metric, price) in enumerate({"cpu": "0.1", "disk": "0.0007", "net": "0.003"}.items()):
        service = f"00000000-0000-4000-8000-00000000000{number}"
        changes.append(ServiceCreated(Service(service, metric)))
        mapping = MappingRule(f"10000000-0000-4000-8000-00000000000{number}", Decimal(price), service_id=service)
        changes.append(MappingCreated(mapping))
    book, _ = RuleBook.empty().apply(
        RuleEvent(expected_version=0, author="kept", reason="", created_at=0, changes=changes)
    )
    return Chain(book)


async def lived(memory: Memory, log: Sequence[Record], until: int, *, killed: bool = False) -> None:
    """Restores what there is and goes on with the rest of `log` to `until` seconds after START, hour by hour.

    `killed`: the last checkpoint is committed and its output is not published any more.
    """
    now = START

    def at(point: str, _: int) -> None:
        if killed and point == "committed" and now == START + until:
            raise KilledError

    keeper = Keeper(PARTITION, CONTEXT, memory, memory, lambda: float(now), at)
    await keeper.restore(PARTITIONS, memory.pin())
    first = keeper.state.next_offset
    for hour in range(0, until + HOUR, HOUR):
        now = START + hour
        for record in log[first:]:
            if record.offset >= keeper.state.next_offset and record.timestamp_ms <= now * 1000:
                keeper.apply(record)
                memory.end = record.offset + 1
        await keeper.checkpoint(rules())


def usage() -> Iterator[tuple[int, UsageRecord]]:
    """When each record comes, in hours after START, and what it is: in order."""
    for scope in SCOPES:
        yield 0, ScopePlan("prom", scope, START, None if scope != "C" else START + 8 * HOUR, ["cpu", "disk"])
    for hour in range(10):
        for scope in SCOPES:
            begin = START + hour * HOUR
            hole = scope == "A" and hour in {0, 3}
            yield hour + 1, _collection(scope, "cpu", begin, Interval(begin, begin + (HOUR // 2 if hole else HOUR)))
            if not (scope == "B" and hour == 2):
                for part in range(2):
                    if scope != "B" or hour != 3 or part == 0:  # its other part comes after the cut
                        yield hour + 1, _collection(scope, "disk", begin, None, part=part, parts=2)
            yield hour + 1, _pushed(scope, begin, hour)
        if hour == 2:
            yield 3, CollectionFailed("prom", "B", "disk", START + 2 * HOUR, START + 3 * HOUR, "timeout")
            yield 3, FrameForced("C", START + 2 * HOUR, "kim", "month end")
    yield 10, _collection("B", "disk", START + 3 * HOUR, None, part=1, parts=2)
    yield 10, _collection("A", "cpu", START, None, attempt=2)


def _collection(scope: str, metric: str, begin: int, covers: Interval | None, **changes: Any) -> Collection:
    attempt, part = changes.get("attempt", 1), changes.get("part", 0)
    fields: dict[str, Any] = {
        "source": "prom",
        "scope_id": scope,
        "metric": metric,
        "begin": begin,
        "end": begin + HOUR,
        "attempt": attempt,
        "collection_id": f"{scope}/{metric}/{begin}/{attempt}",
        "producer_id": f"{metric}/{begin}/{attempt}/{part}",
        "sequence": 0,
        "covers": [covers or Interval(begin, begin + HOUR)],
        "series": [Series({"id": f"vm{n}"}, {"flavor": "tiny"}) for n in range(3)],
        "samples": [Sample(n, begin, begin + HOUR, Decimal(begin % 97 + n + attempt)) for n in range(3)],
    }
    return Collection(**{**fields, **changes})


def _pushed(scope: str, begin: int, hour: int) -> Collection:
    samples = [Sample(0, begin, begin + HOUR, Decimal(hour) + Decimal("0.25"))]
    whole = _collection(scope, "net", begin, None, samples=samples)
    return msgspec.structs.replace(whole, source="push", covers=[], producer_id="push", sequence=hour)


def log_of() -> list[Record]:
    """The records as the broker has them; two nobody can read."""
    records: list[Record] = []
    header = ((CONTENT_TYPE, MSGPACK.encode()),)
    for hour, one in sorted(usage(), key=lambda entry: entry[0]):
        key, value = one.scope_id.encode(), encode_msgpack(one)
        records.append(Record(len(records), (START + hour * HOUR) * 1000, key, value, header))
        if len(records) in {20, 70}:
            records.append(Record(len(records), records[-1].timestamp_ms, b"A", b"nonsense", header))
    return records


async def keep(release: str) -> Kept:
    """Lives until it is killed, notes what is there, and lives on."""
    memory, log = Memory(), log_of()
    try:
        await lived(memory, log, CUT, killed=True)
    except KilledError:
        pass
    else:
        raise AssertionError("the last checkpoint had nothing to write")
    assert memory.committed is not None
    chunks = {name: list(chunks) for name, chunks in memory.chunks.items()}
    offset, metadata = memory.committed
    memory.published.clear()
    keeper = Keeper(PARTITION, CONTEXT, memory, memory, lambda: float(START + CUT))
    await keeper.restore(PARTITIONS, memory.pin())
    outbox = list(memory.published)
    memory.published.clear()
    await lived(memory, log, END)
    return Kept(release, log, offset, metadata, chunks, outbox, memory.published[len(outbox) :])


if __name__ == "__main__":
    raw = msgspec.msgpack.encode(asyncio.run(keep(sys.argv[2])))
    Path(sys.argv[1]).write_bytes(gzip.compress(raw, mtime=0))
