"""Usage that nobody collects: sources that publish by themselves, late, twice, in pieces and out of order.

`script` plans its scopes and collects whole, partly, again, over several periods; `push` sends bare samples.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal

import msgspec

from rater.model.codec import CONTENT_TYPE, JSON, MSGPACK, encode_json, encode_msgpack
from rater.model.interval import Interval
from rater.model.usage import (
    Collection,
    CollectionFailed,
    QuarantinedItem,
    Sample,
    ScopePlan,
    ScopeSwitch,
    Series,
    UsageRecord,
)
from tests.sim.broker import Broker, LostError, Wire
from tests.sim.loop import Host
from tests.sim.truth import MINUTE, PERIOD

METRICS = ("cpu", "disk")


class Author:
    """Publishes what happened in each hour, some time after it."""

    def __init__(self, broker: Broker, host: Host, horizon: int, count: Callable[[str], None]) -> None:
        self.broker = broker
        self.host = host
        self.rng = broker.loop.rng
        self.open: dict[str, bool] = {}
        """Scopes of `script` that are there; whether one plan holds without end."""
        self.pushers = ["p0"] if self.rng.random() < 0.6 else []
        self.late_plans: random.Random | None = None
        """By which plans are changed long after their hour; None: they are not."""
        self.switches: random.Random | None = None
        """By which scopes are switched off and on; None: they are not."""
        self.pending = 0
        self._horizon = horizon
        self._count = count
        self._wires = [Wire(broker, host) for _ in range(3)]
        self._sequence: dict[tuple[str, str], int] = defaultdict(int)
        self._names = 0
        self._off: dict[str, bool] = {}
        self._switched: dict[str, int] = defaultdict(int)

    def appear(self, scope: str, begin: int) -> None:
        """A scope comes: one plan without end, or one for each hour."""
        endless = self.rng.random() < 0.5
        self.open[scope] = endless
        if endless:
            self.say(ScopePlan("script", scope, begin, None, list(METRICS)))

    def go(self, scope: str, end: int) -> None:
        """It is gone from then on."""
        if self.open.pop(scope):
            self.say(ScopePlan("script", scope, end, None, []))

    def hour(self, begin: int) -> None:
        """Everything that is to be said about the hour that is over."""
        for scope, endless in self.open.items():
            if not endless:
                self.say(ScopePlan("script", scope, begin, begin + PERIOD, list(METRICS)))
            for metric in METRICS:
                self._collect_somehow(scope, metric, begin)
            if self.late_plans is not None and self.late_plans.random() < 0.1:
                self._plan_late(self.late_plans, scope, begin)
        if self.switches is not None:
            for scope in [*self.open, *self.pushers]:
                self._switch(self.switches, scope, begin + PERIOD)
        for scope in self.pushers:
            for minute in sorted(self.rng.sample(range(60), self.rng.randrange(1, 6))):
                self._push(scope, begin + minute * MINUTE)
        if self.rng.random() < 0.05:
            self._count("nonsense sent")
            self._send(b"nonsense", b"s0", self.rng.expovariate(1 / 300))

    def _switch(self, rng: random.Random, scope: str, now: int) -> None:
        """An operator switches the scope, now or for some hours ago."""
        is_off = self._off.get(scope, False)
        if rng.random() > (0.3 if is_off else 0.08):
            return
        self._count("switched on" if is_off else "switched off")
        self._off[scope] = not is_off
        self._switched[scope] += 1
        begin = now + rng.choice([0, 0, 20, 40, -90, -240]) * MINUTE
        inactive_time = rng.choice(["bill", "skip"])
        self.say(ScopeSwitch(scope, self._switched[scope], is_off, begin, "operator", inactive_time))

    def _plan_late(self, rng: random.Random, scope: str, begin: int) -> None:
        """Of some of the hour another set of metrics is expected, which is said around the horizon."""
        self._count("plan late")
        metrics = rng.choice([[], ["cpu"], ["vm", *METRICS], ["vm"]])
        minutes = sorted(rng.sample(range(-30, 91), 2)) if rng.random() < 0.5 else [0, 60]
        window = Interval(*(begin + minute * MINUTE for minute in minutes))
        self.say(ScopePlan("script", scope, *window, metrics), (self._horizon + rng.uniform(-1, 5)) * PERIOD)

    # --- one metric of one hour

    def _collect_somehow(self, scope: str, metric: str, begin: int) -> None:
        rng, end = self.rng, begin + PERIOD
        luck = rng.random()
        soon = rng.expovariate(1 / 300.0)
        if luck < 0.55:
            self._collect(scope, metric, begin, end, 1, soon)
        elif luck < 0.65:
            self._count("late past close")
            self._collect(scope, metric, begin, end, 1, rng.uniform(2.5, 4.0) * PERIOD)
        elif luck < 0.68:
            self._count("late past the horizon")
            self._collect(scope, metric, begin, end, 1, soon)
            self._collect(scope, metric, begin, end, 2, (self._horizon + rng.uniform(3, 5)) * PERIOD)
        elif luck < 0.76:
            self._count("collected again")
            self._collect(scope, metric, begin, end, 1, soon)
            self._collect(scope, metric, begin, end, 2, soon + rng.uniform(0, 3.0) * PERIOD)
        elif luck < 0.90:
            self._in_pieces(scope, metric, begin, soon)
        elif luck < 0.93:
            self._collect(scope, metric, begin - PERIOD, end, 3, soon)
        elif luck < 0.96:
            self.say(CollectionFailed("script", scope, metric, begin, end, f"timeout {luck:.4f}"), soon)
        else:
            self._count("never collected")

    def _in_pieces(self, scope: str, metric: str, begin: int, soon: float) -> None:
        """Proven up to some minute; the rest touches it, overlaps it, leaves a minute out, or never comes."""
        rng = self.rng
        minute = rng.randrange(2, 58)
        self._count("in pieces")
        if rng.random() < 0.5:
            self._collect(scope, metric, begin, begin + PERIOD, 1, soon, upto=begin + minute * MINUTE)
        else:
            self._collect(scope, metric, begin, begin + minute * MINUTE, 1, soon)
        if rng.random() < 0.8:
            first = begin + (minute + rng.choice([0, 0, 0, -1, 1])) * MINUTE
            self._collect(scope, metric, first, begin + PERIOD, 2, soon + rng.uniform(0, 4.0) * PERIOD)

    def _collect(
        self, scope: str, metric: str, begin: int, end: int, attempt: int, delay: float, upto: int = 0
    ) -> None:
        rng = self.rng
        upto = upto or end
        parts = rng.choice([1, 1, 1, 2, 3])
        self._names += 1
        name = f"{scope}/{metric}/{begin}/{attempt}/{self._names}"
        covers = [Interval(begin, upto)] if rng.random() < 0.97 else []
        proof = "weak" if rng.random() < 0.05 else "proven"
        for part in range(parts):
            resources = rng.randrange(0, 4)
            samples = []
            for _ in range(rng.randrange(0, 6) if resources else 0):
                at = begin + MINUTE * rng.randrange((upto - begin) // MINUTE)
                qty = Decimal(rng.randrange(0, 10**6)).scaleb(-3)
                samples.append(Sample(rng.randrange(resources), at, at + MINUTE, qty))
            batch = Collection(
                source="script",
                scope_id=scope,
                metric=metric,
                begin=begin,
                end=end,
                attempt=attempt,
                collection_id=name,
                producer_id="script",
                sequence=0,
                part=part,
                parts=parts,
                covers=covers,
                proof=proof,  # type: ignore[arg-type]
                series=[Series({"id": f"{metric}-{n}"}, {"flavor": f"f{n % 2}"}) for n in range(resources)],
                samples=samples,
                quarantined=[QuarantinedItem("NaN", "not a number")] if rng.random() < 0.02 else [],
            )
            if parts > 1 and rng.random() < 0.01:
                self._count("part lost")
                continue
            self.say(batch, delay + (rng.expovariate(1 / 120.0) if part else 0.0))

    def _push(self, scope: str, begin: int) -> None:
        length = MINUTE * self.rng.randrange(1, 30)
        end = min(begin + length, begin - begin % PERIOD + PERIOD)
        self._names += 1
        batch = Collection(
            source="push",
            scope_id=scope,
            metric="net",
            begin=begin,
            end=end,
            attempt=1,
            collection_id=f"push-{self._names}",
            producer_id="pusher",
            sequence=0,
            series=[Series({"id": "if0"})],
            samples=[Sample(0, begin, end, Decimal(self.rng.randrange(1, 1000)))],
        )
        self.say(batch, self.rng.expovariate(1 / 600.0))

    # --- sending

    def say(self, record: UsageRecord, delay: float = 0.0) -> None:
        """Publishes a record after a while, until the broker has confirmed it."""
        self._send(record, record.scope_id.encode(), delay)

    def _send(self, record: UsageRecord | bytes, key: bytes, delay: float) -> None:
        self.pending += 1
        self.host.start(self._deliver(record, key, delay))

    async def _deliver(self, record: UsageRecord | bytes, key: bytes, delay: float) -> None:
        await asyncio.sleep(delay)
        rng = self.rng
        form, encode = (MSGPACK, encode_msgpack) if rng.random() < 0.8 else (JSON, encode_json)
        if isinstance(record, Collection) and not record.rework_id:
            record = _numbered(record, self._sequence[record.producer_id, record.scope_id])
            self._sequence[record.producer_id, record.scope_id] += 1
        value = record if isinstance(record, bytes) else encode(record)
        headers = ((CONTENT_TYPE, form.encode()),)
        wire, partition = rng.choice(self._wires), self.broker.home(key)
        times = 2 if rng.random() < 0.03 else 1
        if times > 1:
            self._count("record sent twice")
        while times:
            try:
                await wire.call("usage", lambda: self.broker.append("usage", partition, key, value, headers))
            except LostError:
                await asyncio.sleep(rng.uniform(1, 60))
            else:
                times -= 1
        self.pending -= 1


def _numbered(record: Collection, sequence: int) -> Collection:
    return msgspec.structs.replace(record, sequence=sequence)
