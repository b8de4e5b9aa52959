"""The audit of a real store: nothing where nothing is wrong, and exactly the row that was changed by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from rater.audit import Invariant, RatedEntry, RowKey, Setup, Violation
from rater.audit.auditor import Auditor
from rater.audit.settings import AuditSettings
from rater.audit.timer import IN_STORE, AuditTimer
from rater.audit.topics import PartitionLogs, check_partition, differs_from_rated
from rater.model.codec import encode_json
from rater.model.rated import RatedFrame
from rater.rating import RuleBook, parse, plan
from rater.reports import AuditRequest, RemoteView, Selection, StoreView
from rater.reports.desk import serve_desk
from rater.store import Batch, GapRow, RuleEventRow, StoreError, write, write_rule_events
from tests.unit.engine.builders import CATALOG, not_a_number, push, sample
from tests.unit.engine.builders import plan as scope_plan
from tests.unit.store.builders import memory_store
from tests.unit.trial.world import HOUR, T, World, book_from, measured

BOOK = """
modules: {hashmap: {enabled: true}}
hashmap: {services: [{name: cpu, mappings: [{cost: "0.1"}]}, {name: m_mean, mappings: [{cost: "3"}]},
                     {name: net, mappings: [{cost: "0.5"}]}]}
"""
END = T + 6 * HOUR


def stored_world() -> World:
    """Six hours of two scopes: three metrics, a gap that was resolved, one that is open, a point without a number."""
    world = World(memory_store(), book_from(BOOK))
    event = plan(RuleBook.empty(), parse(BOOK, "rules.yaml")).event("test", "", 0)
    write_rule_events(world.store, [RuleEventRow(1, T, "test", encode_json(event).decode())])
    world.take(scope_plan("cpu", "m_mean", begin=T, until=END), at=T)
    for hour in range(6):
        begin = T + hour * HOUR
        for number in range(3):
            more: dict[str, Any] = {"groupby": {"id": f"r{number}", "zone": number}, "metadata": {"flavor": "tiny"}}
            first = {} if number else {"quarantined": [not_a_number()] if hour == 4 else []}
            world.take(
                measured(
                    "cpu",
                    "1.5",
                    f"{hour}.{number}",
                    begin=begin,
                    collection_id=f"cpu-{hour}",
                    part=number,
                    parts=3,
                    **more,
                    **first,
                ),
                at=begin + HOUR,
            )
        if hour not in (2, 3):
            world.take(measured("m_mean", "1", "2", "2", begin=begin), at=begin + HOUR)
        world.take(
            push(sample(begin, "2", begin + HOUR), begin=begin, end=begin + HOUR, collection_id=f"push-{hour}"),
            at=begin + HOUR,
        )
        close(world, begin + HOUR)
    close(world, END + 4 * HOUR)
    world.take(measured("m_mean", "5", begin=T + 2 * HOUR), at=END + 4 * HOUR)
    close(world, END + 4 * HOUR)
    return world


PUBLISHED: list[RatedFrame] = []


def close(world: World, now: int) -> None:
    PUBLISHED.extend(world.close(now))
    batch = Batch()
    for alert in world.bench.alerts():
        batch.add_alert(alert)
    write(world.store, batch)


TABLES = ("lines", "frames", "usage", "gaps", "rule_events")


@pytest.fixture(scope="module")
def made() -> Iterator[World]:
    """The world, with a copy of its tables."""
    world = stored_world()
    with world.store:
        for table in TABLES:
            world.store.command(f"CREATE TABLE {table}_kept AS {table}")
            world.store.command(f"INSERT INTO {table}_kept SELECT * FROM {table}")
        yield world


@pytest.fixture
def world(made: World) -> Iterator[World]:
    """The world as it was made; what a test changes in it is undone."""
    yield made
    for table in TABLES:
        made.store.command(f"TRUNCATE TABLE {table}")
        made.store.command(f"INSERT INTO {table} SELECT * FROM {table}_kept")


def auditor(world: World, **more: Any) -> Auditor:
    return Auditor(StoreView(world.store), Setup(HOUR, CATALOG), lambda: None, **more)


def audit(world: World, **more: Any) -> list[Violation]:
    return list(auditor(world, **more).run(AuditRequest()))


def rows(found: list[Violation]) -> set[RowKey]:
    return {row for violation in found for row in violation.rows}


def test_what_the_engine_made_breaks_nothing(world: World) -> None:
    # given / when
    asked = auditor(world, prices=True)
    found = list(asked.run(AuditRequest()))
    # then
    assert [violation.text() for violation in found] == []
    counts = asked.counts
    assert (counts.frames, counts.lines, counts.waiting) == (8, 6 * 3 + 5 + 6, 0)
    assert counts.samples == counts.rated == 6 * 3 * 2 + 4 * 3 + 1 + 6
    assert dict(counts.unchecked) == {}


CPU = f"scope_id = 'A' AND period_begin = {T + HOUR} AND metric = 'cpu'"
A_LINE = f"{CPU} AND groupby['id'] = 'r1'"
FRAME = f"scope_id = 'A' AND period_begin = {T + HOUR}"
A_USAGE = f"scope_id = 'A' AND metric = 'cpu' AND range_begin = {T + HOUR} AND part = 1"
OPEN = f"metric = 'm_mean' AND period_begin = {T + 3 * HOUR}"
RESOLVED = f"metric = 'm_mean' AND period_begin = {T + 2 * HOUR}"
LINE_KEY = {"period_begin": T + HOUR, "revision": 0, "metric": "cpu"}
USAGE_KEY = {"metric": "cpu", "range_begin": T + HOUR, "collection_id": "cpu-1", "part": 1}
SAME = "SETTINGS mutations_sync = 1"


def _again(table: str, where: str, **changes: str) -> str:
    """Inserts a row once more, with some columns changed."""
    changed = ", ".join(f"{value} AS {name}" for name, value in changes.items())
    return f"INSERT INTO {table} SELECT * REPLACE ({changed}) FROM {table} FINAL WHERE {where}"


@pytest.mark.parametrize(
    ("statement", "table", "key", "invariant"),
    [
        (f"ALTER TABLE lines UPDATE qty = qty + 1 WHERE {A_LINE} {SAME}", "lines", LINE_KEY, "quantities_add_up"),
        (f"ALTER TABLE lines UPDATE price = price + 1 WHERE {A_LINE} {SAME}", "lines", LINE_KEY, "prices_follow_rules"),
        (f"ALTER TABLE lines UPDATE unit = 'h' WHERE {A_LINE} {SAME}", "lines", LINE_KEY, "best_revision_is_truth"),
        (
            f"ALTER TABLE lines UPDATE metadata = map('flavor', 'huge') WHERE {A_LINE} {SAME}",
            "lines", LINE_KEY, "best_revision_is_truth",
        ),
        (
            f"ALTER TABLE lines UPDATE rule_version = 9 WHERE {A_LINE} {SAME}",
            "lines", LINE_KEY, "frames_have_their_lines",
        ),
        (f"ALTER TABLE lines DELETE WHERE {A_LINE} {SAME}", "lines", LINE_KEY, "every_sample_once"),
        (_again("lines", A_LINE, qty="qty + 1"), "lines", LINE_KEY, "one_payload"),
        (_again("lines", A_LINE, line_id="unhex(repeat('ab', 16))"), "lines", LINE_KEY, "every_sample_once"),
        (f"ALTER TABLE frames UPDATE status = 'empty' WHERE {FRAME} {SAME}", "frames", {}, "best_revision_is_truth"),
        (f"ALTER TABLE frames UPDATE weak = true WHERE {FRAME} {SAME}", "frames", {}, "best_revision_is_truth"),
        (
            f"ALTER TABLE frames UPDATE `totals.qty` = arrayMap(x -> x + 1, totals.qty) WHERE {FRAME} {SAME}",
            "frames", {}, "totals_are_sums",
        ),
        (
            f"ALTER TABLE frames UPDATE `totals.price` = arrayMap(x -> x + 1, totals.price) WHERE {FRAME} {SAME}",
            "frames", {}, "totals_are_sums",
        ),
        (f"ALTER TABLE frames UPDATE line_count = 7 WHERE {FRAME} {SAME}", "frames", {}, "frames_have_their_lines"),
        (f"ALTER TABLE frames UPDATE gap_count = 7 WHERE {FRAME} {SAME}", "frames", {}, "frames_have_their_lines"),
        (
            f"ALTER TABLE frames UPDATE coverage = replaceAll(coverage, '[[{T + HOUR},{T + 2 * HOUR}]]', "
            f"'[[{T + HOUR},{T + 2 * HOUR - 60}]]') WHERE {FRAME} {SAME}",
            "frames", {}, "best_revision_is_truth",
        ),
        (
            f"ALTER TABLE frames UPDATE coverage = replaceAll(coverage, '\"samples\":6', '\"samples\":5') "
            f"WHERE {FRAME} {SAME}",
            "frames", {}, "every_sample_once",
        ),
        (_again("frames", FRAME, revision="toUInt32(1)"), "frames", {}, "frames_have_their_lines"),
        (_again("frames", FRAME, status="'partial'"), "frames", {}, "one_payload"),
        (f"ALTER TABLE frames DELETE WHERE {FRAME} {SAME}", "frames", {}, "no_frame_missing"),
        (
            f"ALTER TABLE usage UPDATE qty = arrayMap(x -> '9', qty) WHERE {A_USAGE} {SAME}",
            "usage", USAGE_KEY, "quantities_add_up",
        ),
        (_again("usage", A_USAGE, qty="arrayMap(x -> '9', qty)"), "usage", USAGE_KEY, "quantities_add_up"),
        (
            _again("usage", A_USAGE, n="toUInt32(5)", series="'[{\"id\":\"x\"},{}]'"),
            "usage", {**USAGE_KEY, "n": 5}, "every_sample_once",
        ),
        (f"ALTER TABLE gaps UPDATE resolved = '' WHERE {RESOLVED} {SAME}", "gaps", {}, "gaps_alerted_once"),
        (f"ALTER TABLE gaps UPDATE opened = '' WHERE {RESOLVED} {SAME}", "gaps", {}, "gaps_alerted_once"),
        (
            f"ALTER TABLE gaps UPDATE resolved = concat(substring(opened, 1, 20), 'x') WHERE {OPEN} {SAME}",
            "gaps", {}, "gaps_alerted_once",
        ),
        (f"ALTER TABLE gaps DELETE WHERE {OPEN} {SAME}", "gaps", {}, "gaps_alerted_once"),
        (
            "INSERT INTO gaps SELECT * REPLACE (unhex(repeat('cd', 16)) AS gap_id) FROM gaps FINAL WHERE " + OPEN,
            "gaps", {"gap_id": "cd" * 16}, "gaps_alerted_once",
        ),
    ],
)  # fmt: skip
def test_a_row_that_was_changed_by_hand_is_named_and_nothing_else(
    world: World, statement: str, table: str, key: dict[str, Any], invariant: str
) -> None:
    # when
    world.store.command(statement)
    found = audit(world)
    # then
    named = rows(found)
    assert len(named) == 1, [violation.text() for violation in found]
    (row,) = named
    assert row.table == table
    assert dict(row.key).items() >= key.items()
    assert Invariant(invariant) in {violation.invariant for violation in found}


def test_what_was_changed_is_right_again_once_the_topic_was_read_again(world: World) -> None:
    # given two rows that were changed, and all that was published written once more
    world.store.command(f"ALTER TABLE lines UPDATE price = price + 1 WHERE {A_LINE} {SAME}")
    world.store.command(f"ALTER TABLE frames UPDATE line_count = 7 WHERE {FRAME} {SAME}")
    assert {row.table for row in rows(audit(world))} == {"lines", "frames"}
    # when
    world.keep(PUBLISHED)
    # then both contents are there, until a merge keeps the one that came last
    assert Invariant.ONE_PAYLOAD in {one.invariant for one in audit(world)}
    for table in ("lines", "frames"):
        world.store.command(f"OPTIMIZE TABLE {table} FINAL")
    assert audit(world) == []


def test_what_the_sink_is_just_writing_is_no_violation(world: World) -> None:
    # given a frame of which the lines are not there yet, and another one of which the next revision comes meanwhile
    store = world.store
    store.command(f"CREATE TABLE held ENGINE = Memory AS SELECT * FROM lines WHERE {FRAME}")
    store.command(f"ALTER TABLE lines DELETE WHERE {FRAME} {SAME}")
    store.command(_again("frames", f"scope_id = 'A' AND period_begin = {T}", revision="toUInt32(1)"))
    waits = 0

    def pause() -> None:
        nonlocal waits
        waits += 1
        if waits == 1:
            store.command("INSERT INTO lines SELECT * FROM held")
        else:
            store.command(
                "INSERT INTO lines SELECT * REPLACE (toUInt32(1) AS revision) FROM "
                f"(SELECT * FROM lines WHERE scope_id = 'A' AND period_begin = {T} AND revision = 0)"
            )
            store.command(_again("frames", f"scope_id = 'A' AND period_begin = {T}", revision="toUInt32(2)"))
            store.command(
                "INSERT INTO lines SELECT * REPLACE (toUInt32(2) AS revision) FROM "
                f"(SELECT * FROM lines WHERE scope_id = 'A' AND period_begin = {T} AND revision = 0)"
            )

    # when
    asked = Auditor(StoreView(store), Setup(HOUR, CATALOG), pause)
    try:
        first = list(asked.run(AuditRequest(begin=T + HOUR)))
        second = list(Auditor(StoreView(store), Setup(HOUR, CATALOG), pause).run(AuditRequest(end=T + HOUR)))
    finally:
        store.command("DROP TABLE held")
    # then the frame whose lines came is right; the other one was wrong in the same way at two looks, or is right now
    assert first == []
    assert waits == 2
    assert second == []


def test_late_usage_waits_and_is_told(world: World) -> None:
    # given usage for a frame that has left the state: it stands in table usage, and the engine refused it
    batch = Batch()
    batch.add_collection(measured("cpu", "7", "8", groupby={"id": "r9"}, attempt=2, collection_id="late"))
    write(world.store, batch)
    # when
    asked = auditor(world)
    found = list(asked.run(AuditRequest()))
    # then
    assert found == []
    assert (asked.counts.waiting, dict(asked.counts.late)) == (2, {("A", T): 2})


def test_the_same_answer_collected_again_does_not_wait(world: World) -> None:
    # given: what says nothing new makes no revision
    batch = Batch()
    batch.add_collection(measured("m_mean", "1", "2", "2", attempt=2, collection_id="again"))
    write(world.store, batch)
    # when
    asked = auditor(world)
    # then
    assert list(asked.run(AuditRequest())) == []
    assert asked.counts.waiting == 0


def test_pushes_that_came_after_the_frame_wait(world: World) -> None:
    # given
    batch = Batch()
    batch.add_collection(push(sample(T + 60, "3"), begin=T, end=T + HOUR, collection_id="more"))
    write(world.store, batch)
    # when
    asked = auditor(world)
    # then
    assert list(asked.run(AuditRequest())) == []
    assert asked.counts.waiting == 1


def test_other_content_under_a_used_number_is_no_violation(world: World) -> None:
    # given what the engine refused: it stands in table usage beside what it took, under the same number
    number, producer = world.store.rows(
        "SELECT any(sequence), any(producer_id) FROM usage FINAL WHERE collection_id = 'push-0'"
    )[0]
    batch = Batch()
    other = push(sample(T + 60, "9"), begin=T, end=T + HOUR, collection_id="other")
    batch.add_collection(msgspec.structs.replace(other, producer_id=producer, sequence=number))
    write(world.store, batch)
    # then which of them was taken cannot be told, and nothing is said to be wrong
    assert audit(world) == []


def test_without_stored_usage_the_rest_is_checked_and_it_is_said(world: World) -> None:
    # given
    world.store.command(f"ALTER TABLE lines UPDATE qty = qty + 1 WHERE {A_LINE} {SAME}")
    # when
    asked = auditor(world, usage_stored=False)
    found = list(asked.run(AuditRequest()))
    # then the total is wrong, and the line's price tells which line it is
    assert [(one.invariant, one.rows[0].table) for one in found] == [(Invariant.PRICES_FOLLOW_RULES, "lines")]
    assert dict(asked.counts.unchecked) == {"usage is not stored": 8}
    assert asked.counts.samples == 0


@pytest.mark.parametrize("caught_up", [None, True, False])
def test_a_collection_that_is_gone_is_named_if_it_is_due(world: World, *, caught_up: bool | None) -> None:
    # given the mean of the second hour, whose other metrics are there
    world.store.command(f"ALTER TABLE usage DELETE WHERE metric = 'm_mean' AND range_begin = {T + HOUR} {SAME}")
    # when
    asked = auditor(world, caught_up=caught_up)
    found = list(asked.run(AuditRequest()))
    # then
    assert [(row.table, dict(row.key)["collection_id"]) for row in rows(found)] == (
        [] if caught_up is False else [("usage", f"m_mean-{T + HOUR}")]
    )
    assert dict(asked.counts.unchecked) == {"usage is not stored": 1}


def test_usage_from_before_it_was_stored_is_said_and_no_violation(world: World) -> None:
    world.store.command(f"ALTER TABLE usage DELETE WHERE range_begin < {T + 2 * HOUR} {SAME}")
    asked = auditor(world)
    assert list(asked.run(AuditRequest())) == []
    assert dict(asked.counts.unchecked) == {"usage is not stored": 2}


def test_rules_that_the_store_does_not_know_are_said(world: World) -> None:
    world.store.command("TRUNCATE TABLE rule_events")
    asked = auditor(world)
    assert list(asked.run(AuditRequest())) == []
    assert dict(asked.counts.unchecked) == {"the rules of their version are not in the store": 8}


def test_a_part_of_the_store_is_audited_alone(world: World) -> None:
    # given something wrong in the second hour
    world.store.command(f"ALTER TABLE lines DELETE WHERE {A_LINE} {SAME}")
    # when / then
    view = StoreView(world.store)
    asked = [AuditRequest("B"), AuditRequest(begin=T + 2 * HOUR), AuditRequest(end=T + HOUR), AuditRequest("A")]
    found = [len(list(Auditor(view, Setup(HOUR, CATALOG), lambda: None).run(one))) for one in asked]
    assert found == [0, 0, 0, 1]
    # and what was closed later than it
    closed = [AuditRequest(closed_from=at) for at in (T + 2 * HOUR, T + 2 * HOUR + 1)]
    found = [len(list(Auditor(view, Setup(HOUR, CATALOG), lambda: None).run(one))) for one in closed]
    assert found == [1, 0]


def test_a_row_that_nobody_can_read_is_named(world: World) -> None:
    world.store.command(f"ALTER TABLE frames UPDATE coverage = 'x' WHERE {FRAME} {SAME}")
    with pytest.raises(StoreError, match=f"scope 'A', period_begin {T + HOUR}, revision 0 cannot be read"):
        audit(world)


async def test_the_holder_of_the_engine_answers_an_audit_as_the_store_does(tmp_path: Path, world: World) -> None:
    # given
    world.store.command(f"ALTER TABLE lines UPDATE price = price + 1 WHERE {A_LINE} {SAME}")
    async with serve_desk(StoreView(world.store), tmp_path / "socket"):
        # when
        remote = Auditor(RemoteView(tmp_path / "socket"), Setup(HOUR, CATALOG), lambda: None)
        found = await asyncio.to_thread(lambda: list(remote.run(AuditRequest())))
    # then
    assert found == audit(world)
    assert len(found) == 1


# --- the timer


async def test_the_timer_tells_metrics_and_log_and_each_violation_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    # given something wrong, and an audit every second that looks back for ever
    world.store.command(f"ALTER TABLE lines DELETE WHERE {A_LINE} {SAME}")
    registry, stop = CollectorRegistry(), asyncio.Event()
    settings = AuditSettings(interval=1, look_back=366 * 86_400)
    timer = AuditTimer(
        StoreView(world.store), Setup(HOUR, CATALOG), settings, registry, usage_stored=True,
        clock=lambda: T + 24 * HOUR, pause_seconds=0,
    )  # fmt: skip
    running = asyncio.create_task(timer.run(stop))
    # when
    async with asyncio.timeout(60):
        while (registry.get_sample_value("rater_audit_frames_total") or 0) < 16:
            await asyncio.sleep(0.05)
    stop.set()
    await running
    # then
    assert registry.get_sample_value("rater_audit_last_run_timestamp_seconds") == T + 24 * HOUR
    for invariant in Invariant:
        value = registry.get_sample_value("rater_audit_violations", {"invariant": invariant.value})
        assert value == (None if invariant not in IN_STORE else float(invariant is Invariant.EVERY_SAMPLE_ONCE))
    told = [record.getMessage() for record in caplog.records if record.name == "rater.audit.timer"]
    assert len(told) == 1
    assert told[0].startswith(f"audit: every_sample_once: A {T + HOUR} cpu: ")
    assert "expected" not in told[0]  # quantities stand in no log


async def test_the_timer_looks_only_at_what_was_closed_lately(world: World) -> None:
    # given
    registry = CollectorRegistry()
    settings = AuditSettings(look_back=HOUR)
    now = [END + 4 * HOUR]
    timer = AuditTimer(
        StoreView(world.store), Setup(HOUR, CATALOG), settings, registry, usage_stored=True,
        clock=lambda: now[0], pause_seconds=0,
    )  # fmt: skip
    # when / then the frames closed in the last hour, with those between them
    timer.audit()
    first = registry.get_sample_value("rater_audit_frames_total")
    assert first == 6
    # and at the next one that is still within what it looks back to, then nothing
    now[0] = END + 9 * HOUR
    timer.audit()
    timer.audit()
    assert registry.get_sample_value("rater_audit_frames_total") == 2 * first


async def test_an_audit_ends_when_the_service_does(world: World) -> None:
    # given an audit that waits for its second look
    world.store.command(f"ALTER TABLE lines DELETE WHERE {A_LINE} {SAME}")
    registry, stop = CollectorRegistry(), asyncio.Event()
    settings = AuditSettings(interval=1, look_back=366 * 86_400)
    waiting = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Watched(StoreView):
        def gaps(self, selection: Selection) -> Iterator[GapRow]:
            loop.call_soon_threadsafe(waiting.set)
            return super().gaps(selection)

    timer = AuditTimer(
        Watched(world.store), Setup(HOUR, CATALOG), settings, registry, usage_stored=True,
        clock=lambda: T + 24 * HOUR, pause_seconds=600,
    )  # fmt: skip
    running = asyncio.create_task(timer.run(stop))
    async with asyncio.timeout(60):
        await waiting.wait()
        # when
        stop.set()
        await running
    # then nothing is said of what was not looked at to the end
    assert registry.get_sample_value("rater_audit_last_run_timestamp_seconds") == 0


async def test_no_audit_runs_where_it_is_switched_off(world: World) -> None:
    registry, stop = CollectorRegistry(), asyncio.Event()
    timer = AuditTimer(
        StoreView(world.store), Setup(HOUR, CATALOG), AuditSettings(interval=0), registry, usage_stored=True
    )
    stop.set()
    await timer.run(stop)
    assert registry.get_sample_value("rater_audit_frames_total") == 0


def test_an_audit_that_the_store_breaks_off_is_counted(world: World, caplog: pytest.LogCaptureFixture) -> None:
    # given
    world.store.command(f"ALTER TABLE frames UPDATE coverage = 'x' WHERE {FRAME} {SAME}")
    registry = CollectorRegistry()
    settings = AuditSettings(look_back=366 * 86_400)
    timer = AuditTimer(
        StoreView(world.store), Setup(HOUR, CATALOG), settings, registry, usage_stored=True,
        clock=lambda: T + 24 * HOUR, pause_seconds=0,
    )  # fmt: skip
    # when
    timer.audit()
    # then
    assert registry.get_sample_value("rater_audit_failures_total") == 1
    assert "the audit did not come to its end" in caplog.text


# --- against the topic


def of_topic(frames: list[RatedFrame]) -> list[RatedEntry]:
    return [RatedEntry(one, encode_json(one), 0, offset) for offset, one in enumerate(frames)]


def test_the_store_is_the_best_of_the_topic_until_a_row_is_changed(world: World) -> None:
    # given
    view, entries = StoreView(world.store), of_topic(PUBLISHED)
    assert list(differs_from_rated(view, entries)) == []
    # when
    world.store.command(f"ALTER TABLE lines UPDATE price = price + 1 WHERE {A_LINE} {SAME}")
    world.store.command(f"ALTER TABLE frames UPDATE closed_by = 'forced' WHERE {FRAME} {SAME}")
    found = list(differs_from_rated(view, entries))
    # then
    assert {one.invariant for one in found} == {Invariant.STORE_IS_BEST_OF_RATED}
    assert {row.table for row in rows(found)} == {"lines", "frames"}
    assert {one.period_begin for one in found} == {T + HOUR}


def test_a_topic_that_lost_its_begin_is_checked_as_far_as_it_goes(world: World) -> None:
    # given revisions of which the first is gone, and the alerts with it
    rated = of_topic([one for one in PUBLISHED if one.revision])
    assert rated
    # when / then
    gone = PartitionLogs(rated, [], is_rated_whole=False, is_alerts_whole=False)
    assert check_partition(gone) == []
    whole = msgspec.structs.replace(gone, is_rated_whole=True, is_alerts_whole=True)
    assert {one.invariant for one in check_partition(whole)} >= {Invariant.REVISIONS_CONTIGUOUS}
