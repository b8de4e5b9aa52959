"""The rule book under any changes: all or nothing, the same at once or one by one, and its indexes are always right."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from rater.model.rules import (
    Change,
    CollectorMapped,
    CollectorSwitched,
    Field,
    FieldCreated,
    FieldDeleted,
    Group,
    GroupCreated,
    GroupDeleted,
    MappingCreated,
    MappingDeleted,
    MappingRule,
    MappingUpdated,
    Moved,
    Script,
    ScriptCreated,
    ScriptDeleted,
    ScriptUpdated,
    Service,
    ServiceCreated,
    ServiceDeleted,
    ThresholdCreated,
    ThresholdDeleted,
    ThresholdRule,
    ThresholdUpdated,
    Tiers,
    TiersDeleted,
    TiersSet,
    TierStep,
)
from rater.rating import Applied, RuleBook
from tests.unit.rating.builders import event, uid

ONE = Decimal(1)
services, fields, groups, rules = (st.integers(n, n + 2).map(uid) for n in (10, 20, 30, 40))
maybe_group = st.none() | groups
names = st.sampled_from("abc")


@st.composite
def mappings(draw: st.DrawFn) -> MappingRule:
    if draw(st.booleans()):
        return MappingRule(draw(rules), ONE, service_id=draw(services), group_id=draw(maybe_group))
    return MappingRule(draw(rules), ONE, value="v", field_id=draw(fields), group_id=draw(maybe_group))


@st.composite
def thresholds(draw: st.DrawFn) -> ThresholdRule:
    if draw(st.booleans()):
        return ThresholdRule(draw(rules), ONE, ONE, service_id=draw(services), group_id=draw(maybe_group))
    return ThresholdRule(draw(rules), ONE, ONE, field_id=draw(fields), group_id=draw(maybe_group))


scripts = st.builds(Script, rules, names, st.just(""))
changes = st.one_of(
    st.builds(ServiceCreated, st.builds(Service, services, names)),
    st.builds(ServiceDeleted, services),
    st.builds(FieldCreated, st.builds(Field, fields, services, names)),
    st.builds(FieldDeleted, fields),
    st.builds(GroupCreated, st.builds(Group, groups, names)),
    st.builds(GroupDeleted, groups, st.booleans()),
    st.builds(MappingCreated, mappings()),
    st.builds(MappingUpdated, mappings()),
    st.builds(MappingDeleted, rules),
    st.builds(ThresholdCreated, thresholds()),
    st.builds(ThresholdUpdated, thresholds()),
    st.builds(ThresholdDeleted, rules),
    st.builds(ScriptCreated, scripts),
    st.builds(ScriptUpdated, scripts),
    st.builds(ScriptDeleted, rules),
    st.builds(TiersSet, st.builds(Tiers, services, st.just((TierStep(ONE),)))),
    st.builds(TiersDeleted, services),
    st.builds(CollectorMapped, st.sampled_from("ab"), st.none() | st.just("c")),
    st.builds(CollectorSwitched, st.just("c"), st.booleans()),
    st.builds(Moved, fields | rules, st.none() | fields | rules),
)
beginnings = st.permutations(
    [
        ServiceCreated(Service(uid(10), "a")),
        ServiceCreated(Service(uid(11), "b")),
        GroupCreated(Group(uid(30), "a")),
        GroupCreated(Group(uid(31), "b")),
        FieldCreated(Field(uid(20), uid(10), "a")),
        FieldCreated(Field(uid(21), uid(10), "b")),
    ]
)
events = st.lists(st.lists(changes, min_size=1, max_size=6), min_size=1, max_size=12)


def content(book: RuleBook) -> dict[str, Any]:
    """Every table with the order of its rows and children."""
    tables = book._tables
    return {
        name: [(key, list(row) if isinstance(row, dict) else row) for key, row in getattr(tables, name).items()]
        for name in tables.__slots__
    }


def begun(beginning: list[Change]) -> RuleBook:
    """A book with what of `beginning` is possible in that order."""
    book = RuleBook.empty()
    for change in beginning:
        book, _ = book.apply(event(book.version, change))
    return book


def books(beginning: list[Change], steps: list[list[Change]]) -> Iterator[tuple[RuleBook, list[Change], RuleBook]]:
    """Each book, the changes of one event, and the book after it."""
    before = begun(beginning)
    for step in steps:
        after, _ = before.apply(event(before.version, *step))
        yield before, step, after
        before = after


@given(beginning=beginnings, steps=events)
def test_an_event_applies_like_its_changes_one_by_one_or_not_at_all(
    beginning: list[Change], steps: list[list[Change]]
) -> None:
    for before, step, after in books(beginning, steps):
        one_by_one, outcomes = before, []
        for change in step:
            one_by_one, outcome = one_by_one.apply(event(one_by_one.version, change))
            outcomes.append(outcome)
        if after.version == before.version:
            assert content(after) == content(before)
        elif all(isinstance(outcome, Applied) for outcome in outcomes):
            assert same_rows(content(after)) == same_rows(content(one_by_one))


def same_rows(tables: dict[str, Any]) -> dict[str, Any]:
    """The tables without empty lists of children, and without the order where it means nothing."""
    unordered = ("names", "in_group", "deleted_of")
    return {
        name: {key: sorted(row) if name in unordered else row for key, row in rows if row != []}
        if name == "names" or name.endswith("_of") or name in unordered
        else rows
        for name, rows in tables.items()
    }


@given(beginning=beginnings, steps=events)
def test_the_indexes_of_a_book_say_what_its_rows_say(beginning: list[Change], steps: list[list[Change]]) -> None:
    for _, _, book in books(beginning, steps):
        tables = book._tables
        rows = [*tables.mappings.values(), *tables.thresholds.values()]
        live = {key: entry for key, entry in tables.mappings.items() if entry.deleted_at is None}

        assert grouped(tables.in_group) == grouped_by(
            (entry.rule.group_id, msgspec.structs.astuple(entry.rule)[0]) for entry in rows
        )
        assert grouped(tables.mappings_of) == grouped_by((entry.rule.parent_id, key) for key, entry in live.items())
        assert grouped(tables.deleted_of) == grouped_by(
            (entry.rule.parent_id, key) for key, entry in tables.mappings.items() if key not in live
        )
        assert grouped(tables.thresholds_of) == grouped_by(
            (entry.rule.parent_id, key) for key, entry in tables.thresholds.items()
        )
        assert grouped(tables.fields_of) == grouped_by((field.service_id, key) for key, field in tables.fields.items())
        assert grouped(tables.scripts_of) == grouped_by(
            ("", key) for key, entry in tables.scripts.items() if entry.deleted_at is None
        )
        for name in tables.__slots__:
            assert None not in getattr(tables, name).values()
        for service_id in tables.tiers:
            assert book.mappings_of(service_id) == book.thresholds_of(service_id) == book.fields_of(service_id) == []


def grouped(children_of: dict[str, dict[str, bool]]) -> dict[str | None, set[str]]:
    assert all(all(children.values()) for children in children_of.values())
    return {parent: set(children) for parent, children in children_of.items() if children}


def grouped_by(pairs: Iterator[tuple[str | None, str]]) -> dict[str | None, set[str]]:
    found: dict[str | None, set[str]] = {}
    for parent, child in pairs:
        if parent is not None:
            found.setdefault(parent, set()).add(child)
    return found
