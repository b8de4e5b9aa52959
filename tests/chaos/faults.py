"""The table of faults: each strikes one area of the town, lasts a while, and can be healed.

A fault is made anew for each time it is drawn. `inject` says whether it really happened, which faults at named points
may not: nobody came by.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable
from functools import partial
from typing import Protocol

from tests.chaos.proxy import Mode, Proxy
from tests.chaos.roles import KINDS, Key
from tests.chaos.town import WANTED, Town

POINTS = ("cut", "chunks_written", "before_commit", "committed", "before_publish", "published", "restore", "restored")
SINK_POINTS = ("sink-inserted", "sink-committed")
LATE_FRAMES = 6
WARNING = (
    b'{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":["one of two stores did not answer"]}'
)


class Fault(Protocol):
    """One thing that goes wrong."""

    name: str
    area: str

    async def inject(self, town: Town, rng: random.Random) -> bool:
        """Makes it happen; False if it did not."""

    async def heal(self, town: Town) -> None:
        """Ends it; what it broke has to recover on its own."""


class _Named:
    """What faults have in common."""

    def __init__(self, name: str, area: str) -> None:
        self.name = name
        self.area = area

    async def heal(self, town: Town) -> None:
        """Nothing to end."""


class Signalled(_Named):
    """One process gets a signal; the supervisor starts it again."""

    def __init__(self, kind: str, number: signal.Signals) -> None:
        verb = "kill -9" if number is signal.SIGKILL else "SIGTERM"
        super().__init__(f"{verb} of a {kind}", kind)
        self._number = number

    async def inject(self, town: Town, rng: random.Random) -> bool:
        there = town.roles.those(self.area)
        return bool(there) and town.roles.signal(rng.choice(there), self._number)


class AllAtOnce(_Named):
    """Every process of rater dies."""

    def __init__(self) -> None:
        super().__init__("kill -9 of all at once", "worker")

    async def inject(self, town: Town, rng: random.Random) -> bool:
        killed = [town.roles.signal(key, signal.SIGKILL) for kind in KINDS for key in town.roles.those(kind)]
        return any(killed)


class AtPoint(_Named):
    """Whoever comes to a named point next dies there, or stalls beyond its session."""

    def __init__(self, point: str, stall: bool = False) -> None:
        super().__init__(f"{'stall' if stall else 'kill -9'} at {point}", "sink" if point in SINK_POINTS else "worker")
        self._point = point
        self._stall = stall

    async def inject(self, town: Town, rng: random.Random) -> bool:
        town.roles.order(self._point, f"freeze={town.sizes.freeze}" if self._stall else "kill")
        if self._point in ("restore", "restored"):  # somebody has to restore something
            await Signalled("worker", signal.SIGTERM).inject(town, rng)
        return await town.roles.carried_out(self._point, town.sizes.patience)


class Frozen(_Named):
    """SIGSTOP beyond the session, then SIGCONT: a zombie."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"SIGSTOP of a {kind} beyond its session", kind)
        self._key: Key | None = None

    async def inject(self, town: Town, rng: random.Random) -> bool:
        there = town.roles.those(self.area)
        self._key = rng.choice(there) if there else None
        if self._key is None or not town.roles.signal(self._key, signal.SIGSTOP):
            return False
        await asyncio.sleep(town.sizes.freeze)
        return True

    async def heal(self, town: Town) -> None:
        if self._key is not None:
            town.roles.signal(self._key, signal.SIGCONT)


class Rolling(_Named):
    """Each process is ended in order, one after the other, under load."""

    def __init__(self) -> None:
        super().__init__("rolling restart", "worker")

    async def inject(self, town: Town, rng: random.Random) -> bool:
        for kind in KINDS:
            for key in town.roles.those(kind):
                town.roles.signal(key, signal.SIGTERM)
                await asyncio.sleep(rng.uniform(1, 4))
        return True


class Scaled(_Named):
    """One worker, then four, then two."""

    def __init__(self) -> None:
        super().__init__("scale 1, 4, 2 workers", "worker")

    async def inject(self, town: Town, rng: random.Random) -> bool:
        for count in (1, 4, 2):
            town.roles.scale("worker", count)
            await asyncio.sleep(rng.uniform(*town.sizes.hold))
        return True

    async def heal(self, town: Town) -> None:
        town.roles.scale("worker", WANTED["worker"])


class BrokerAway(_Named):
    """The broker ends, in order or not, and comes back."""

    def __init__(self, name: str, *, kill: bool, long: bool = False) -> None:
        super().__init__(name, "kafka")
        self._kill = kill
        self._long = long

    async def inject(self, town: Town, rng: random.Random) -> bool:
        await asyncio.to_thread(town.broker.kill if self._kill else town.broker.stop)
        if self._long:
            await asyncio.sleep(town.sizes.down)
        return True

    async def heal(self, town: Town) -> None:
        await town.broker_up()


class BrokerStalled(_Named):
    """The broker is stopped with SIGSTOP: connections stay, answers do not come."""

    def __init__(self) -> None:
        super().__init__("broker SIGSTOP", "kafka")

    async def inject(self, town: Town, rng: random.Random) -> bool:
        town.broker.pause()
        return True

    async def heal(self, town: Town) -> None:
        town.broker.resume()


class DiskFull(_Named):
    """The broker cannot write any more; it is started again when there is room."""

    def __init__(self) -> None:
        super().__init__("broker's disk full", "kafka")

    async def inject(self, town: Town, rng: random.Random) -> bool:
        town.disk.fill(town.broker.pid)
        for _ in range(200):  # it gives up at the first write that fails
            if not town.broker.running:
                return True
            await asyncio.sleep(0.1)
        return False

    async def heal(self, town: Town) -> None:
        town.disk.free()
        await asyncio.to_thread(town.broker.stop)
        await town.broker_up()


class Link(_Named):
    """Something happens to the connections to one server."""

    def __init__(self, name: str, area: str, spoil: Callable[[Proxy], object]) -> None:
        super().__init__(name, area)
        self._spoil = spoil

    def _link(self, town: Town) -> Proxy:
        links = {"kafka": town.kafka_link, "clickhouse": town.store_link, "prometheus": town.prometheus_link}
        return links[self.area]

    async def inject(self, town: Town, rng: random.Random) -> bool:
        self._spoil(self._link(town))
        return True

    async def heal(self, town: Town) -> None:
        self._link(town).heal()


class CutAgain(Link):
    """All connections are reset, some times in a row."""

    def __init__(self, area: str) -> None:
        super().__init__(f"connections to {area} cut", area, Proxy.cut)

    async def inject(self, town: Town, rng: random.Random) -> bool:
        for _ in range(4):
            self._link(town).cut()
            await asyncio.sleep(rng.uniform(0.3, 1.5))
        return True


class StoreKilled(_Named):
    """ClickHouse is killed, anywhere or between the insert and the sink's commit."""

    def __init__(self, between: bool) -> None:
        name = "ClickHouse kill -9 between insert and commit" if between else "ClickHouse kill -9"
        super().__init__(name, "clickhouse")
        self._between = between

    async def inject(self, town: Town, rng: random.Random) -> bool:
        if not self._between:
            town.store.kill()
            return True
        town.roles.order("sink-inserted", f"kill={town.store.pid}")
        return await town.roles.carried_out("sink-inserted", town.sizes.patience)

    async def heal(self, town: Town) -> None:
        await town.store_up()


class StoreReadOnly(_Named):
    """ClickHouse refuses inserts."""

    def __init__(self) -> None:
        super().__init__("ClickHouse read-only", "clickhouse")

    async def inject(self, town: Town, rng: random.Random) -> bool:
        town.store.read_only(True)
        return True

    async def heal(self, town: Town) -> None:
        town.store.read_only(False)


class PrometheusAway(_Named):
    """Prometheus ends and comes back."""

    def __init__(self) -> None:
        super().__init__("Prometheus away", "prometheus")

    async def inject(self, town: Town, rng: random.Random) -> bool:
        await asyncio.to_thread(town.prometheus.stop)
        return True

    async def heal(self, town: Town) -> None:
        await town.prometheus_up()


class RulesChanged(_Named):
    """All prices change, while frames are rated."""

    def __init__(self) -> None:
        super().__init__("rule change", "usage")

    async def inject(self, town: Town, rng: random.Random) -> bool:
        town.start(town.prices.change())
        return True


class Late(_Named):
    """Frames that were said are said again later, with other quantities."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(f"late usage, {name}", "usage")
        self._seconds = seconds

    async def inject(self, town: Town, rng: random.Random) -> bool:
        town.pushers.late(self._seconds, LATE_FRAMES)
        return True


class Repeated(_Named):
    """A producer sends again what it has sent."""

    def __init__(self) -> None:
        super().__init__("duplicate producer", "usage")

    async def inject(self, town: Town, rng: random.Random) -> bool:
        town.start(town.pushers.again(100))
        return True


class Unreadable(_Named):
    """Bytes that are no record."""

    def __init__(self) -> None:
        super().__init__("unreadable records", "usage")

    async def inject(self, town: Town, rng: random.Random) -> bool:
        town.start(town.pushers.poison(5))
        return True


def _slow(seconds: float, link: Proxy) -> None:
    link.mode, link.delay = Mode.DELAY, seconds


def _mode(mode: Mode, link: Proxy) -> None:
    link.mode = mode
    if mode is Mode.REFUSE:
        link.cut()


def _says(status: str, body: bytes, kind: str, link: Proxy) -> None:
    link.answer(status, body, kind)
    link.cut()


def _unavailable(link: Proxy) -> None:
    _says("503 Service Unavailable", b"away", "text/plain", link)


TABLE: tuple[Callable[[], Fault], ...] = (
    *(partial(Signalled, kind, number) for kind in KINDS for number in (signal.SIGKILL, signal.SIGTERM)),
    *(partial(AtPoint, point) for point in (*POINTS, *SINK_POINTS)),
    partial(AtPoint, "before_commit", stall=True),
    partial(AtPoint, "chunks_written", stall=True),
    partial(AtPoint, "sink-inserted", stall=True),
    *(partial(Frozen, kind) for kind in KINDS),
    AllAtOnce,
    Rolling,
    Scaled,
    partial(BrokerAway, "broker stopped", kill=False),
    partial(BrokerAway, "broker kill -9", kill=True),
    partial(BrokerAway, "broker down for long", kill=True, long=True),
    BrokerStalled,
    DiskFull,
    partial(CutAgain, "kafka"),
    partial(Link, "connections to kafka delayed", "kafka", partial(_slow, 0.15)),
    partial(Link, "connections to kafka half-open", "kafka", Proxy.silence),
    partial(Link, "connections to kafka refused", "kafka", partial(_mode, Mode.REFUSE)),
    partial(StoreKilled, False),
    partial(StoreKilled, True),
    StoreReadOnly,
    partial(CutAgain, "clickhouse"),
    partial(Link, "ClickHouse refuses (503)", "clickhouse", _unavailable),
    partial(Link, "ClickHouse slow", "clickhouse", partial(_slow, 2.0)),
    partial(Link, "ClickHouse half-open", "clickhouse", Proxy.silence),
    partial(Link, "ClickHouse's answers torn", "clickhouse", partial(_mode, Mode.TORN)),
    PrometheusAway,
    partial(Link, "Prometheus slow", "prometheus", partial(_slow, 1.0)),
    partial(Link, "Prometheus answers 503", "prometheus", _unavailable),
    partial(Link, "Prometheus answers half", "prometheus", partial(_mode, Mode.TORN)),
    partial(
        Link, "Prometheus answers in part, with a warning", "prometheus",
        partial(_says, "200 OK", WARNING, "application/json"),
    ),
    RulesChanged,
    Repeated,
    partial(Late, "1 s", 1.0),
    partial(Late, "1 period", 55.0),
    partial(Late, "beyond the horizon", 90.0),
    Unreadable,
)  # fmt: skip
"""Every class of faults."""

AREAS = tuple(dict.fromkeys(make().area for make in TABLE))


class Decks:
    """Draws faults by one generator: of each area every fault once before any comes again."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._decks: dict[str, list[Callable[[], Fault]]] = {area: [] for area in AREAS}
        self._areas: list[str] = []

    def draw(self, count: int) -> list[Fault]:
        """So many faults, each of another area; in long runs every area is struck equally often for its size."""
        drawn: dict[str, Fault] = {}
        while len(drawn) < count:
            area = self._next_area()
            if area not in drawn:
                drawn[area] = self._next(area)()
        return list(drawn.values())

    def _next_area(self) -> str:
        if not self._areas:
            self._areas = [make().area for make in TABLE]
            self._rng.shuffle(self._areas)
        return self._areas.pop()

    def _next(self, area: str) -> Callable[[], Fault]:
        deck = self._decks[area]
        if not deck:
            deck += [make for make in TABLE if make().area == area]
            self._rng.shuffle(deck)
        return deck.pop()


__all__ = ["AREAS", "TABLE", "Decks", "Fault"]
