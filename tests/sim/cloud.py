"""A cloud that the production collector asks: it knows what every resource used in every minute, when it answers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from decimal import Decimal

from collectors.errors import NotSettledError, PublishError, SourceAwayError, SourceError
from collectors.metrics_yml import Metric, read
from collectors.parts import CollectionDraft
from collectors.publisher import Publisher
from collectors.source import Answer
from rater.kafka import KafkaSettings, Topic
from rater.model.codec import Headers
from rater.model.interval import Interval
from rater.model.usage import QuarantinedItem, Sample, Series
from tests.sim.broker import Broker, LostError, Wire
from tests.sim.loop import Host, SimLoop

METRICS = read("metrics: {vm: {unit: instance}}", "metrics.yml").metrics
MINUTE = 60


class Cloud:
    """Scopes, their usage, and how well the cloud answers at the moment."""

    def __init__(self, loop: SimLoop, seed: int, count: Callable[[str], None]) -> None:
        self.loop = loop
        self.scopes: set[str] = set()
        self.mode = "up"
        self._seed = seed
        self._known: dict[tuple[str, int], dict[str, Decimal]] = {}
        self._count = count

    def used(self, scope_id: str, minute: int) -> dict[str, Decimal]:
        """What each resource used in a minute."""
        key = (scope_id, minute // 600)
        if key not in self._known:
            rng = random.Random(f"{self._seed}/{key}")
            self._known[key] = {f"vm-{n}": Decimal(rng.randrange(1, 9)) for n in range(rng.randrange(0, 3))}
        return self._known[key]

    # --- what a source is

    async def check(self, now: int, reach_seconds: int) -> list[str]:
        return []

    async def oldest(self, now: int) -> int:
        self._answer()
        return 0

    def session(self, period: Interval, now: int) -> _Session:
        return _Session(self, period)

    async def fetch(self, now: int, since: int) -> set[str]:
        await asyncio.sleep(self.loop.rng.expovariate(1.0))
        self._answer()
        return set(self.scopes)

    async def close(self) -> None:
        """Nothing is open."""

    def _answer(self) -> None:
        if self.mode == "down":
            self._count("source away")
            raise SourceAwayError("the cloud is away")
        if self.mode == "broken" and self.loop.rng.random() < 0.5:
            self._count("source failed")
            raise SourceError("the cloud answers nonsense")


class _Session:
    def __init__(self, cloud: Cloud, period: Interval) -> None:
        self._cloud = cloud
        self._period = period

    async def collect(self, scope_id: str, metric: Metric) -> Answer:
        cloud, period, rng = self._cloud, self._period, self._cloud.loop.rng
        await asyncio.sleep(rng.expovariate(1 / 90.0 if cloud.mode == "slow" else 1.0))
        cloud._answer()
        if rng.random() < 0.02:
            raise NotSettledError("not yet")
        minutes = list(range(period.begin, period.end, MINUTE))
        if cloud.mode == "partial":
            cloud._count("source partial")
            first, last = sorted(rng.sample(range(len(minutes) + 1), 2))
            minutes = minutes[first:last]
        sums: dict[str, Decimal] = {}
        for minute in minutes:
            for name, qty in cloud.used(scope_id, minute).items():
                sums[name] = sums.get(name, Decimal(0)) + qty
        begin = minutes[0] if minutes else period.begin
        end = minutes[-1] + MINUTE if minutes else period.begin
        return Answer(
            covers=[Interval(begin, end)] if minutes else [],
            proof="weak" if rng.random() < 0.05 else "proven",
            series=[Series({"id": name}) for name in sums],
            samples=[Sample(n, begin, end, qty) for n, qty in enumerate(sums.values())],
            quarantined=[QuarantinedItem("NaN", "not a number")] if rng.random() < 0.02 else [],
            note="" if minutes == list(range(period.begin, period.end, MINUTE)) else "partial",
        )


class SimPublisher(Publisher):
    """The production publisher with its last step replaced: records go to the broker in memory."""

    def __init__(self, broker: Broker, host: Host) -> None:
        super().__init__(KafkaSettings())
        self._broker = broker
        self._wire = Wire(broker, host)

    async def start(self) -> None:
        """Nothing to connect to."""

    async def stop(self) -> None:
        """Nothing to end."""

    async def publish(self, draft: CollectionDraft) -> None:
        await super().publish(draft)

    async def _deliver(self, records: list[tuple[Topic, bytes | None, bytes, Headers]]) -> None:
        for topic, key, value, headers in records:
            partition = self._broker.home(key) if key is not None else 0
            try:
                await self._wire.call(
                    "collector publish",
                    lambda t=topic.value, p=partition, k=key, v=value, h=headers: self._broker.append(t, p, k, v, h),
                )
            except LostError:
                raise PublishError("the broker did not confirm") from None
