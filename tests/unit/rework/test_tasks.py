"""Requests are done once, whoever dies in the middle, and what cannot be done is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from rater.model.codec import MSGPACK, decode_usage
from rater.model.rated import Alert, AlertKind, ReworkResult
from rater.model.requests import ScopeOutcome
from rater.model.usage import ScopeSwitch
from rater.reports import ReworkRequest, Selection, UsageRequest
from rater.rework import Bracket, FrameKey, Left, Make, Material, ReworkError, Task, TaskFollower, Wanted, bracket_of
from rater.store import FrameRow, Kept, ReworkRow, ScopeRow
from tests.unit.rework.builders import CATALOG, HOUR, T, a_frame_row, a_part, a_reference, stored

SCOPES = ("A", "B")
HOURS = 6


class Town:
    """Stands for the store and for the engine behind the topics, as a rework sees them."""

    def __init__(self, *, hides: int = 0) -> None:
        """`hides`: how many questions for reworks find nothing, since the sink has not stored them yet."""
        self.frames_of = {(scope, T + n * HOUR): frame(scope, n) for scope in SCOPES for n in range(HOURS)}
        self.reworks_of: dict[tuple[str, int, str], ReworkRow] = {}
        self.sent = self.questions = 0
        self.dies_at = -1
        self.switched: list[ScopeSwitch] = []
        self.refuses: dict[FrameKey, int] = {}
        self._hides = hides
        self._answers: list[Alert] = []

    # what is read

    def frames(self, selection: Selection) -> Iterator[FrameRow]:
        self.questions += 1
        begin, end = selection.begin or 0, selection.end or 2**32
        return iter([f for (s, b), f in sorted(self.frames_of.items()) if s == selection.scope_id and begin <= b < end])

    def scopes(self) -> list[ScopeRow]:
        return [ScopeRow(scope, T, T + HOURS * HOUR, HOURS) for scope in SCOPES]

    def lines(self, selection: Selection) -> Iterator[Any]:
        return iter(())

    def usage(self, request: UsageRequest) -> Iterator[Any]:
        parts = [part(request.scope_id, n) for n in range(HOURS)]
        return iter(stored(*(one for one in parts if request.begin <= one.begin < request.end)))

    def kept(self) -> Kept:
        return Kept()

    def reworks(self, request: ReworkRequest) -> Iterator[ReworkRow]:
        self._hides -= 1
        rows = [row for row in self.reworks_of.values() if row.rework_id == request.rework_id]
        return iter(rows if self._hides < 0 else [])

    # what is written

    async def send(self, scope_id: str, values: Sequence[bytes]) -> None:
        if self.sent == self.dies_at:
            raise asyncio.CancelledError
        self.sent += 1
        begun = decode_usage(values[0], MSGPACK)
        if isinstance(begun, ScopeSwitch):
            self.switched.append(begun)
            return
        key = begun.scope_id, begun.period_begin
        known = self.frames_of[key]
        kind = AlertKind.REWORK_DONE
        if self.refuses.get(key, 0) > 0 or begun.base.revision != known.revision:
            self.refuses[key] = self.refuses.get(key, 0) - 1
            kind = AlertKind.REWORK_REFUSED
        else:
            self.frames_of[key] = msgspec.structs.replace(known, revision=known.revision + 1, rework_id=begun.rework_id)
        self._tell(begun, kind)

    def _tell(self, begun: Any, kind: AlertKind) -> None:
        base = begun.base.revision
        revision = base + (kind is AlertKind.REWORK_DONE)
        said = ReworkResult(begun.rework_id, begun.kind, begun.author, begun.reason, base, revision, 1, 1)
        begin = begun.period_begin
        self._answers.append(
            Alert("0" * 32, kind, begun.scope_id, "", "", begin, begin, begin + HOUR, base, T, "busy", rework=said)
        )
        row = (*key_of(begun), begun.kind, begun.author, begun.reason)
        outcome = "done" if kind is AlertKind.REWORK_DONE else "refused"
        place = key_of(begun)
        if place not in self.reworks_of or outcome == "done":
            self.reworks_of[place] = ReworkRow(*row, outcome, base, revision, 1, 1, [], [], T, "")

    async def answers(self, seconds: float) -> list[Alert]:
        await asyncio.sleep(0)
        found, self._answers = self._answers, []
        return found

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Town]:
        self._answers = []  # answers begin with the opening
        yield self


class Topic:
    """Stands for topic `requests`."""

    def __init__(self, *tasks: Task) -> None:
        self.tasks = list(tasks)
        self.told: list[ScopeOutcome] = []
        self.switches: list[ScopeSwitch] = []
        self.is_held = True

    def is_ours(self) -> bool:
        return self.is_held

    async def waiting(self, seconds: float) -> list[Task]:
        await asyncio.sleep(0.01)
        return self.tasks if self.is_held else []

    async def over(self, request_id: str, outcomes: Iterable[ScopeOutcome]) -> None:
        self.tasks = [task for task in self.tasks if task.request_id != request_id]
        self.told += outcomes

    def unsent(self) -> list[ScopeSwitch]:
        return self.switches if self.is_held else []

    async def sent(self, count: int) -> None:
        self.switches = self.switches[count:]

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Topic]:
        yield self


def key_of(begun: Any) -> tuple[str, int, str]:
    return begun.scope_id, begun.period_begin, begun.rework_id


def part(scope: str, hour: int) -> Any:
    return a_part(T + hour * HOUR, scope_id=scope, collection_id=f"c{hour}")


def frame(scope: str, hour: int) -> FrameRow:
    begin = T + hour * HOUR
    return a_frame_row(("cpu", a_reference(2, f"c{hour}", begin=begin)), begin=begin, scope_id=scope, digest="0" * 32)


def a_task(scope: str = "A", begin: int = 1, end: int = 5, request_id: str = "r1") -> Task:
    return Task(request_id, scope, "reset", T + begin * HOUR, T + end * HOUR, "ann", "why", T)


def revisions(town: Town, scope: str = "A") -> list[int]:
    return [frame.revision for frame in town.frames(Selection(scope))]


async def followed(town: Town, topic: Topic, make: Any = None, pauses: Sequence[float] = (0, 0, 0)) -> None:
    """A follower until it dies or nothing is left to be done."""

    @asynccontextmanager
    async def source(wanted: Wanted) -> AsyncIterator[Make | None]:
        yield make(wanted) if make else None

    follower = TaskFollower(town, CATALOG, HOUR, topic.opened, town.opened, source, pauses)  # type: ignore[arg-type]  # stands for a view
    stop = asyncio.Event()
    running = asyncio.create_task(follower.run(stop))
    async with asyncio.timeout(30):
        while topic.tasks and not running.done():
            await asyncio.sleep(0.01)
    stop.set()
    await asyncio.wait({running})


async def test_all_closed_frames_of_a_request_are_rated_once_more() -> None:
    town, topic = Town(), Topic(a_task("A", 1, 5), a_task("B", 4, 99))
    await followed(town, topic)
    assert revisions(town, "A") == [0, 1, 1, 1, 1, 0]
    assert revisions(town, "B") == [0, 0, 0, 0, 1, 1]
    assert topic.told == [ScopeOutcome("A", done=4), ScopeOutcome("B", done=2)]
    assert {row.author for row in town.reworks_of.values()} == {"ann"}


async def test_what_was_before_the_first_frame_is_not_asked_for_week_by_week() -> None:
    """A reset to 1970 is how all of a scope is rated again: it must not hold up the others for hours."""
    began = -T // HOUR
    town, topic = Town(), Topic(a_task("A", began, 99_999), a_task("gone", began, 5))
    await followed(town, topic)
    assert revisions(town) == [1] * 6
    assert topic.told == [ScopeOutcome("A", done=6), ScopeOutcome("gone")]
    assert town.questions < 10


@pytest.mark.parametrize("hides", [0, 2], ids=["all is stored", "the sink lags"])
@pytest.mark.parametrize("dies_at", range(8))
async def test_a_successor_goes_on_where_one_died(dies_at: int, hides: int) -> None:
    # given one that dies before it has sent all: what it sent is rated all the same
    town, topic = Town(), Topic(a_task("A", 0, 4), a_task("B", 0, 4))
    town.dies_at = dies_at
    await followed(town, topic)
    assert sum(revisions(town, "A") + revisions(town, "B")) == dies_at
    # when another one takes over, for which the store may not have it yet
    town.dies_at, town._hides = -1, hides
    await followed(town, topic)
    # then each frame was rated again exactly once
    assert revisions(town, "A") == revisions(town, "B") == [1, 1, 1, 1, 0, 0]
    assert topic.told == [ScopeOutcome("A", done=4), ScopeOutcome("B", done=4)]


async def test_a_frame_that_another_rework_has_is_tried_again() -> None:
    town, topic = Town(), Topic(a_task("A", 1, 3))
    town.refuses["A", T + HOUR] = 2
    await followed(town, topic)
    assert revisions(town) == [0, 1, 1, 0, 0, 0]
    assert topic.told == [ScopeOutcome("A", done=2)]


async def test_what_stays_refused_is_told() -> None:
    town, topic = Town(), Topic(a_task("A", 1, 3))
    town.refuses["A", T + HOUR] = 99
    await followed(town, topic)
    assert revisions(town) == [0, 0, 1, 0, 0, 0]
    assert topic.told == [ScopeOutcome("A", done=1, left=1, told="rework_refused: busy")]


async def test_what_goes_to_another_process_is_left_to_it() -> None:
    town, topic = Town(), Topic(a_task("A", 1, 3))
    town.refuses["A", T + HOUR] = 1
    running = asyncio.create_task(followed(town, topic, pauses=(0.3, 0)))
    await asyncio.sleep(0.1)
    topic.is_held = False
    await asyncio.sleep(0.4)
    assert (topic.told, revisions(town)[1]) == ([], 0)
    topic.is_held = True
    await running
    assert revisions(town) == [0, 1, 1, 0, 0, 0]


def asking(silent: int, reason: str = "", *, may_pass: bool = False) -> Any:
    """A source that leaves a frame as it is for so many tries, and then answers."""
    tries: list[int] = []

    def made(wanted: Wanted) -> Make:
        tries.append(1)

        async def make(material: Material) -> Bracket | Left:
            if len(tries) <= silent:
                return Left(*material.key, reason, may_pass)
            fresh = [msgspec.structs.replace(part(material.frame.scope_id, 1), collection_id="fresh", rework_id="r1")]
            return bracket_of(material, wanted, CATALOG, fresh)

        return make

    return made


@pytest.mark.parametrize(
    ("silent", "may_pass", "tries", "told"),
    [
        (0, False, 1, ""),
        (2, True, 3, ""),
        (99, True, 4, "not collected again: no answer"),
        (99, False, 1, "not collected again: no answer"),
    ],
    ids=["answers", "answers the third time", "never answers", "cannot answer"],
)
async def test_the_source_is_asked_first_and_the_store_in_its_place(
    silent: int, may_pass: bool, tries: int, told: str
) -> None:
    town, topic, opened = Town(), Topic(a_task("A", 1, 2)), []
    source = asking(silent, "no answer", may_pass=may_pass)

    def counted(wanted: Wanted) -> Make:
        opened.append(wanted.kind)
        return source(wanted)

    await followed(town, topic, counted)
    assert revisions(town) == [0, 1, 0, 0, 0, 0]
    assert opened == ["reprocess"] * tries
    assert topic.told == [ScopeOutcome("A", done=1, told=told)]


async def test_a_frame_whose_usage_is_not_stored_is_left_and_said() -> None:
    town, topic = Town(), Topic(a_task("A", 1, 3))
    town.frames_of["A", T + HOUR] = a_frame_row(("cpu", a_reference(2, "gone")), begin=T + HOUR)
    await followed(town, topic, asking(99, "it has nothing from then"))
    (told,) = topic.told
    assert (told.done, told.left) == (1, 1)
    assert told.told.startswith("it has nothing from then; ")
    assert revisions(town) == [0, 0, 1, 0, 0, 0]


async def test_switches_are_sent_in_order_and_do_not_wait_for_requests() -> None:
    town, topic = Town(), Topic(a_task("A", 1, 3))
    town.refuses["A", T + HOUR] = 1
    switches = [ScopeSwitch("A", number, number % 2 == 0, T, "ann") for number in (1, 2, 3)]
    running = asyncio.create_task(followed(town, topic, pauses=(0.5, 0)))
    await asyncio.sleep(0.1)
    topic.switches = list(switches)
    async with asyncio.timeout(10):
        while topic.switches:
            await asyncio.sleep(0.01)
    assert town.switched == switches
    assert topic.tasks, "the request waits for another rework"
    await running
    assert topic.told == [ScopeOutcome("A", done=2)]


async def test_without_kafka_it_says_so_and_waits() -> None:
    @asynccontextmanager
    async def gone() -> AsyncIterator[Topic]:
        raise ReworkError("gone")
        yield Topic()

    town = Town()
    follower = TaskFollower(town, CATALOG, HOUR, gone, town.opened, None)  # type: ignore[arg-type]  # nothing is asked for
    stop = asyncio.Event()
    running = asyncio.create_task(follower.run(stop))
    while not follower.red():
        await asyncio.sleep(0.01)
    assert follower.red() == "requests wait: gone"
    stop.set()
    await running
