"""What production code sees of the broker: a consumer, a log of snapshots and output, the coordinator of a Faust app.

The register is the production one: it is given a coordinator that speaks to the group in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaConnectionError
from aiokafka.structs import OffsetAndMetadata

from rater.engine import OutboxItem, Record
from rater.stream.interfaces import RestoreRefusedError, Run, StreamUnavailableError
from rater.stream.register import FaustRegister
from rater.stream.shell import Shell
from tests.sim.broker import OUTSIDE, Broker, LostError, Rec, Wire
from tests.sim.loop import Host

IDLE_SECONDS = 900.0  # how long a poll that finds nothing may take: a virtual clock need not be woken twice a second


class Member:
    """One process' membership in a group: joins, is told of rebalances, joins again."""

    def __init__(self, broker: Broker, host: Host, group: str, topics: tuple[str, ...]) -> None:
        self.host = host
        self.broker = broker
        self.group = broker.group(group)
        self.group.topics = topics
        self.member_id = ""
        self.generation = -1
        self.places: list[tuple[str, int]] = []
        self.closed = False
        self.changed = asyncio.Event()
        self.poll: asyncio.Future[None] | None = None
        self.wire = Wire(broker, host)
        host.on_silent.append(self.group.silent)

    def notice(self) -> None:
        """A heartbeat: it says whether the group changes."""
        if self.group.wants_us_to_join(self.member_id, self.generation):
            self.changed.set()
            self.end_poll()

    def end_poll(self) -> None:
        """Has a fetch that waits for data look again."""
        if self.poll is not None and not self.poll.done():
            self.poll.set_result(None)

    async def join(self) -> None:
        """Joins, or joins again; returns with the partitions. Raises LostError."""
        known = self.member_id if self.group.is_member(self.member_id) else ""
        self.changed.clear()
        self.member_id, joined = await self.wire.call("join", lambda: self.group.join(known, self), reliable=True)
        answer = await joined
        if answer is None:
            raise LostError
        self.generation, self.places = answer

    def leave(self) -> None:
        """Tells the group, if we are still there to do so. A request to join may still be under way."""
        self.closed = True
        if not self.host.dead:
            self.group.leave(self.member_id)

    def position(self, place: tuple[str, int]) -> int:
        """Where reading goes on: what is committed, else the beginning."""
        committed = self.group.committed.get(place)
        return committed[0] if committed else 0


class Coordinator:
    """aiokafka's group coordinator, as far as `FaustRegister` touches it."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self.group_id = member.group.name

    @property
    def generation(self) -> int:
        return self._member.generation

    @property
    def member_id(self) -> str:
        return self._member.member_id

    def coordinator_dead(self) -> None:
        """There is one coordinator, and it is found again at once."""

    async def ensure_coordinator_known(self) -> None:
        """It is."""

    async def _send_req(self, request: Any) -> Any:
        topic, [(partition, offset, metadata)] = request._topics[0]
        member_id, generation = request._consumer_id, request._consumer_group_generation_id
        try:
            code = await self._member.wire.call(
                "commit",
                lambda: self._member.group.commit(member_id, generation, {(topic, partition): (offset, metadata)}),
            )
        except LostError:
            raise KafkaConnectionError from None
        return SimpleNamespace(topics=[(topic, [(partition, code)])])

    async def fetch_committed_offsets(self, keys: Sequence[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata]:
        committed = self._member.group.committed
        try:
            found = await self._member.wire.call("fetch", lambda: {key: committed.get(tuple(key)) for key in keys})
        except LostError:
            raise KafkaConnectionError from None
        return {key: OffsetAndMetadata(*value) for key, value in found.items() if value is not None}


async def _at_once(call: Callable[[], Awaitable[Any]]) -> Any:
    return await call()


class WorkerMembership:
    """What a Faust app is to the shell: a consumer of `usage`. Follows the protocol `Membership`."""

    def __init__(self, broker: Broker, host: Host, shell: Shell, count: Callable[[str], None]) -> None:
        self.partitions = broker.partitions
        self.log = SimLog(broker, host)
        self._shell = shell
        self._count = count
        self._member = Member(broker, host, "worker", ("usage",))
        self._coordinator = Coordinator(self._member)
        self._generation = -1
        thread = SimpleNamespace(
            call_thread=_at_once,
            _ensure_consumer=lambda: SimpleNamespace(
                _coordinator=self._coordinator,
                highwater=lambda key: len(broker.logs[key.topic, key.partition]),
                last_poll_timestamp=lambda _: host.clock() * 1000,
            ),
        )
        self._app: Any = SimpleNamespace(consumer=SimpleNamespace(_thread=thread), consumer_generation_id=-1)
        self.register = FaustRegister(self._app, "usage", host.clock)
        self._living: asyncio.Task[None] | None = None
        self._restoring: asyncio.Task[None] | None = None

    def _told_ms(self, key: TopicPartition) -> int:
        """When the broker last answered a fetch: those that find nothing are not simulated one by one."""
        assert tuple(key) in self._member.places
        host, weather = self._member.host, self.log.broker.weather
        ago = host.awake_for()
        if ago > 2.0:
            ago = max(0.0, weather.loop.time() - weather.down_from) if weather.is_down() else weather.loop.rng.random()
        else:
            ago = 600.0  # it has just woken up
        return int((host.clock() - ago) * 1000)

    def _highwater(self, key: TopicPartition) -> int:
        assert tuple(key) in self._member.places
        return len(self.log.broker.logs[tuple(key)])

    def assigned(self) -> set[int]:
        return {partition for _, partition in self._member.places}

    async def start(self) -> None:
        self._living = asyncio.create_task(self._live())

    async def stop(self) -> None:
        if self._living is not None:
            self._living.cancel()
            await asyncio.wait([self._living])
        if self._restoring is not None:
            self._restoring.cancel()
        self._member.leave()

    async def _live(self) -> None:
        while True:
            with suppress(LostError):
                await self._member.join()
                self._app.consumer_generation_id = self._member.generation
                self._restoring = asyncio.create_task(self._stay(self._restoring))
                await self._member.changed.wait()
                self._member.places = []
                await self._shell.revoked()

    async def _stay(self, earlier: asyncio.Task[None] | None) -> None:
        generation = self._member.generation
        if earlier is not None:  # the signals of Faust come one after the other
            try:
                await asyncio.wait([earlier])
            except asyncio.CancelledError:  # an app that is stopped takes all of its tasks with it
                earlier.cancel()
                raise
        await self._shell.assigned(self)
        places = list(self._member.places)
        await self._member.wire.call("seek", lambda: None, reliable=True)
        positions = {place: self._member.position(place) for place in places}
        while self._member.generation == generation and not self._member.changed.is_set() and positions:
            got = await fetch(self._member, positions, 20, IDLE_SECONDS)
            for place, records in got.items():
                for record in self._repeated(place, records):
                    if self._member.generation == generation and not self._member.changed.is_set():
                        self._shell.consume(place[1], _engine_record(record))

    def _repeated(self, place: tuple[str, int], records: list[Rec]) -> list[Rec]:
        """Now and then the broker gives again what it gave before."""
        rng = self.log.broker.loop.rng
        if not records or rng.random() > 0.03:
            return records
        self._count("records fetched twice")
        back = max(0, records[0].offset - rng.randrange(1, 6))
        return [*self.log.broker.logs[place][back : records[0].offset], *records]


def _engine_record(record: Rec) -> Record:
    return Record(record.offset, record.timestamp, record.key, record.value, record.headers)


async def fetch(
    member: Member, positions: dict[tuple[str, int], int], most: int, patience: float
) -> dict[tuple[str, int], list[Rec]]:
    """What comes next from some of the partitions, in any order among them; nothing after `patience` seconds."""
    broker = member.broker
    ends = broker.loop.time() + patience
    while True:
        await _data(broker, member, positions, ends)
        if member.host.dead:
            raise asyncio.CancelledError
        await asyncio.sleep(broker.weather.delay())
        found: dict[tuple[str, int], list[Rec]] = {}
        places = [place for place, position in positions.items() if position < len(broker.logs[place])]
        broker.loop.rng.shuffle(places)
        if broker.loop.time() >= broker.weather.down_until:
            for place in places[: broker.loop.rng.randrange(1, 4)]:
                found[place] = broker.logs[place][positions[place] : positions[place] + most]
                positions[place] += len(found[place])
        if found or broker.loop.time() >= ends or member.changed.is_set():
            return found
        if places:
            await asyncio.sleep(5.0)


async def _data(broker: Broker, member: Member, positions: Mapping[tuple[str, int], int], ends: float) -> None:
    """Until there is something to fetch, the group changes, or the time is up."""
    if any(position < len(broker.logs[place]) for place, position in positions.items()) or member.changed.is_set():
        return
    member.poll = broker.wait_for_data(positions)
    late = broker.loop.call_at(max(ends, broker.loop.time()), member.end_poll)
    try:
        await member.poll
    finally:
        late.cancel()
        broker.forget(member.poll)


class SimLog:
    """Snapshot chunks and output. Follows the protocol `Log`."""

    def __init__(self, broker: Broker, host: Host) -> None:
        self.broker = broker
        self._wire = Wire(broker, host)

    async def write_chunks(self, partition: int, run_id: str, chunks: Sequence[bytes]) -> int:
        first = -1
        for number, chunk in enumerate(chunks):
            key = f"{run_id}:{number}/{len(chunks)}".encode()
            offset = await self._ask(
                "chunk", lambda key=key, chunk=chunk: self.broker.append("checkpoints", partition, key, chunk)
            )
            first = offset if first < 0 else first
        return first

    async def publish(self, partition: int, items: Sequence[OutboxItem]) -> None:
        start = 0
        while start < len(items):
            length = self.broker.loop.rng.choice([1, 2, 5, 50])
            await self._ask("publish", lambda some=items[start : start + length]: self._append(partition, some))
            start += length

    def _append(self, partition: int, items: Sequence[OutboxItem]) -> None:
        for item in items:
            self.broker.append(item.topic, partition, item.key, item.value, item.headers)

    async def read_chunks(self, partition: int, runs: Sequence[Run]) -> list[list[bytes]]:
        await self._ask("read", lambda: None)
        log = self.broker.logs["checkpoints", partition]
        found = []
        for run in runs:
            prefix = f"{run.run_id}:".encode()
            chunks = [record.value for record in log[run.first_offset :] if (record.key or b"").startswith(prefix)]
            if len(chunks) != run.chunks:
                raise RestoreRefusedError(f"{len(chunks)} of {run.chunks} chunks of run {run.run_id} are there")
            found.append(chunks)
        return found

    async def has_chunks(self, partition: int) -> bool:
        return await self._ask("read", lambda: bool(self.broker.logs["checkpoints", partition]))

    async def first_offset(self, partition: int) -> int:
        return await self._ask("read", lambda: 0)

    async def _ask(self, what: str, do: Callable[[], Any]) -> Any:
        try:
            return await self._wire.call(what, do)
        except LostError:
            raise StreamUnavailableError(f"{what} was not answered") from None


class SimConsumer:
    """A consumer of the sink, as aiokafka's: polls, commits, tells its listener."""

    def __init__(self, broker: Broker, host: Host, group: str, topics: tuple[str, ...], listener: Any) -> None:
        self._broker = broker
        self._member = Member(broker, host, group, topics)
        self._listener = listener
        self._positions: dict[tuple[str, int], int] = {}
        self._living: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    async def start(self) -> None:
        self._living = asyncio.create_task(self._live())

    async def stop(self) -> None:
        if self._living is not None:
            self._living.cancel()
            await asyncio.wait([self._living])
        self._member.leave()

    async def _live(self) -> None:
        while True:
            with suppress(LostError):
                await self._member.join()
                self._positions = {place: self._member.position(place) for place in self._member.places}
                self._listener.on_partitions_assigned([TopicPartition(*place) for place in self._member.places])
                self._ready.set()
                await self._member.changed.wait()
                self._ready.clear()
                self._positions = {}
                self._listener.on_partitions_revoked([])

    async def getmany(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Rec]]:
        await self._ready.wait()
        patience = IDLE_SECONDS if timeout_ms >= 500 else timeout_ms / 1000
        generation, positions = self._member.generation, dict(self._positions)
        got = await fetch(self._member, positions, min(max_records, 20), patience)
        if not self._ready.is_set() or self._member.generation != generation:
            return {}
        self._positions = positions
        return {TopicPartition(*place): records for place, records in got.items()}

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        member = self._member
        if any(tuple(place) not in member.places for place in offsets) or not self._ready.is_set():
            raise IllegalStateError("not assigned")
        member_id, generation = member.member_id, member.generation
        wanted = {(place.topic, place.partition): (offset, "") for place, offset in offsets.items()}
        try:
            code = await member.wire.call("sink commit", lambda: member.group.commit(member_id, generation, wanted))
        except LostError:
            raise KafkaConnectionError from None
        if code:
            raise CommitFailedError(f"code {code}")

    async def committed(self, place: TopicPartition) -> int:
        return self._member.position(tuple(place))

    def highwater(self, place: TopicPartition) -> int:
        return len(self._broker.logs[place.topic, place.partition])


__all__ = ["OUTSIDE", "Member", "SimConsumer", "SimLog", "WorkerMembership"]
