"""Programs that push usage of past periods straight to the topic, as long as a chaos run lasts.

They leave holes and fill most of them later, repeat batches, collect again with other quantities, come late, and write
what nobody can read. What it must come to is recomputed from the log (`tests.chaos.content.truth`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from rater.kafka import MAX_MESSAGE_BYTES, KafkaSettings, Topic, client_options
from rater.model.codec import CONTENT_TYPE, MSGPACK, encode_msgpack
from rater.model.interval import Interval
from rater.model.usage import Collection, Sample, ScopePlan, Series, UsageRecord
from tests.chaos.content import METRICS, SOURCE
from tests.chaos.logs import POISON

SCOPES = 16
PERIOD = 60
WIDE_EVERY, WIDE_RESOURCES, PART_SAMPLES = 40, 4500, 500
"""Now and then one frame is so wide that its revision has several parts."""


@dataclass
class Pushers:
    """Content is drawn from the seed; what comes late or again follows the faults."""

    kafka: KafkaSettings
    seed: int
    begin: int
    """Of the first period; far enough back that none of them lies in the future."""
    pause: float = 0.12
    """Seconds between two frames."""
    periods: int = 0
    """How many periods were begun."""
    sent: Counter[str] = field(default_factory=Counter)
    _sequence: Counter[str] = field(default_factory=Counter)
    _recent: deque[tuple[bytes, bytes]] = field(default_factory=lambda: deque(maxlen=300))
    _holes: list[tuple[str, str, int]] = field(default_factory=list)
    _late: set[asyncio.Task[None]] = field(default_factory=set)
    _producer: AIOKafkaProducer | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, stop: asyncio.Event) -> None:
        """Pushes until `stop`; then fills two thirds of the holes that are left."""
        self._stop = stop
        while not stop.is_set():
            rng = random.Random(f"{self.seed}/{self.periods}")
            self.periods += 1
            assert self.begin + self.periods * PERIOD < time.time(), "periods of the past"
            for number in range(SCOPES):
                await self._push(rng, f"scope-{number}", self.periods - 1)
                await asyncio.sleep(self.pause)
                if stop.is_set():
                    break
            old = [hole for hole in self._holes if hole[2] < self.periods - 6]
            for hole in rng.sample(old, k=min(len(old), 4)):
                await self._fill(rng, hole)
        await asyncio.gather(*self._late)
        rng = random.Random(f"{self.seed}/end")
        rng.shuffle(self._holes)
        for hole in self._holes[: len(self._holes) * 2 // 3]:
            await self._fill(rng, hole)
        await self.close()

    async def _push(self, rng: random.Random, scope: str, number: int) -> None:
        begin = self.begin + number * PERIOD
        await self.send(ScopePlan(SOURCE, scope, begin, begin + PERIOD, list(METRICS)))
        for metric in METRICS:
            if rng.random() < 0.08:
                self._holes.append((scope, metric, number))
                continue
            await self._collect(rng, scope, metric, number, attempt=1)
            if rng.random() < 0.1:
                await self._collect(rng, scope, metric, number, attempt=2)

    async def _fill(self, rng: random.Random, hole: tuple[str, str, int]) -> None:
        self._holes.remove(hole)
        self.sent["holes filled later"] += 1
        await self._collect(rng, *hole, attempt=3)

    # --- what faults ask for

    def late(self, seconds: float, frames: int) -> None:
        """Some frames of now are collected again after `seconds`, with other quantities."""
        rng = random.Random(f"{self.seed}/late/{len(self._late)}")
        for _ in range(frames):
            scope, number = f"scope-{rng.randrange(SCOPES)}", max(0, self.periods - 2)
            task = asyncio.create_task(self._come_late(rng, scope, number, seconds))
            self._late.add(task)

    async def _come_late(self, rng: random.Random, scope: str, number: int, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)
            return  # the run is over before it was due
        self.sent["late"] += 1
        # attempts of one frame differ, or two producers would say different things under one number
        await self._collect(rng, scope, rng.choice(METRICS), number, attempt=100 + self.sent["late"])

    async def again(self, records: int) -> None:
        """The last records once more, byte for byte, in another order."""
        rng = random.Random(f"{self.seed}/again/{self.sent['repeated']}")
        recent = list(self._recent)
        for key, value in rng.sample(recent, k=min(records, len(recent))):
            self.sent["repeated"] += 1
            await self._send_bytes(key, value)

    async def poison(self, records: int) -> None:
        """Bytes that nobody can read."""
        for _ in range(records):
            self.sent["unreadable"] += 1
            await self._send_bytes(b"scope-0", POISON + str(self.sent["unreadable"]).encode())

    # --- records

    async def _collect(self, rng: random.Random, scope: str, metric: str, number: int, attempt: int) -> None:
        begin = self.begin + number * PERIOD
        wide = scope == "scope-1" and metric == METRICS[0] and number % WIDE_EVERY == 7
        resources = WIDE_RESOURCES if wide else 6
        samples = [
            Sample(n, begin + rng.randrange(PERIOD), begin + PERIOD, Decimal(rng.randrange(1, 10**9)).scaleb(-4))
            for n in range(resources)
            for _ in range(1 if wide else 3)
        ]
        whole = Interval(begin, begin + PERIOD)
        covers = [whole] if rng.random() < 0.92 else [Interval(begin, begin + rng.randrange(1, PERIOD))]
        parts = -(-len(samples) // PART_SAMPLES) if wide else rng.choice([1, 1, 2, 3])
        for part in range(parts):
            batch = Collection(
                source=SOURCE,
                scope_id=scope,
                metric=metric,
                begin=begin,
                end=begin + PERIOD,
                attempt=attempt,
                collection_id=f"{scope}/{metric}/{number}/{attempt}",
                producer_id=f"pusher-{self.seed}",
                sequence=0,
                part=part,
                parts=parts,
                covers=covers,
                series=[Series({"id": f"{metric}-{n}"}, {"flavor": f"f{n % 3}"}) for n in range(resources)],
                samples=samples[len(samples) * part // parts : len(samples) * (part + 1) // parts],
            )
            await self.send(batch)
            if rng.random() < 0.06:
                await self.again(1)

    async def send(self, record: UsageRecord) -> None:
        """One record at a time, so that the sequence numbers of a scope come in order."""
        async with self._turn:
            if isinstance(record, Collection):
                fields = {name: getattr(record, name) for name in record.__struct_fields__}
                record = Collection(**{**fields, "sequence": self._sequence[record.scope_id]})
                self._sequence[record.scope_id] += 1
            key, value = record.scope_id.encode(), encode_msgpack(record)
            self._recent.append((key, value))
            await self._deliver(key, value)

    async def _send_bytes(self, key: bytes, value: bytes) -> None:
        async with self._turn:
            await self._deliver(key, value)

    async def _deliver(self, key: bytes, value: bytes) -> None:
        """Until it is acknowledged; a repetition after an error is what real producers do, too."""
        headers = [(CONTENT_TYPE, MSGPACK.encode())]
        while True:
            try:
                if self._producer is None:
                    self._producer = AIOKafkaProducer(
                        **client_options(self.kafka),
                        acks="all",
                        enable_idempotence=True,
                        request_timeout_ms=15_000,
                        max_request_size=MAX_MESSAGE_BYTES,
                    )
                    await self._producer.start()
                await self._producer.send_and_wait(self.kafka.topic(Topic.USAGE), value, key=key, headers=headers)
            except KafkaError:
                await self.close()
                await asyncio.sleep(0.5)
            else:
                self.sent["records"] += 1
                return

    async def close(self) -> None:
        """Ends the producer; a broker that does not answer cannot hold it up."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaError, TimeoutError):
                await asyncio.wait_for(producer.stop(), 5)


__all__ = ["PERIOD", "SCOPES", "Pushers"]
