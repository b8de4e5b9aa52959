"""Replays of several files, and replays that are interrupted anywhere and started again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from collectors.errors import PublishError, ReplayError
from collectors.history import read_head
from collectors.replay.journal import Journal
from collectors.replay.run import ReplayOptions, ReplayReport, replay
from collectors.times import iso
from rater.model.codec import MSGPACK, decode_usage
from rater.model.interval import Interval
from rater.model.metric import Catalog, Coverage, MetricSpec
from rater.model.rated import RejectedHeaders
from rater.model.usage import Collection, ScopePlan

T = 1_767_225_600  # 2026-01-01T00:00:00Z
P = 3600
DAY = 86_400


class Topic:
    """A topic that takes so many records and then is away; a replay reads back what it took."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.plans: list[ScopePlan] = []
        self.rejected: list[bytes] = []
        self.room = 10**9

    async def send(self, scope_id: str, records: Sequence[bytes]) -> None:
        for record in records:
            self._take()
            self.records.append(record)

    async def plan(self, plan: ScopePlan) -> None:
        self._take()
        self.plans.append(plan)

    async def reject(self, value: bytes, headers: RejectedHeaders) -> None:
        self._take()
        self.rejected.append(value)

    def _take(self) -> None:
        if self.room <= 0:
            raise PublishError("away")
        self.room -= 1

    async def read_back(self, journal: Journal) -> Journal:
        for plan in self.plans:
            journal.take(plan)
        for record in self.records:
            head = read_head(record, MSGPACK)
            assert head is not None
            journal.take(head)
        return journal

    def collections(self) -> list[Collection]:
        found = [decode_usage(record, MSGPACK) for record in self.records]
        return [part for part in found if isinstance(part, Collection)]


def _sample(at: int, scope_id: str = "p1", metric: str = "m", name: str = "a") -> str:
    line = {"scope_id": scope_id, "metric": metric, "begin": iso(T + at), "qty": "1", "groupby": {"id": name}}
    return json.dumps(line)


def _covers(begin: int, end: int, scope_id: str = "*", metric: str = "*") -> str:
    return json.dumps(
        {"covers": {"scope_id": scope_id, "metric": metric, "begin": iso(T + begin), "end": iso(T + end)}}
    )


async def _replay(topic: Topic, *paths: Path, **more: Any) -> ReplayReport:
    return await replay([str(path) for path in paths], topic, topic.read_back, ReplayOptions(**more))


def _write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def month(tmp_path: Path) -> Path:
    """Two scopes, two days, collections of one to three parts, and a line that is refused."""
    lines = [_sample(hour * P, scope_id) for hour in range(0, 48, 5) for scope_id in ("p1", "p2")]
    lines += [_sample(7 * P + n % 60, "p1", "many", str(n)) for n in range(1500)]
    return _write(tmp_path / "month.jsonl", *lines, "{", _covers(0, 2 * DAY))


def _content(topic: Topic) -> Counter[tuple[Any, ...]]:
    return Counter(
        (part.scope_id, part.metric, part.begin, part.end, part.part, part.parts, tuple(part.samples), part.sequence)
        for part in topic.collections()
    )


async def test_wherever_it_is_interrupted_it_goes_on_and_repeats_nothing(month: Path) -> None:
    """Given a topic that goes away after any number of records; then what comes in the end is the same, once."""
    whole = Topic()
    report = await _replay(whole, month)
    records = len(whole.records) + len(whole.plans) + len(whole.rejected)
    assert {part.parts for part in whole.collections()} == {1, 3}

    for room in range(0, records, 7):
        topic = Topic()
        topic.room = room
        with pytest.raises(PublishError, match="away"):
            await _replay(topic, month)
        there = len(topic.records)
        topic.room = 10**9
        again = await _replay(topic, month)

        assert _content(topic) == _content(whole), room
        assert max(_content(topic).values()) == 1
        assert {(plan.scope_id, plan.begin) for plan in topic.plans} == {(p.scope_id, p.begin) for p in whole.plans}
        assert len({(part.attempt, part.producer_id) for part in topic.collections()}) == 1
        assert again.collections == report.collections
        assert there - 6 <= again.already <= there  # two collections of three parts may be under way


async def test_of_a_collection_that_is_there_in_part_the_other_parts_are_sent(month: Path) -> None:
    whole = Topic()
    await _replay(whole, month)
    first = next(number for number, part in enumerate(whole.collections()) if part.parts == 3)
    for there in (1, 2):
        topic = Topic()
        await topic.send("p1", whole.records[:first])  # as much of another run of the same replay
        topic.records += whole.records[first : first + there]

        await _replay(topic, month)

        assert _content(topic) == _content(whole)


async def test_interrupted_again_and_again_it_comes_to_its_end(month: Path) -> None:
    whole, topic = Topic(), Topic()
    await _replay(whole, month)

    for _ in range(200):
        topic.room = 9
        try:
            await _replay(topic, month)
        except PublishError:
            continue
        break

    assert _content(topic) == _content(whole)
    assert set(topic.rejected) == {b"{"}  # the only thing that may come twice
    assert whole.rejected == [b"{"]


async def test_the_sequence_numbers_of_a_scope_have_no_hole(month: Path) -> None:
    topic = Topic()
    await _replay(topic, month)

    for scope_id in ("p1", "p2"):
        numbers = sorted(part.sequence for part in topic.collections() if part.scope_id == scope_id)
        assert numbers == list(range(len(numbers)))


async def test_a_file_that_changed_since_is_refused_and_replaced_if_told(month: Path) -> None:
    topic = Topic()
    topic.room = 20
    with pytest.raises(PublishError):
        await _replay(topic, month)
    topic.room = 10**9
    before = list(topic.records)
    month.write_text(month.read_text().replace('"qty": "1"', '"qty": "2"', 1))

    with pytest.raises(ReplayError, match=r"its files or metrics\.yml say something else by now"):
        await _replay(topic, month)
    assert topic.records == before
    found = await _replay(topic, month, anew=True)

    parts = [part for part in topic.collections() if part.attempt == found.attempt]
    assert sum(len(part.samples) for part in parts) == found.samples
    assert found.attempt > topic.collections()[0].attempt
    assert found.already == 0


async def test_after_its_end_the_same_file_is_published_again(month: Path) -> None:
    topic = Topic()
    first = await _replay(topic, month)
    second = await _replay(topic, month)

    assert second.attempt > first.attempt
    assert second.already == 0
    by_attempt = Counter(part.attempt for part in topic.collections())
    assert by_attempt[first.attempt] == by_attempt[second.attempt]


async def test_samples_that_add_up_are_not_published_twice(month: Path, tmp_path: Path) -> None:
    """Given a metric with proof: samples; when its file is replayed again, also by another name; then it is refused,
    but not if the first replay was interrupted, which goes on."""
    catalog = Catalog([MetricSpec("m", "undefined", proof=Coverage.SAMPLES), MetricSpec("many", "undefined")])
    topic = Topic()
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(month.read_bytes().replace(b"{\n", b""))
    month.write_bytes(copy.read_bytes())
    topic.room = 30
    with pytest.raises(PublishError):
        await replay([str(month)], topic, topic.read_back, ReplayOptions(), catalog)
    topic.room = 10**9
    await replay([str(month)], topic, topic.read_back, ReplayOptions(), catalog)
    before = list(topic.records)

    for path, anew in ((month, False), (month, True), (copy, False)):
        with pytest.raises(ReplayError, match="samples of m would count twice"):
            await replay([str(path)], topic, topic.read_back, ReplayOptions(anew=anew), catalog)
    assert topic.records == before


async def test_files_of_one_replay_are_one(tmp_path: Path) -> None:
    """Given one period of one metric in two files; then their samples are one collection, not one in place of other."""
    first = _write(tmp_path / "a.jsonl", _sample(0, name="a"), _covers(0, P))
    second = _write(tmp_path / "b.jsonl", _sample(60, name="b"))
    topic = Topic()

    report = await _replay(topic, first, second)

    (part,) = topic.collections()
    assert [series.groupby["id"] for series in part.series] == ["a", "b"]
    assert (report.files, report.samples, part.covers) == (2, 2, [Interval(T, T + P)])


async def test_what_the_command_covers_holds_for_all_files_and_empties_none_of_them(tmp_path: Path) -> None:
    """The second file says nothing of the first day: that must not become a true zero of the first file's usage."""
    first = _write(tmp_path / "a.csv", "scope_id,metric,begin,qty", f"p1,m,{iso(T)},1")
    second = _write(tmp_path / "b.csv", "scope_id,metric,begin,qty", f"p2,m,{iso(T + DAY)},1")
    topic = Topic()

    await _replay(topic, first, second, covers=(Interval(T, T + 2 * DAY),))

    held = Counter((part.scope_id, part.begin - T) for part in topic.collections() if part.samples)
    assert held == {("p1", 0): 1, ("p2", DAY): 1}
    assert len(topic.collections()) == 2 * 48
    assert {(plan.scope_id, plan.begin, plan.until) for plan in topic.plans} == {
        (scope_id, T + day * DAY, T + (day + 1) * DAY) for scope_id in ("p1", "p2") for day in range(2)
    }


async def test_a_star_means_what_its_own_file_names(tmp_path: Path) -> None:
    """Given a day each, covered by a star, and p2 from the second day on; then nothing is claimed of p2 before."""
    first = _write(tmp_path / "1.jsonl", _sample(0), _covers(0, DAY))
    second = _write(tmp_path / "2.jsonl", _sample(DAY, "p2"), _sample(DAY), _covers(DAY, 2 * DAY))
    topic = Topic()

    await _replay(topic, tmp_path)

    assert [path.name for path in (first, second)] == ["1.jsonl", "2.jsonl"]
    begins = {scope: sorted(c.begin - T for c in topic.collections() if c.scope_id == scope) for scope in ("p1", "p2")}
    assert begins["p1"] == list(range(0, 2 * DAY, P))
    assert begins["p2"] == list(range(DAY, 2 * DAY, P))
    assert {(plan.scope_id, plan.begin - T, (plan.until or 0) - T) for plan in topic.plans} == {
        ("p1", 0, DAY), ("p1", DAY, 2 * DAY), ("p2", DAY, 2 * DAY),
    }  # fmt: skip


async def test_a_scope_is_expected_in_the_days_between_that_do_not_name_it(tmp_path: Path) -> None:
    for day, scopes in enumerate((["p1", "p2"], ["p2"], ["p1", "p2"])):
        lines = [_sample(day * DAY + hour * P, scope_id) for scope_id in scopes for hour in range(24)]
        _write(tmp_path / f"{day}.jsonl", *lines, _covers(day * DAY, (day + 1) * DAY))
    topic = Topic()

    await _replay(topic, tmp_path)

    covered = sum(len(part.covers) for part in topic.collections() if part.scope_id == "p1")
    planned = sum((plan.until or 0) - plan.begin for plan in topic.plans if plan.scope_id == "p1")
    assert (covered, planned) == (48, 3 * DAY)


async def test_one_damaged_file_of_several_publishes_nothing(tmp_path: Path) -> None:
    good = _write(tmp_path / "a.jsonl", _sample(0))
    topic = Topic()
    for name, content, reason in (
        ("b.jsonl.gz", b"\x1f\x8b\x08\x00 and then nothing", "b.jsonl.gz is damaged"),
        ("b.jsonl", b"", "b.jsonl names no scope and metric, so nothing was published: empty"),
        ("b.jsonl", b"{\n", "b.jsonl names no scope and metric.*\n  line 1: this is no JSON"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ReplayError, match=reason):
            await _replay(topic, good, tmp_path / name)
    assert (topic.records, topic.plans, topic.rejected) == ([], [], [])


async def test_a_table_without_rows_is_remarked(tmp_path: Path) -> None:
    good = _write(tmp_path / "a.jsonl", _sample(0))
    quiet = _write(tmp_path / "b.csv", "scope_id,metric,begin,qty")

    report = await _replay(Topic(), good, quiet)

    assert report.remarks == (f"{quiet} holds a header and no rows",)
    with pytest.raises(ReplayError, match="the files name no scope and metric"):
        await _replay(Topic(), quiet)


async def test_refused_lines_say_of_which_file_they_are(tmp_path: Path) -> None:
    first = _write(tmp_path / "a.jsonl", _sample(0), "{a")
    second = _write(tmp_path / "b.jsonl", "{b", _sample(0, name="b"))
    topic = Topic()

    report = await _replay(topic, first, second)

    assert [(fault.file, fault.line) for fault in report.faults] == [(str(first), 2), (str(second), 1)]
    assert topic.rejected == [b"{a", b"{b"]
