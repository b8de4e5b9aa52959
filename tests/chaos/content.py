"""Known usage for the chaos runs, and the truth about it recomputed from the log, slowly and in the plainest way.

The generator leaves holes and fills some later, repeats batches, and collects again with other quantities. The truth
shares no code with the engine but the wire structs and the codec.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import blake2b

import msgspec
from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.errors import KafkaError

from rater.kafka import KafkaSettings, Topic, client_options
from rater.model.codec import CONTENT_TYPE, MSGPACK, content_type, decode_usage, encode_msgpack
from rater.model.interval import Interval
from rater.model.partition import partition_of
from rater.model.usage import Collection, Sample, ScopePlan, Series, UsageRecord

HOUR = 3600
START = 1_767_225_600  # 2026-01-01T00:00:00Z
SOURCE = "chaos"
METRICS = ("cpu", "disk")
PRICES = {"cpu": Decimal("0.013"), "disk": Decimal("0.0000007")}


SCOPES = 24


def partitions_in_use(partitions: int) -> int:
    """How many of so many partitions hold a scope of the generator's."""
    return len({partition_of(f"scope-{number}".encode(), partitions) for number in range(SCOPES)})


@dataclass
class Generator:
    """Publishes `hours` hours of usage of `scopes` scopes; deterministic in content by its seed."""

    kafka: KafkaSettings
    seed: int
    scopes: int = SCOPES
    resources: int = 6
    pause: float = 0.01
    sent: int = 0
    _sequence: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _producer: AIOKafkaProducer | None = None

    async def run(self, hours: int, first: int = 0) -> None:
        """Hours `first` to `first + hours`, and at the end most of what was left out, late."""
        rng = random.Random(self.seed + first)
        late: list[tuple[str, str, int]] = []
        for hour in range(first, first + hours):
            for number in range(self.scopes):
                scope = f"scope-{number}"
                await self._send(self._plan(scope, hour))
                for metric in METRICS:
                    if rng.random() < 0.12:
                        late.append((scope, metric, hour))
                        continue
                    await self._collect(rng, scope, metric, hour, attempt=1)
                    if rng.random() < 0.1:
                        await self._collect(rng, scope, metric, hour, attempt=2)
                await asyncio.sleep(self.pause)
            old = [missed for missed in late if missed[2] < hour - 8]  # most are closed with a gap by then
            for missed in rng.sample(old, k=min(len(old), 4)):
                late.remove(missed)
                await self._collect(rng, *missed, attempt=3)
        rng.shuffle(late)
        for missed in late[: len(late) * 2 // 3]:
            await self._collect(rng, *missed, attempt=3)
        await self.close()

    def _plan(self, scope: str, hour: int) -> ScopePlan:
        begin = START + hour * HOUR
        return ScopePlan(SOURCE, scope, begin, begin + HOUR, list(METRICS))

    async def _collect(self, rng: random.Random, scope: str, metric: str, hour: int, attempt: int) -> None:
        begin = START + hour * HOUR
        whole = Interval(begin, begin + HOUR)
        covers = [whole] if rng.random() < 0.9 else [Interval(begin, begin + 60 * rng.randrange(1, 59))]
        parts = rng.choice([1, 1, 2, 3])
        identity = f"{scope}/{metric}/{hour}/{attempt}"
        for part in range(parts):
            batch = Collection(
                source=SOURCE,
                scope_id=scope,
                metric=metric,
                begin=begin,
                end=begin + HOUR,
                attempt=attempt,
                collection_id=identity,
                producer_id=f"generator-{self.seed}",
                sequence=self._sequence[scope],
                part=part,
                parts=parts,
                covers=covers,
                series=[Series({"id": f"{metric}-{n}"}, {"flavor": f"f{n % 3}"}) for n in range(self.resources)],
                samples=[
                    Sample(n, begin + 60 * rng.randrange(60), begin + HOUR, Decimal(rng.randrange(1, 10**9)).scaleb(-4))
                    for n in range(self.resources)
                    for _ in range(3)
                ],
            )
            self._sequence[scope] += 1
            for _ in range(2 if rng.random() < 0.1 else 1):
                await self._send(batch)

    async def _send(self, record: UsageRecord) -> None:
        """Until it is acknowledged; a repetition after an error is what real producers do, too."""
        headers = [(CONTENT_TYPE, MSGPACK.encode())]
        value, key = encode_msgpack(record), record.scope_id.encode()
        while True:
            try:
                if self._producer is None:
                    self._producer = AIOKafkaProducer(
                        **client_options(self.kafka), acks="all", enable_idempotence=True, request_timeout_ms=20_000
                    )
                    await self._producer.start()
                await self._producer.send_and_wait(self.kafka.topic(Topic.USAGE), value, key=key, headers=headers)
            except KafkaError:
                await self.close()
                await asyncio.sleep(0.5)
            else:
                self.sent += 1
                return

    async def close(self) -> None:
        """Ends the producer, whatever it still holds."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaError, TimeoutError):
                await asyncio.wait_for(producer.stop(), 5)


Prices = Mapping[str, Decimal]
"""Of one unit, by metric."""


@dataclass(frozen=True)
class TrueFrame:
    """What one frame must come to in the end: quantities by metric and line id, and holes by metric."""

    quantities: dict[tuple[str, str], Decimal]
    holes: dict[str, list[tuple[int, int]]]

    @property
    def lines(self) -> dict[str, tuple[Decimal, Decimal]]:
        """Quantity and price by line id, at `PRICES`."""
        return self.priced(PRICES)

    def priced(self, prices: Prices) -> dict[str, tuple[Decimal, Decimal]]:
        """The same at other prices."""
        return {identity: (qty, qty * prices[metric]) for (metric, identity), qty in self.quantities.items()}


def truth(log: Iterable[ConsumerRecord], period: int = HOUR, until: int = 0) -> dict[tuple[str, int], TrueFrame]:
    """The frames that the usage log means, by (scope, period begin); plans without end are followed to `until`.

    The log is that of accepted records: what went to `rejected` is left out by the caller.
    """
    seen: set[tuple[str, str, int]] = set()
    planned: dict[tuple[str, int], list[str]] = {}
    parts: dict[tuple[str, str, int, int], dict[int, Collection]] = defaultdict(dict)
    for record in log:
        usage = decode_usage(record.value, content_type(record.headers))
        if isinstance(usage, ScopePlan):
            end = until if usage.until is None else usage.until
            planned.update({(usage.scope_id, begin): usage.metrics for begin in range(usage.begin, end, period)})
        elif isinstance(usage, Collection):
            key = (usage.scope_id, usage.producer_id, usage.sequence)
            if key not in seen:
                seen.add(key)
                parts[usage.scope_id, usage.metric, usage.begin, usage.attempt][usage.part] = usage
    best: dict[tuple[str, str, int], list[Collection]] = {}
    for (scope, metric, begin, _attempt), of_collection in sorted(parts.items()):
        whole = list(of_collection.values())
        if len(whole) == whole[0].parts:
            best[scope, metric, begin] = whole
    return {
        (scope, begin): _true_frame(scope, begin, period, metrics, best)
        for (scope, begin), metrics in planned.items()
        if metrics
    }


def _true_frame(
    scope: str, begin: int, period: int, metrics: list[str], best: dict[tuple[str, str, int], list[Collection]]
) -> TrueFrame:
    quantities: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    holes: dict[str, list[tuple[int, int]]] = {}
    for metric in metrics:
        whole = best.get((scope, metric, begin), [])
        for part in whole:
            for sample in part.samples:
                quantities[metric, _line_id(scope, metric, part.series[sample.series])] += sample.qty
        missing = _outside(begin, begin + period, whole[0].covers if whole else [])
        if missing:
            holes[metric] = missing
    return TrueFrame(dict(quantities), holes)


def _outside(begin: int, end: int, covers: list[Interval]) -> list[tuple[int, int]]:
    """What of `[begin, end)` no interval covers, second by second: slow and plain."""
    covered = {at for interval in covers for at in range(max(begin, interval.begin), min(end, interval.end))}
    missing = [at for at in range(begin, end) if at not in covered]
    starts = [at for at in missing if at == begin or at - 1 in covered]
    ends = [at + 1 for at in missing if at + 1 == end or at + 1 in covered]
    return list(zip(starts, ends, strict=True))


def _line_id(scope: str, metric: str, series: Series) -> str:
    text = msgspec.json.encode([scope, metric, series.groupby, series.metadata], order="deterministic")
    return blake2b(text, digest_size=16).hexdigest()


__all__ = [
    "HOUR",
    "METRICS",
    "PRICES",
    "SOURCE",
    "START",
    "Generator",
    "Prices",
    "TrueFrame",
    "partitions_in_use",
    "truth",
]
