"""The audit of a real store: nothing where nothing is wrong, and exactly the row that was changed by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from rater.audit import Invariant, RowKey, Setup, Violation
from rater.audit.auditor import Auditor
from rater.model.codec import encode_json
from rater.rating import RuleBook, parse, plan
from rater.reports import AuditRequest, StoreView
from rater.store import Batch, RuleEventRow, write, write_rule_events
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


def close(world: World, now: int) -> None:
    world.close(now)
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
