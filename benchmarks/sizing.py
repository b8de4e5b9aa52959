"""What an installation needs: `python -m benchmarks.sizing` prints the table of docs/deploy.md from measured numbers.

`--measure` measures the bytes again (engine and store in this process, no Kafka); times and memory are those of
docs/performance.md. `--write` puts the table into the page, between its marks.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import cramjam

from rater.engine import EngineContext, EngineSettings, PartitionState, Record, apply, decide, encode_snapshot
from rater.model.codec import CONTENT_TYPE, JSON, MSGPACK, decode_rated, encode_msgpack
from rater.model.interval import Interval
from rater.model.metric import Catalog, MetricSpec
from rater.model.rules import MappingCreated, MappingRule, ModuleSet, RuleEvent, Service, ServiceCreated
from rater.model.usage import Collection, Sample, ScopePlan, Series
from rater.rating import Chain, RuleBook
from rater.store import Batch, Store, StoreSettings, migrate, write

PAGE = Path(__file__).resolve().parents[1] / "docs" / "deploy.md"
BEGIN, END = "<!-- sizing: written by `python -m benchmarks.sizing --write` -->\n", "<!-- end of sizing -->"

# --- docs/performance.md, one sample a line with the audit trail: the dearest of what was measured
WORKER_SECONDS = 15.7e-6  # of CPU, a line
SINK_SECONDS = 21.2e-6
POINT_BYTES = 1536  # resident at a million live points, with what a checkpoint and a restart need: 1.5 GiB
MOST_POINTS = 2_000_000  # of a worker: more was not measured
HOUR_BYTES = 311  # of checkpoints, a line and hour, before compression: 31 MB touched and 280 MB closed, of a million

# --- `--measure`, November 2026: labels of six names, 10 resources a collection
USAGE_BYTES = 57.0  # of topic usage, a sample that is alone in its line
RATED_BYTES = 67.0  # of topic rated, a line
CHECKPOINT_RATIO = 0.16  # of zstd on a snapshot
LINE_STORED = 35.0  # in ClickHouse, merged
SAMPLE_STORED = 8.0

# --- what we choose
LIVE_HOURS = 4  # the hour that goes on, the one that is collected, and engine.late_horizon_periods
CLOSING_SECONDS = 600  # in which an hour should be rated and stored, with half of each core for it
GROWTH = 4  # times as many partitions as workers: their number is for ever
LEAST_PARTITIONS = 8
BASE_MIB = 256  # of a process that does nothing
KEPT_DAYS = 7  # of topics usage, rated and checkpoints
REPLICAS = 3
MIB, GIB = 2**20, 2**30


class Size(NamedTuple):
    """An installation. Each resource of a metric is one line an hour."""

    scopes: int
    metrics: int
    resources: int
    """Of each metric, in each scope."""

    @property
    def lines(self) -> int:
        """An hour."""
        return self.scopes * self.metrics * self.resources


class Needs(NamedTuple):
    """What it needs; disk in GiB."""

    workers: int
    partitions: int
    worker_mib: int
    """Limit of each."""
    sinks: int
    kafka: float
    """All brokers together."""
    clickhouse: float
    """A year, one replica."""


SIZES = (
    Size(10, 5, 4),
    Size(100, 10, 10),
    Size(1_000, 20, 2),
    Size(1_000, 20, 10),
    Size(5_000, 20, 10),
    Size(10_000, 20, 50),
)


def needs(size: Size) -> Needs:
    """See "Sizes" in docs/deploy.md for the formulas."""
    live = size.lines * LIVE_HOURS
    busy = CLOSING_SECONDS / 2
    # one is away while versions are exchanged, and the others have its partitions
    workers = 1 + max(1, math.ceil(live / MOST_POINTS), math.ceil(size.lines * WORKER_SECONDS / busy))
    partitions = max(LEAST_PARTITIONS, 2 ** math.ceil(math.log2(workers * GROWTH)))
    worker_mib = BASE_MIB + math.ceil(live / (workers - 1) * POINT_BYTES / MIB)
    sinks = max(2, math.ceil(size.lines * SINK_SECONDS / busy))
    a_line = USAGE_BYTES + RATED_BYTES + HOUR_BYTES * CHECKPOINT_RATIO
    kafka = size.lines * a_line * 24 * KEPT_DAYS * REPLICAS / GIB
    clickhouse = size.lines * (LINE_STORED + SAMPLE_STORED) * 24 * 365 / GIB
    return Needs(workers, partitions, math.ceil(worker_mib / 128) * 128, sinks, kafka, clickhouse)


def table() -> str:
    """Markdown."""
    head = (
        "| scopes | metrics | resources of each | lines an hour | workers | partitions | memory of a worker | sinks | "
    )
    rows = [head + "Kafka, 3 replicas | ClickHouse, a year |", "|---" * 10 + "|"]
    for size in SIZES:
        need = needs(size)
        asked = f"{_grouped(size.scopes)} | {size.metrics} | {size.resources} | {_grouped(size.lines)}"
        worker = f"{need.workers} | {need.partitions} | {_grouped(need.worker_mib)} MiB"
        rows.append(f"| {asked} | {worker} | {need.sinks} | {_gib(need.kafka)} | {_gib(need.clickhouse)} |")
    return "\n".join(rows) + "\n"


def _grouped(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def _gib(amount: float) -> str:
    return f"{_grouped(max(1, round(amount)))} GiB"


# --- measuring

START = 1_767_225_600  # 2026-01-01T00:00:00Z
HOUR = 3600
SCOPES, METRICS, RESOURCES, HOURS = 20, 4, 10, 48
NAMES = [f"metric.{number}" for number in range(METRICS)]
HEADERS = ((CONTENT_TYPE, MSGPACK.encode()),)


def measured() -> dict[str, float]:
    """Bytes by the names above."""
    context = EngineContext(EngineSettings(), Catalog([MetricSpec(name) for name in NAMES]))
    state = PartitionState(0, 1, HOUR)
    batch = Batch()
    usage = rated = lines = 0
    now = START + HOURS * HOUR
    for offset, record in enumerate(_usage()):
        value = encode_msgpack(record)
        apply(state, Record(offset, now * 1000, record.scope_id.encode(), value, HEADERS), context)
        usage += _packed(value)
        if isinstance(record, Collection):
            batch.add_collection(record)
    snapshot = encode_snapshot(state)
    decide(state, now, _rules(), context)
    for item in state.outbox:
        if item.topic == "rated":
            frame = decode_rated(item.value, JSON)
            rated += _packed(item.value)
            lines += len(frame.lines)
            batch.add_lines(frame)
            batch.add_frame(frame, len(frame.lines))
    stored = _stored(batch)
    return {
        "USAGE_BYTES": usage / lines,
        "RATED_BYTES": rated / lines,
        "CHECKPOINT_RATIO": _packed(snapshot) / len(snapshot),
        "LINE_STORED": (stored["lines"] + stored["frames"]) / lines,
        "SAMPLE_STORED": stored["usage"] / lines,
    }


def _rules() -> Chain:
    """A price for each metric."""
    changes: list[Any] = [ModuleSet("hashmap", True)]
    for number, name in enumerate(NAMES):
        service, mapping = str(UUID(int=1 << 64 | number)), str(UUID(int=2 << 64 | number))
        changes.append(ServiceCreated(Service(service, name)))
        changes.append(MappingCreated(MappingRule(mapping, Decimal("0.0137") * (number + 1), service_id=service)))
    event = RuleEvent(expected_version=0, author="sizing", reason="", created_at=0, changes=changes)
    return Chain(RuleBook.empty().apply(event)[0])


def _usage() -> Iterator[Collection | ScopePlan]:
    """As a collector publishes it: a collection for each scope, metric and hour, one sample for each resource."""
    for scope in range(SCOPES):
        scope_id = str(UUID(int=scope * 7919 << 64 | scope))
        yield ScopePlan("prometheus", scope_id, START, None, NAMES)
        for hour in range(HOURS):
            for number, metric in enumerate(NAMES):
                yield _collection(scope_id, scope, hour, number, metric)


def _collection(scope_id: str, scope: int, hour: int, number: int, metric: str) -> Collection:
    begin = START + hour * HOUR
    return Collection(
        source="prometheus",
        scope_id=scope_id,
        metric=metric,
        begin=begin,
        end=begin + HOUR,
        attempt=1,
        collection_id=f"{scope_id}/{metric}/{begin}",
        producer_id=f"collector-{scope % 3}",
        sequence=hour * METRICS + number,
        covers=[Interval(begin, begin + HOUR)],
        series=[_series(scope_id, scope, number, resource) for resource in range(RESOURCES)],
        samples=[Sample(n, begin, begin + HOUR, _quantity(scope, hour, number, n)) for n in range(RESOURCES)],
    )


def _quantity(scope: int, hour: int, number: int, resource: int) -> Decimal:
    """Of six digits that do not repeat: what compresses to nothing would say nothing."""
    text = f"{scope}/{hour}/{number}/{resource}".encode()
    return Decimal(int.from_bytes(blake2b(text, digest_size=8).digest()) % 1_000_000).scaleb(-3)


def _series(scope_id: str, scope: int, number: int, resource: int) -> Series:
    identity = str(UUID(int=((scope * 131 + number) * 1009 + resource) * 2654435761 % 2**128))
    metadata = {"flavor": f"m1.{resource % 4}", "name": f"server-{resource}", "zone": f"az{scope % 3}"}
    return Series({"id": identity, "project_id": scope_id}, {**metadata, "image": identity[::-1]})


def _packed(value: bytes) -> int:
    return len(bytes(cramjam.zstd.compress(value, level=3)))


def _stored(batch: Batch) -> dict[str, int]:
    """Bytes on disk by table, merged."""
    with tempfile.TemporaryDirectory() as directory, Store(StoreSettings(f"chdb://{directory}/store")) as store:
        migrate(store)
        write(store, batch)
        for name in ("lines", "frames", "usage"):
            store.command(f"OPTIMIZE TABLE {name} FINAL")
        asked = "SELECT table, sum(bytes_on_disk) FROM system.parts WHERE active GROUP BY table"
        return {str(name): int(size) for name, size in store.rows(asked)}


def main() -> int:
    """Prints; 1 if the page has no place for the table."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.sizing", description=__doc__)
    options.add_argument("--measure", action="store_true", help="measure the bytes of a line again")
    options.add_argument("--write", action="store_true", help=f"write the table into {PAGE.name}")
    chosen = options.parse_args()
    if chosen.measure:
        sys.stdout.writelines(f"{name} = {amount:.3g}\n" for name, amount in measured().items())
        return 0
    if not chosen.write:
        sys.stdout.write(table())
        return 0
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.stderr.write(f"error: {PAGE} lacks the line {BEGIN.strip()} or {END}\n")
        return 1
    PAGE.write_text(before + begin + table() + end + after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
