"""How frames of a rework are sent: bounded, answered one by one, given up when nobody answers, sent anew when stale."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from rater.model.codec import MSGPACK, decode_usage
from rater.model.rated import Alert, AlertKind, ReworkResult
from rater.model.usage import Collection, ReworkBegun
from rater.reports import StoreView
from rater.rework import Bracket, Finished, Material, Runner, Wanted, bracket_of, run_rework
from rater.store import Batch, Store, StoreSettings, migrate, write
from tests.unit.rework.builders import CATALOG, HOUR, T, a_frame_row, a_part, stored
from tests.unit.store.builders import a_frame, a_line, store_frames

WANTED = Wanted("r1", "rerate", "ann", "why")


class Engine:
    """Stands for the topics and the engine behind them: answers each bracket as `says` tells, or never."""

    def __init__(self, says: Iterable[AlertKind | None] = (), *, otherwise: AlertKind | None = None) -> None:
        self._says = list(says)
        self._otherwise = otherwise
        self._answers: list[Alert] = []
        self.sent: list[list] = []
        self.most_open = 0

    async def send(self, scope_id: str, values: Sequence[bytes]) -> None:
        records = [decode_usage(value, MSGPACK) for value in values]
        self.sent.append(records)
        self.most_open = max(self.most_open, len(self._answers) + 1)
        kind = self._says.pop(0) if self._says else self._otherwise
        if kind is not None:
            self._answers.append(answer(records[0], kind))

    async def answers(self, seconds: float) -> list[Alert]:
        await asyncio.sleep(0)
        if not seconds:
            return []
        found, self._answers = self._answers, []
        return found


def answer(begun: ReworkBegun, kind: AlertKind) -> Alert:
    base = begun.base.revision
    result = ReworkResult(begun.rework_id, "rerate", "ann", "why", base, base + (kind is AlertKind.REWORK_DONE), 1, 1)
    return Alert(
        "0" * 32, kind, begun.scope_id, "", "", begun.period_begin, begun.period_begin, begun.period_begin + HOUR,
        base, T, "", rework=result,
    )  # fmt: skip


def a_bracket(hour: int) -> Bracket:
    begin = T + hour * HOUR
    made = bracket_of(Material(a_frame_row(begin=begin), [], stored(a_part(begin))), WANTED, CATALOG)
    assert isinstance(made, Bracket)
    return made


def numbers_of(records: list) -> set[tuple[str, int]]:
    return {(record.producer_id, record.sequence) for record in records if isinstance(record, Collection)}


async def test_only_so_many_frames_are_under_way_and_each_is_answered() -> None:
    engine, counted = Engine(otherwise=AlertKind.REWORK_DONE), []
    runner = Runner(WANTED, engine, open_frames=3, on_answer=counted.append)
    for hour in range(10):
        assert await runner.send(a_bracket(hour))
    await runner.finish()
    assert engine.most_open == 3
    assert counted == list(range(1, 11))
    assert [records[0].period_begin for records in engine.sent] == [T + hour * HOUR for hour in range(10)]
    # one producer counts through all of them
    used = set.union(*map(numbers_of, engine.sent))
    assert {number for _, number in used} == set(range(10))
    assert len({producer for producer, _ in used}) == 1


async def test_what_was_refused_leaves_no_hole_in_the_numbers_of_what_follows() -> None:
    engine = Engine([AlertKind.REWORK_REFUSED], otherwise=AlertKind.REWORK_DONE)
    runner = Runner(WANTED, engine, open_frames=1)
    for hour in range(3):
        await runner.send(a_bracket(hour))
    await runner.finish()
    [(refused, _)], [(second, first_number)], [(third, next_number)] = map(numbers_of, engine.sent)
    assert refused != second == third
    assert (first_number, next_number) == (0, 1)


async def test_without_any_answer_it_is_given_up() -> None:
    runner = Runner(WANTED, Engine(), open_frames=2, patience=0)
    assert [await runner.send(a_bracket(hour)) for hour in range(3)] == [True, True, False]
    await runner.finish()
    assert runner.unanswered == [("A", T), ("A", T + HOUR)]
    assert not Finished(unanswered=runner.unanswered).went_well


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(StoreSettings(f"chdb://{tmp_path}/clickhouse")) as opened:
        migrate(opened)
        yield opened


@pytest.mark.parametrize(("rework_id", "sent"), [("", 2), ("other", 1)], ids=["by itself", "by another rework"])
async def test_a_frame_that_got_another_revision_meanwhile_is_sent_once_more(
    store: Store, rework_id: str, sent: int
) -> None:
    # given a frame that was read in revision 0 and has revision 1 by now
    newer = msgspec.structs.replace(a_frame("A", T, 1, [a_line(1)]), rework_id=rework_id)
    store_frames(store, newer)
    engine = Engine([AlertKind.REWORK_REFUSED], otherwise=AlertKind.REWORK_DONE)
    runner = Runner(WANTED, engine)

    def records(kind: AlertKind) -> None:
        batch = Batch()
        batch.add_alert(answer(engine.sent[0][0], kind))
        write(store, batch)

    async def make(material: Material) -> Bracket:
        made = bracket_of(msgspec.structs.replace(material, usage=stored(a_part())), WANTED, CATALOG)
        assert isinstance(made, Bracket)
        return made

    read = Material(a_frame_row(), [], [])
    again = Material(a_frame_row(revision=1), [], [])
    # when it is refused for that
    with ThreadPoolExecutor(1) as thread:
        working = asyncio.create_task(
            run_rework(StoreView(store), thread, runner, WANTED, [read], lambda _: [again], make)
        )
        async with asyncio.timeout(30):
            while len(engine.sent) < sent or not runner.answers:
                await asyncio.sleep(0.01)
        await asyncio.to_thread(records, AlertKind.REWORK_DONE)
        finished = await working
    # then it is read and sent again, unless it was somebody's rework
    assert [records[0].base.revision for records in engine.sent] == [0, 1][:sent]
    assert finished.went_well is (sent == 2)
    assert finished.stored
