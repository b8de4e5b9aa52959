"""One simulation: processes of the production code, usage, an operator, and faults, all from one seed.

`run(seed, steps)` gives the outcome: violations, a trace that tells what happened when, and a digest of all logs.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import logging
import random
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from collectors.errors import PublishError
from collectors.history import History
from collectors.runner import Collector
from collectors.settings import CollectorSettings
from rater.engine import EngineContext, EngineSettings, Expect, closing
from rater.kafka import Topic
from rater.model.codec import content_type
from rater.model.interval import Interval, periods_of
from rater.model.metric import Aggregation, Catalog, Coverage, MetricSpec
from rater.model.rated import AlertKind
from rater.model.usage import FrameForced
from rater.rating import Chain
from rater.rework.values import Bracket, Left, Wanted
from rater.stream.keeper import Keeper
from rater.stream.shell import Shell
from rater.stream.sink_reader import Reader, SinkSettings
from tests.sim import prices, rework
from tests.sim.author import Author
from tests.sim.broker import OUTSIDE, Broker, Weather, Wire
from tests.sim.checks import Watch, final_check
from tests.sim.cloud import METRICS, Cloud, SimPublisher
from tests.sim.kafka import SimConsumer, WorkerMembership
from tests.sim.loop import Host, SimLoop, running
from tests.sim.store import SinkTables, Tables
from tests.sim.truth import PERIOD

BEGIN = 1_767_225_600  # 2026-01-01T00:00:00Z
STEPS = 120
STEP_SECONDS = 400.0
SMALL_PART_BYTES = 200  # a line or two
SKEW = 3600.0
FOLLOWER = "rater"
CATALOG = Catalog(
    [
        MetricSpec("cpu"),
        MetricSpec("disk", aggregation=Aggregation.MAX),
        MetricSpec("net", proof=Coverage.SAMPLES),
        MetricSpec("vm", "instance"),
    ]
)


@dataclass
class Outcome:
    """What became of a seed."""

    seed: int
    steps: int
    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    frames: int = 0
    revisions: int = 0
    digest: str = ""
    trace: list[str] = field(default_factory=list)


class _Metrics:
    """Counters of a process that nobody reads."""

    def __getattr__(self, name: str) -> _Metrics:
        return self

    def labels(self, *_: object) -> _Metrics:
        return self

    def inc(self, *_: object) -> None: ...

    def observe(self, *_: object) -> None: ...

    def count(self, *_: object) -> None: ...


class _Rules:
    """The newest rules as one process knows them. Follows the protocol `Rules` of the shell."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.rules: Chain | None = None

    def learn(self, version: int) -> None:
        if self.rules is None or version > self.rules.version:
            self.rules = prices.chain(version)
        self.ready.set()


class World:
    """Everything there is."""

    def __init__(self, loop: SimLoop, seed: int, steps: int) -> None:
        self.loop = loop
        self.rng = rng = loop.rng
        self.outcome = Outcome(seed, steps)
        self.weather = Weather(loop, self.count)
        self.broker = Broker(loop, rng.choice([1, 2, 3]), self.weather)
        self.tables = Tables(loop, self.count)
        self.cloud = Cloud(loop, seed, self.count)
        self.settings = EngineSettings(
            period=PERIOD,
            wait_periods=rng.choice([1, 2]),
            settle=rng.choice([30, 300, 900]),
            late_horizon_periods=rng.choice([3, 5]),
            gap_horizon_periods=rng.choice([5, 744]),
            expect={"script": Expect.PLANNED, "cloud": Expect.PLANNED},
        )
        self.context = EngineContext(self.settings, CATALOG)
        self.interval = rng.choice([90.0, 200.0, 290.0])
        self.version = 1
        self.mischief = True
        self.hosts: dict[str, Host] = {}
        self.followers: list[tuple[Host, _Rules]] = []
        self.outside = Host(loop, "outside")
        self.operator = Wire(self.broker, self.outside)
        self.author = Author(self.broker, self.outside, self._horizon(), self.count)
        self.watch = Watch(self.broker, self.settings.settle)
        self.broker.on_append = self.watch.saw
        self.reworks: list[str] = []
        self._followed = 0

    def _horizon(self) -> int:
        return self.settings.wait_periods + max(self.settings.late_horizon_periods, 5)

    # --- telling

    def count(self, fault: str) -> None:
        self.outcome.counts[fault] += 1

    def tell(self, text: str) -> None:
        at = self.loop.time() - BEGIN
        self.outcome.trace.append(f"{int(at // 3600):3d}:{int(at // 60) % 60:02d}:{at % 60:06.3f} {text}")

    def wrong(self, text: str) -> None:
        self.tell(f"VIOLATION {text}")
        self.outcome.violations.append(text)

    # --- processes

    def spawn(self, name: str) -> None:
        """Starts a process of the kind that its name begins with."""
        host = self.hosts[name] = Host(self.loop, name)
        if self.mischief and name.startswith("worker") and self.rng.random() < 0.15:
            host.skew = self.rng.choice([-SKEW, SKEW, self.rng.uniform(-60, 60)])
            self.count("clock wrong")
        self.tell(f"start {name} skew {host.skew:.0f}")
        kind = name.split("-")[0]
        work = {"worker": self._worker, "sink": self._sink, "collector": self._collector}[kind](host)
        host.start(self._supervised(host, work))

    async def _supervised(self, host: Host, work: Any) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception as fault:  # noqa: BLE001  whatever a process dies of is what we are looking for
            if not host.dead:
                self.wrong(f"{host.name} died of {fault!r}")

    def dies(self, host: Host, point: str) -> bool:
        """Whether the process dies at this point; it may be frozen instead."""
        if not self.mischief or host.dead:
            return host.dead
        luck = self.rng.random()
        if luck < 0.004:
            self.count(f"killed at {point}")
            self.kill(host.name, f"at {point}")
            return True
        if luck < 0.006:
            self.count(f"frozen at {point}")
            self.freeze(host.name, f"at {point}")
        return False

    def at(self, host: Host) -> Any:
        """The `At` of a process."""

        def at(point: str, partition: int) -> None:
            if self.dies(host, point):
                raise asyncio.CancelledError

        return at

    def kill(self, name: str, why: str = "") -> None:
        host = self.hosts[name]
        if host.dead:
            return
        self.tell(f"kill {name} {why}")
        host.kill()
        pause = self.rng.choice([1.0, 30.0, self.rng.uniform(60, 5000)]) if self.mischief else 1.0
        self.loop.call_later(pause, self.spawn, name, context=OUTSIDE)

    def freeze(self, name: str, why: str = "") -> None:
        host = self.hosts[name]
        if host.dead or host.frozen:
            return
        seconds = self.rng.choice([5.0, 60.0, 120.0, self.rng.uniform(60, 4000)])
        self.tell(f"freeze {name} for {seconds:.0f} s {why}")
        host.freeze()
        self.loop.call_later(seconds, host.thaw, context=OUTSIDE)

    async def _worker(self, host: Host) -> None:
        rules = _Rules()
        self.followers.append((host, rules))
        self.loop.call_later(self.rng.expovariate(0.2), lambda: rules.learn(self.version), context=host.context)

        async def join(shell: Shell) -> WorkerMembership:
            await asyncio.sleep(self.weather.delay())
            return WorkerMembership(self.broker, host, shell, self.count)

        at = self.at(host)
        shell = Shell(
            self.context,
            rules,
            join,
            lambda partition, context, log, register: Keeper(partition, context, log, register, host.clock, at),
            host.clock,
            self.interval,
            lambda keepers: _Metrics(),  # type: ignore[arg-type,return-value]
        )
        await shell.run(asyncio.Event())

    async def _sink(self, host: Host) -> None:
        outside = _Outside(self, host)
        settings = SinkSettings(max_delay=self.rng.choice([1.0, 60.0]), batch_rows=100)
        metrics: Any = _Metrics()

        def reader(name: str, *topics: Topic) -> Reader:
            of = {topic.value: topic for topic in topics}
            return Reader(
                name, of, outside, settings, metrics, self.at(host), clock=host.clock, monotonic=self.loop.time
            )

        async with asyncio.TaskGroup() as group:
            stop = asyncio.Event()
            group.create_task(reader("sink", Topic.RATED, Topic.ALERTS).run(stop))
            group.create_task(reader("sink-usage", Topic.USAGE).run(stop))

    async def _collector(self, host: Host) -> None:
        await asyncio.sleep(self.rng.expovariate(0.1))
        publisher = SimPublisher(self.broker, host)
        history = History("cloud", PERIOD)
        for record in self.broker.records("usage"):
            history.take(record.value, content_type(record.headers))
        settings = CollectorSettings(source="cloud", gone_after=2 * PERIOD)
        collector = Collector(
            settings, METRICS, PERIOD, self.cloud, self.cloud, publisher, history, host.clock,
            spread=lambda pause: pause,  # the same seed, the same run
        )  # fmt: skip
        while True:
            try:
                await collector.round()
            except PublishError:
                await publisher.restart()
                continue
            await asyncio.sleep(280.0)

    # --- what happens

    async def run(self) -> None:
        """Steps with faults, then peace until everything has settled, then the last check."""
        rng = self.rng
        for number in range(rng.choice([1, 2, 3])):
            self.spawn(f"worker-{number}")
        for number in range(rng.choice([1, 1, 2])):
            self.spawn(f"sink-{number}")
        self.spawn("collector-0")
        if self.outcome.seed % 4 == 3:  # one that does not know yet that its scopes went elsewhere
            self.spawn("collector-1")
        if self.outcome.seed % 4 == 1:
            self.author.late_plans = random.Random(f"{self.outcome.seed}/plans")
        if self.outcome.seed % 4 == 2:
            self.author.switches = random.Random(f"{self.outcome.seed}/switches")
        for number in range(rng.randrange(1, 4)):
            self.author.appear(f"s{number}", BEGIN)
        self.cloud.scopes = {f"c{number}" for number in range(rng.randrange(1, 3))}
        self.weather.bad = rng.choice([0.0, 0.01, 0.05])
        self.tables.bad = rng.choice([0.0, 0.02])
        hour = BEGIN
        for _ in range(self.outcome.steps):
            await asyncio.sleep(rng.expovariate(1 / STEP_SECONDS))
            while self.loop.time() >= hour + PERIOD:
                self.author.hour(hour)
                hour += PERIOD
            self._something()
            self._judge()
            if self.outcome.violations:
                return
        await self._settle()

    def _judge(self) -> None:
        for text in [*self.broker.violations, *self.tables.problems, *self.watch.problems, *self.loop.faults]:
            self.wrong(text)
        self.broker.violations.clear()
        self.tables.problems.clear()
        self.watch.problems.clear()
        self.loop.faults.clear()

    def _something(self) -> None:
        rng = self.rng
        what, chance = rng.choice(_ACTIONS), rng.random()
        if chance < 0.75:
            getattr(self, f"_do_{what}")()

    def _do_kill(self) -> None:
        self.count("killed")
        self.kill(self.rng.choice(sorted(self.hosts)))

    def _do_kill_all(self) -> None:
        self.count("all killed")
        for name in sorted(self.hosts):
            self.kill(name)

    def _do_freeze(self) -> None:
        self.count("frozen")
        self.freeze(self.rng.choice(sorted(self.hosts)))

    def _do_throw_out(self) -> None:
        for name in sorted(self.broker.groups):
            members = self.broker.groups[name].members()
            if members and self.rng.random() < 0.6:
                self.count("thrown out of its group")
                self.tell(f"throw {members[0]} out of {name}")
                self.broker.groups[name].throw_out(members[0])

    def _do_network(self) -> None:
        self.count("bad network")
        self.weather.bad, self.weather.slow = self.rng.choice([0.1, 0.3]), self.rng.choice([0.05, 2.0])
        self.tell(f"network: bad {self.weather.bad}, slow {self.weather.slow}")
        self.loop.call_later(self.rng.uniform(60, 3000), self._mend_network, context=OUTSIDE)

    def _mend_network(self) -> None:
        self.weather.bad, self.weather.slow = 0.01 if self.mischief else 0.0, 0.05

    def _do_broker(self) -> None:
        self.count("broker down")
        seconds = self.rng.uniform(10, 900)
        self.tell(f"broker down for {seconds:.0f} s")
        self.weather.go_down(seconds)

    def _do_store(self) -> None:
        self.count("store down")
        seconds = self.rng.uniform(10, 5000)
        self.tell(f"store down for {seconds:.0f} s")
        self.tables.down_until = self.loop.time() + seconds

    def _do_source(self) -> None:
        self.cloud.mode = self.rng.choice(["up", "up", "down", "slow", "partial", "broken"])
        self.count(f"source {self.cloud.mode}")
        self.tell(f"source {self.cloud.mode}")

    def _do_skew(self) -> None:
        host = self.hosts[self.rng.choice(sorted(self.hosts))]
        host.skew = self.rng.choice([-SKEW, SKEW, 0.0])
        self.count("clock set")
        self.tell(f"clock of {host.name}: {host.skew:+.0f} s")

    def _do_rules(self) -> None:
        self.count("rules changed")
        self.version += 1
        self.tell(f"rules: version {self.version}")
        self.followers = [(host, rules) for host, rules in self.followers if not host.dead]
        for host, rules in self.followers:
            self.loop.call_later(self.rng.expovariate(1 / 60.0), rules.learn, self.version, context=host.context)

    def _do_force(self) -> None:
        if self.author.open:
            self.count("forced")
            scope = self.rng.choice(sorted(self.author.open))
            begin = int(self.loop.time() // PERIOD - self.rng.randrange(1, 4)) * PERIOD
            if begin >= BEGIN:
                self.tell(f"force {scope} {begin}")
                self.author.say(FrameForced(scope, begin, "operator", "month end"))

    def _do_rework(self) -> None:
        oldest = self.loop.time() - self.rng.choice([4, 20]) * PERIOD
        number, seed = len(self.reworks), self.outcome.seed
        asked_again = random.Random(f"{seed}/again/{number}") if seed % 5 in (1, 4) and number % 2 else None
        made = rework.bracket(self.tables, self.rng, f"r{number}", CATALOG, int(oldest), asked_again)
        if isinstance(made, Left):
            self.count("rework left")
            self.tell(f"no rework: {made.reason}")
        elif made is not None:
            self.count("rework" if made.begun.kind == "rerate" else "rework with other answers")
            self.tell(f"rework {made.begun.rework_id} of {made.key} on revision {made.begun.base.revision}")
            self.reworks.append(made.begun.rework_id)
            self.author.pending += 1
            self.outside.start(self._rework(made))

    async def _follow_late_plans(self) -> bool:
        """Has frames rated again whose plans came late, as the sink's process does; False if there are none left."""
        told = {
            (alert.scope_id, period.begin)
            for alert in self.watch.alerts
            if alert.kind is AlertKind.LATE_PLAN
            for period in periods_of(Interval(alert.begin, alert.end), PERIOD)
        }
        followed = {
            (alert.scope_id, alert.period_begin)
            for alert in self.watch.alerts
            if alert.kind is AlertKind.REWORK_DONE and alert.rework and alert.rework.author == FOLLOWER
        }
        for key in sorted(told - followed):
            self._followed += 1
            made = rework.bracket_for(
                self.tables, key, Wanted(f"p{self._followed}", "rerate", FOLLOWER, "late"), CATALOG
            )
            if isinstance(made, Left):
                self.wrong(f"a plan came late for {key}, and it cannot be rated again: {made.reason}")
                continue
            self.count("rework for a late plan")
            self.tell(f"rework {made.begun.rework_id} of {key}, whose plan came late")
            await rework.send(self.broker, Wire(self.broker, self.outside), made, may_give_up=False)
        return bool(told - followed)

    async def _rework(self, made: Bracket) -> None:
        if not await rework.send(self.broker, Wire(self.broker, self.outside), made):
            self.count("rework given up")
            self.tell(f"rework {made.begun.rework_id} given up")
        self.author.pending -= 1

    def _do_scope(self) -> None:
        scope = f"s{self.rng.randrange(4)}"
        following = int(self.loop.time() // PERIOD + 1) * PERIOD
        if scope in self.author.open:
            self.count("scope gone")
            self.author.go(scope, following)
        else:
            self.count("scope appeared")
            self.author.appear(scope, following)
        self.tell(f"scopes of script: {sorted(self.author.open)}")

    def _do_cloud_scope(self) -> None:
        self.cloud.scopes = self.cloud.scopes ^ {f"c{self.rng.randrange(3)}"}
        self.count("cloud scope came or went")
        self.tell(f"scopes of cloud: {sorted(self.cloud.scopes)}")

    def _do_silence(self) -> None:
        """A day without anybody saying anything."""
        if self.rng.random() < 0.2:
            self.count("idle partition")
            self.author.pushers = []
            for scope in sorted(self.author.open):
                self.author.go(scope, int(self.loop.time() // PERIOD + 1) * PERIOD)

    def _do_scale(self) -> None:
        name = f"worker-{self.rng.randrange(4)}"
        if name not in self.hosts:
            self.count("scaled up")
            self.spawn(name)

    # --- the end

    async def _settle(self) -> None:
        self.tell("peace")
        self.mischief = False
        self.weather.bad, self.weather.slow, self.weather.down_until = 0.0, 0.05, 0.0
        self.tables.bad, self.tables.down_until = 0.0, 0.0
        self.cloud.mode = "up"
        for host in self.hosts.values():
            host.thaw()
            host.skew = 0.0
        began = self.loop.time()
        while self.author.pending:
            await asyncio.sleep(600)
        await self._quiet(began, (self.settings.wait_periods + 2) * PERIOD)
        while not self.outcome.violations and await self._follow_late_plans():
            await self._quiet(began, PERIOD)
        if self.outcome.violations:
            return
        until = self.loop.time() - self.settings.wait_periods * PERIOD - self.settings.settle - 3 * self.interval - 600
        found = final_check(self, int(until // PERIOD) * PERIOD)
        for text in found:
            self.wrong(text)

    async def _quiet(self, began: float, at_least: float) -> None:
        """Waits until all has been read that there is. The collector ends two hours after all `began` to settle."""
        quiet_since = self.loop.time()
        while self.loop.time() < quiet_since + at_least or not self._is_quiet():
            if self.loop.time() > began + 2 * PERIOD:
                for name, host in self.hosts.items():
                    if name.startswith("collector") and not host.dead:
                        host.kill()
            await asyncio.sleep(300)
            self._judge()
            if self.outcome.violations:
                return
            if self.loop.time() > quiet_since + 48 * PERIOD:
                self.wrong(f"does not settle: {self._lags()}")
                return

    def _lags(self) -> dict[str, int]:
        lags: dict[str, int] = {}
        for name, group in sorted(self.broker.groups.items()):
            for topic in group.topics:
                for partition in range(self.broker.partitions):
                    end = len(self.broker.logs[topic, partition])
                    at = group.committed.get((topic, partition), (0, ""))[0]
                    if at < end:
                        lags[f"{name}/{topic}/{partition}"] = end - at
        return lags

    def _is_quiet(self) -> bool:
        return not self._lags()


class _Outside:
    """What the sink's readers share. Follows the protocol `Outside`."""

    def __init__(self, world: World, host: Host) -> None:
        self._world = world
        self._host = host
        self.tables = SinkTables(world.tables, host, world.dies)

    async def in_thread(self, call: Any) -> Any:
        return await self._world.loop.run_in_executor(None, call)

    async def prepare(self) -> None:
        await asyncio.sleep(self._world.weather.delay())

    def consumer(self, group: str, topics: Any, listener: Any) -> SimConsumer:
        return SimConsumer(self._world.broker, self._host, group, tuple(topic.value for topic in topics), listener)

    async def reject(self, refused: Any) -> None:
        for record, reason in refused:
            self._world.wrong(f"the sink refused {record.topic} {record.partition} @{record.offset}: {reason}")


_ACTIONS = (
    ["kill"] * 6
    + ["freeze"] * 5
    + ["throw_out"] * 4
    + ["network"] * 3
    + ["rules"] * 5
    + ["source"] * 4
    + ["skew"] * 3
    + ["broker", "broker", "store", "store", "force", "force", "scope", "scope", "cloud_scope", "silence", "scale"]
    + ["kill_all"]
    + ["rework"] * 6
)


@contextmanager
def _deterministic(rng: random.Random) -> Iterator[None]:
    """Ids that production draws by chance come from the seed."""

    def uuid4() -> uuid.UUID:
        return uuid.UUID(int=rng.getrandbits(128), version=4)

    with mock.patch.object(uuid, "uuid4", new=uuid4):
        yield


@contextmanager
def _small(seed: int) -> Iterator[None]:
    """Some seeds have frames as if they had thousands of lines.

    Every third has them published in several parts, every fifth decided in a thread.
    """
    decide = importlib.import_module("rater.engine.decide")  # the package gives the function of that name
    parts = SMALL_PART_BYTES if seed % 3 == 2 else closing.PART_BYTES
    points = 0 if seed % 5 == 2 else decide.LONG_POINTS
    with mock.patch.object(closing, "PART_BYTES", parts), mock.patch.object(decide, "LONG_POINTS", points):
        yield


def run(seed: int, steps: int = STEPS) -> Outcome:
    """Simulates one seed."""
    logging.disable(logging.CRITICAL)
    loop = SimLoop(seed, BEGIN)
    try:
        with _deterministic(loop.rng), _small(seed), running(loop):
            world = World(loop, seed, steps)
            loop.run_until_complete(world.run())
            outcome = world.outcome
            outcome.digest = _digest(world)
            world.mischief = False
            for host in world.hosts.values():
                host.kill()
            world.outside.kill()
    finally:
        logging.disable(logging.NOTSET)
    return outcome


def _digest(world: World) -> str:
    found = hashlib.blake2b(digest_size=16)
    for place in sorted(world.broker.logs):
        for record in world.broker.logs[place]:
            found.update(repr((place, record.offset, record.timestamp, record.key, record.value)).encode())
    for name, rows in sorted(world.tables.rows.items()):
        found.update(repr((name, sorted(map(repr, rows)))).encode())
    found.update("\n".join(world.outcome.trace).encode())
    return found.hexdigest()


__all__ = ["BEGIN", "STEPS", "Outcome", "World", "run"]
