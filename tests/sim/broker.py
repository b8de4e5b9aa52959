"""Kafka in memory: partitioned logs with the broker's time, and consumer groups with generations and sessions.

What a request does happens at the broker, some time after it was sent and whether or not the sender still lives; the
answer comes some time after that, or never. Requests of one connection arrive in order.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Any, NamedTuple, Protocol, TypeVar

from rater.model.partition import partition_of
from tests.sim.loop import Host, SimLoop

T = TypeVar("T")

SESSION = 45.0
REBALANCE = 60.0
HEARTBEAT = 5.0
REQUEST_SECONDS = 30.0
OUTSIDE: Context = Context()
"""What happens at the broker happens in no process."""


class LostError(Exception):
    """The request or its answer was lost: the sender cannot know which."""


class Rec(NamedTuple):
    """One record of a log; has the fields of aiokafka's ConsumerRecord that are read."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class Broker:
    """All topics, and what groups have committed. `weather` says how bad the network is."""

    def __init__(self, loop: SimLoop, partitions: int, weather: Weather) -> None:
        self.loop = loop
        self.partitions = partitions
        self.weather = weather
        self.logs: defaultdict[tuple[str, int], list[Rec]] = defaultdict(list)
        self.groups: dict[str, Group] = {}
        self.violations: list[str] = []
        self.on_append: Callable[[Rec], None] = lambda record: None
        self._waiting: dict[asyncio.Future[None], set[tuple[str, int]]] = {}

    def wait_for_data(self, places: Iterable[tuple[str, int]]) -> asyncio.Future[None]:
        """Done when something is appended to any of the partitions."""
        future: asyncio.Future[None] = self.loop.create_future()
        self._waiting[future] = set(places)
        return future

    def forget(self, future: asyncio.Future[None]) -> None:
        """Nobody waits any more."""
        self._waiting.pop(future, None)

    def append(
        self, topic: str, partition: int, key: bytes | None, value: bytes, headers: Iterable[tuple[str, bytes]] = ()
    ) -> int:
        """Appends one record; its offset."""
        records = self.logs[topic, partition]
        at = int(self.loop.time() * 1000)
        records.append(Rec(topic, partition, len(records), at, key, value, tuple(headers)))
        self.on_append(records[-1])
        for future, places in self._waiting.items():
            if (topic, partition) in places and not future.done():
                future.set_result(None)
        return len(records) - 1

    def home(self, key: bytes) -> int:
        """The partition of a key."""
        return partition_of(key, self.partitions)

    def records(self, topic: str) -> list[Rec]:
        """All of a topic, partition after partition."""
        return [record for p in range(self.partitions) for record in self.logs[topic, p]]

    def group(self, name: str) -> Group:
        """The consumer group of that name."""
        if name not in self.groups:
            self.groups[name] = Group(self, name)
        return self.groups[name]


class Weather:
    """How requests fare. `bad` is the chance that one is lost, before or after it did its work."""

    def __init__(self, loop: SimLoop, count: Callable[[str], None]) -> None:
        self.loop = loop
        self.bad = 0.0
        self.slow = 0.05
        self.down_from = self.down_until = 0.0
        self._count = count

    def is_down(self) -> bool:
        """Whether the broker answers nobody."""
        return self.loop.time() < self.down_until

    def go_down(self, seconds: float) -> None:
        """The broker answers nobody for so long."""
        self.down_from, self.down_until = self.loop.time(), self.loop.time() + seconds

    def delay(self) -> float:
        """Seconds; now and then a hundred times as long."""
        rng = self.loop.rng
        return rng.expovariate(1 / self.slow) * (100 if rng.random() < 0.01 else 1)

    def fate(self, what: str) -> str:
        """`ok`, `request lost`, `answer lost`."""
        if self.is_down():
            return "request lost"
        if self.bad and self.loop.rng.random() < self.bad:
            kind = self.loop.rng.choice(["request lost", "answer lost"])
            self._count(f"{what}: {kind}")
            return kind
        return "ok"


class Wire:
    """One connection of a process to the broker."""

    def __init__(self, broker: Broker, host: Host, timeout: float = REQUEST_SECONDS) -> None:
        self.broker = broker
        self.host = host
        self.timeout = timeout
        self._arrived = 0.0

    async def call(self, what: str, do: Callable[[], T], *, reliable: bool = False) -> T:
        """Has the broker do something. Raises LostError."""
        loop, weather = self.broker.loop, self.broker.weather
        if self.host.frozen:
            await asyncio.sleep(0)  # where a process that was frozen a moment ago stops
        if self.host.dead:
            raise asyncio.CancelledError
        future: asyncio.Future[T] = loop.create_future()
        fate = "ok" if reliable else weather.fate(what)
        self._arrived = max(self._arrived, loop.time() + weather.delay())

        def answer(result: Any, fault: Exception | None) -> None:
            if not future.done():
                if fault is not None:
                    future.set_exception(fault)
                else:
                    future.set_result(result)

        def arrive() -> None:
            try:
                result, fault = do(), None
            except Exception as raised:  # noqa: BLE001  whatever it is, it is the answer
                result, fault = None, raised
            if fate == "ok":
                loop.call_later(weather.delay(), answer, result, fault, context=OUTSIDE)

        if fate != "request lost":
            loop.call_at(self._arrived, arrive, context=OUTSIDE)
        if fate != "ok":
            loop.call_later(self.timeout, answer, None, LostError(what), context=OUTSIDE)
        return await future


class Client(Protocol):
    """What a group knows of a member: where it runs, and how it is told that something has changed."""

    host: Host
    closed: bool

    def notice(self) -> None:
        """The answer to a heartbeat: join again, you may have been thrown out."""


class _Member:
    def __init__(self, member_id: str, client: Client) -> None:
        self.member_id = member_id
        self.client = client
        self.joining: asyncio.Future[tuple[int, list[tuple[str, int]]]] | None = None


class Group:
    """The coordinator of one group, as it was measured: while the group gathers, the old generation may commit.

    There are no heartbeats: a member that is frozen or dead for a session is thrown out, one that lives is told of a
    rebalance within the time of a heartbeat.
    """

    def __init__(self, broker: Broker, name: str) -> None:
        self.broker = broker
        self.name = name
        self.generation = 0
        self.committed: dict[tuple[str, int], tuple[int, str]] = {}
        self.history: list[tuple[tuple[str, int], int]] = []
        self.topics: tuple[str, ...] = ()
        self.gathering = False
        self.rebalances = 0
        self._members: dict[str, _Member] = {}
        self._made = 0

    # --- membership

    def join(self, member_id: str, client: Client) -> tuple[str, asyncio.Future[Any]]:
        """Joins, or joins again. The future has (generation, partitions) when the group is complete.

        Or None, if the member is thrown out before.
        """
        if member_id not in self._members:
            self._made += 1
            member_id = f"{client.host.name}-{self._made}"
            self._members[member_id] = _Member(member_id, client)
        member = self._members[member_id]
        if client.closed:
            self.broker.loop.call_later(SESSION, self._expire, member, context=OUTSIDE)
        future = member.joining = self.broker.loop.create_future()
        self._gather()
        self._complete_if_all()
        return member_id, future

    def is_member(self, member_id: str) -> bool:
        """Whether it has not been thrown out."""
        return member_id in self._members

    def wants_us_to_join(self, member_id: str, generation: int) -> bool:
        """What the answer to a heartbeat of that generation says."""
        member = self._members.get(member_id)
        if member is None:
            return True
        return member.joining is None and (self.gathering or generation != self.generation)

    def leave(self, member_id: str) -> None:
        """Leaves in order. If its own request to join was under way, a member stays to which nobody belongs."""
        for member in self._members.values():
            if member.client.closed:
                self.broker.loop.call_later(SESSION, self._expire, member, context=OUTSIDE)
        if self._members.pop(member_id, None) is not None:
            self._gather()
            self._complete_if_all()

    def silent(self, host: Host) -> None:
        """A process was frozen or killed: its members are thrown out after a session, if that lasts so long."""
        for member in self._members.values():
            if member.client.host is host:
                self.broker.loop.call_later(SESSION, self._expire, member, context=OUTSIDE)

    def _expire(self, member: _Member) -> None:
        host = member.client.host
        if (host.dead or member.client.closed or host.silent_for(SESSION)) and member.member_id in self._members:
            self.throw_out(member.member_id)

    def throw_out(self, member_id: str) -> None:
        """As if its heartbeats had not come for a session; it learns of it with the next one."""
        member = self._members.pop(member_id, None)
        if member is not None:
            if member.joining is not None and not member.joining.done():
                member.joining.set_result(None)  # the answer: no such member
            self._tell(member)
            self._gather()
            self._complete_if_all()

    def members(self) -> list[str]:
        """The ids of all members."""
        return sorted(self._members)

    def _tell(self, member: _Member) -> None:
        host = member.client.host
        if not host.dead:
            self.broker.loop.call_later(
                self.broker.loop.rng.uniform(0, HEARTBEAT), member.client.notice, context=host.context
            )

    def _gather(self) -> None:
        if self.gathering:
            return
        self.gathering = True
        self.rebalances += 1
        for member in self._members.values():
            if member.joining is None:
                self._tell(member)
        self.broker.loop.call_later(REBALANCE, self._time_is_up, self.rebalances, context=OUTSIDE)

    def _time_is_up(self, number: int) -> None:
        if self.gathering and number == self.rebalances:
            for member in [m for m in self._members.values() if m.joining is None]:
                del self._members[member.member_id]
                self._tell(member)
            self._complete_if_all()

    def _complete_if_all(self) -> None:
        if not self.gathering or any(member.joining is None for member in self._members.values()):
            return
        self.gathering = False
        self.generation += 1
        members = sorted(self._members.values(), key=lambda m: m.member_id)
        self.broker.loop.rng.shuffle(members)
        places = [(topic, p) for topic in self.topics for p in range(self.broker.partitions)]
        for number, member in enumerate(members):
            assert member.joining is not None
            if not member.joining.done():
                member.joining.set_result((self.generation, places[number :: len(members)]))
            member.joining = None
            host = member.client.host
            if host.dead or host.frozen:
                self.broker.loop.call_later(SESSION, self._expire, member, context=OUTSIDE)

    # --- offsets

    def commit(self, member_id: str, generation: int, offsets: dict[tuple[str, int], tuple[int, str]]) -> int:
        """Kafka's error code; 0 is success. An offset that goes back is accepted, and noted as a violation."""
        if member_id not in self._members:
            return 25
        if generation != self.generation:
            return 22
        for place, (offset, _) in offsets.items():
            self.history.append((place, offset))
            known = self.committed.get(place)
            if known is not None and offset < known[0]:
                self.broker.violations.append(f"group {self.name}: {place} went back from {known[0]} to {offset}")
        self.committed.update(offsets)
        return 0
