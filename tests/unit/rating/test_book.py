"""The rule book: what an event does, and which events every reader ignores as a whole."""

from __future__ import annotations

import typing
from decimal import Decimal
from itertools import count

import msgspec
import pytest

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
    ModuleSet,
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
    number_text,
)
from rater.rating import Applied, Ignored, IgnoredReason, MappingEntry, RuleBook, ScriptEntry, ThresholdEntry, fold
from tests.unit.rating.builders import applied, event, uid

SERVICE, FIELD, OTHER_FIELD, GROUP, MAPPING, FIELD_MAPPING, THRESHOLD, FIELD_THRESHOLD = (uid(n) for n in range(1, 9))
SCRIPT, OTHER_SCRIPT, TIERED = (uid(n) for n in range(9, 12))
NEW, NEW_THRESHOLD = uid(99), uid(98)

ONE = Decimal(1)
mapping = MappingRule(MAPPING, ONE, service_id=SERVICE, group_id=GROUP)
field_mapping = MappingRule(FIELD_MAPPING, ONE, value="v", field_id=FIELD, group_id=GROUP)
threshold = ThresholdRule(THRESHOLD, ONE, ONE, service_id=SERVICE, group_id=GROUP)
field_threshold = ThresholdRule(FIELD_THRESHOLD, ONE, ONE, field_id=FIELD)
script = Script(SCRIPT, "rebate", "pass", start=5, end=9)
tiers = Tiers(TIERED, (TierStep(ONE, Decimal(10)), TierStep(ONE)), ("region",))
PARTS = ("modules", "services", "fields", "groups", "mappings", "thresholds", "scripts")


@pytest.fixture
def book() -> RuleBook:
    """One of everything, made by `ann` at 100; version 1."""
    return applied(
        RuleBook.empty(),
        ServiceCreated(Service(SERVICE, "s")),
        FieldCreated(Field(FIELD, SERVICE, "f")),
        FieldCreated(Field(OTHER_FIELD, SERVICE, "other")),
        GroupCreated(Group(GROUP, "g")),
        MappingCreated(mapping),
        MappingCreated(field_mapping),
        ThresholdCreated(threshold),
        ThresholdCreated(field_threshold),
        ScriptCreated(script),
        ScriptCreated(Script(OTHER_SCRIPT, "other", "")),
        ServiceCreated(Service(TIERED, "tiered")),
        TiersSet(tiers),
        author="ann",
        created_at=100,
    )


def test_an_empty_book_has_every_module_off() -> None:
    book = RuleBook.empty()

    assert book.version == 0
    assert book.module("hashmap") == ModuleSet("hashmap", False, 1)
    assert dict(book.modules) == {}


def test_a_book_shows_what_was_created(book: RuleBook) -> None:
    assert book.version == 1
    assert list(book.services.values()) == [Service(SERVICE, "s"), Service(TIERED, "tiered")]
    assert book.service_named("s") == Service(SERVICE, "s")
    assert book.script_named("rebate") == book.scripts[SCRIPT] == ScriptEntry(script, 100, "ann")
    assert [entry.script.name for entry in book.scripts_in_order()] == ["rebate", "other"]
    assert book.tiers_of(TIERED) == tiers
    assert (book.tiers_of(SERVICE), book.script_named("x"), RuleBook.empty().scripts_in_order()) == (None, None, [])
    assert [field.name for field in book.fields_of(SERVICE)] == [f.name for f in book.fields.values()] == ["f", "other"]
    assert book.field_named(SERVICE, "f") == Field(FIELD, SERVICE, "f")
    assert book.group_named("g") == book.groups[GROUP]
    assert book.mappings_of(SERVICE) == [MappingEntry(mapping, 100, "ann")]
    assert book.thresholds_of(FIELD) == [ThresholdEntry(field_threshold, 100, "ann")]
    assert book.mappings_of(OTHER_FIELD) == book.thresholds_of(OTHER_FIELD) == book.fields_of(NEW) == []
    assert (book.service_named("x"), book.field_named(SERVICE, "x"), book.group_named("x")) == (None, None, None)


def test_a_module_is_switched_on(book: RuleBook) -> None:
    after = applied(book, ModuleSet("hashmap", True, 5))

    assert after.module("hashmap") == after.modules["hashmap"] == ModuleSet("hashmap", True, 5)


def test_a_mapping_is_updated_and_says_by_whom(book: RuleBook) -> None:
    rule = msgspec.structs.replace(mapping, cost=Decimal(2), end=500)

    after = applied(book, MappingUpdated(rule), author="bob", created_at=200)

    assert after.mappings[MAPPING] == MappingEntry(rule, 100, "ann", 200, "bob")
    assert book.mappings[MAPPING].rule == mapping


def test_a_deleted_mapping_is_kept_for_audit_only(book: RuleBook) -> None:
    after = applied(book, MappingDeleted(MAPPING), author="bob", created_at=200)

    assert after.mappings_of(SERVICE) == []
    assert after.mappings[MAPPING] == MappingEntry(mapping, 100, "ann", deleted_at=200, deleted_by="bob")
    assert len(book.mappings_of(SERVICE)) == 1


def test_a_threshold_is_updated_and_deleted(book: RuleBook) -> None:
    rule = msgspec.structs.replace(threshold, level=Decimal(7), group_id=None)

    after = applied(book, ThresholdUpdated(rule), author="bob", created_at=200)
    gone = applied(after, ThresholdDeleted(THRESHOLD))

    assert after.thresholds[THRESHOLD] == ThresholdEntry(rule, 100, "ann", 200, "bob")
    assert list(gone.thresholds) == [FIELD_THRESHOLD]
    assert gone.thresholds_of(SERVICE) == []


def test_a_field_takes_its_rules_along_the_deleted_ones_too(book: RuleBook) -> None:
    after = applied(applied(book, MappingDeleted(FIELD_MAPPING)), FieldDeleted(FIELD))

    assert list(after.fields) == [OTHER_FIELD]
    assert list(after.mappings) == [MAPPING]
    assert list(after.thresholds) == [THRESHOLD]
    assert applied(after, FieldCreated(Field(NEW, SERVICE, "f"))).field_named(SERVICE, "f") == Field(NEW, SERVICE, "f")


def test_a_service_takes_all_along(book: RuleBook) -> None:
    after = applied(book, MappingDeleted(MAPPING), ServiceDeleted(SERVICE), ServiceDeleted(TIERED))

    assert (dict(after.services), dict(after.fields), dict(after.mappings), dict(after.thresholds)) == ({}, {}, {}, {})
    assert after.tiers_of(TIERED) is None
    assert after.group_named("g") is not None
    assert applied(after, ServiceCreated(Service(NEW, "s"))).fields_of(NEW) == []


def test_a_service_made_and_deleted_in_one_event_leaves_nothing() -> None:
    after = applied(RuleBook.empty(), ServiceCreated(Service(SERVICE, "s")), ServiceDeleted(SERVICE))

    assert after.version == 1
    assert dict(after.services) == {}


def test_a_group_leaves_its_rules_without_group(book: RuleBook) -> None:
    after = applied(applied(book, MappingDeleted(MAPPING)), GroupDeleted(GROUP))

    assert dict(after.groups) == {}
    assert after.mappings[MAPPING].rule.group_id is None
    assert [entry.rule.group_id for entry in after.mappings_of(FIELD)] == [None]
    assert [entry.rule.group_id for entry in after.thresholds_of(SERVICE)] == [None]


def test_a_group_takes_its_rules_along_if_asked_to(book: RuleBook) -> None:
    after = applied(applied(book, MappingDeleted(MAPPING)), GroupDeleted(GROUP, recursive=True))

    assert after.mappings_of(SERVICE) == after.mappings_of(FIELD) == after.thresholds_of(SERVICE) == []
    assert len(after.mappings) == 2
    assert len(after.thresholds_of(FIELD)) == 1


@pytest.mark.parametrize("recursive", [False, True])
def test_the_name_of_a_deleted_group_is_free_again(book: RuleBook, recursive: bool) -> None:
    after = applied(book, GroupDeleted(GROUP, recursive=recursive))
    assert after.group_named("g") is None

    again = applied(after, GroupCreated(Group(NEW, "g")))
    assert again.group_named("g") == Group(NEW, "g")


def test_a_rule_goes_with_the_group_it_is_in_now(book: RuleBook) -> None:
    other = uid(97)
    regrouped = (
        MappingUpdated(msgspec.structs.replace(mapping, group_id=other)),
        MappingUpdated(msgspec.structs.replace(field_mapping, group_id=None)),
        ThresholdUpdated(msgspec.structs.replace(threshold, group_id=other)),
        ThresholdUpdated(msgspec.structs.replace(field_threshold, group_id=other)),
    )
    book = applied(book, GroupCreated(Group(other, "other")), *regrouped)

    without = applied(book, GroupDeleted(GROUP, recursive=True))
    assert without.thresholds == book.thresholds
    assert without.mappings == book.mappings
    kept, gone = applied(book, GroupDeleted(other)), applied(book, GroupDeleted(other, recursive=True))

    assert {entry.rule.group_id for entry in (*kept.mappings.values(), *kept.thresholds.values())} == {None}
    assert (gone.mappings_of(SERVICE), dict(gone.thresholds)) == ([], {})
    assert len(gone.mappings_of(FIELD)) == 1


def test_what_is_deleted_has_left_its_group(book: RuleBook) -> None:
    without_field = applied(book, FieldDeleted(FIELD), ThresholdDeleted(THRESHOLD))

    for after in (without_field, applied(book, ServiceDeleted(SERVICE))):
        for recursive in (False, True):
            assert dict(applied(after, GroupDeleted(GROUP, recursive)).groups) == {}
        again = applied(after, ServiceDeleted(SERVICE)) if SERVICE in after.services else after
        assert applied(again, ServiceCreated(Service(NEW, "s"))).mappings_of(NEW) == []


def test_an_event_that_fails_leaves_everything_where_it_was(book: RuleBook) -> None:
    changes = (
        MappingUpdated(msgspec.structs.replace(mapping, cost=Decimal(9))),
        ThresholdDeleted(THRESHOLD),
        ScriptDeleted(SCRIPT),
        Moved(OTHER_FIELD, before=FIELD),
        FieldDeleted(FIELD),
        ServiceCreated(Service(NEW, "new")),
        ServiceDeleted(TIERED),
        GroupDeleted(GROUP),
        GroupCreated(Group(uid(97), "g")),
        GroupDeleted(NEW),
    )

    after, outcome = book.apply(event(1, *changes))

    assert isinstance(outcome, Ignored)
    assert [list(getattr(after, part).items()) for part in PARTS] == [
        list(getattr(book, part).items()) for part in PARTS
    ]
    assert after.fields_of(SERVICE) == book.fields_of(SERVICE)
    assert after.scripts_in_order() == book.scripts_in_order()
    assert after.mappings_of(SERVICE) + after.mappings_of(FIELD) == book.mappings_of(SERVICE) + book.mappings_of(FIELD)
    assert after.thresholds_of(SERVICE) == book.thresholds_of(SERVICE)
    assert (after.group_named("g"), after.service_named("new")) == (Group(GROUP, "g"), None)
    assert after.tiers_of(TIERED) == tiers
    assert applied(after, GroupDeleted(GROUP)).mappings[MAPPING].rule.group_id is None


def test_children_can_be_moved(book: RuleBook) -> None:
    second = ThresholdRule(NEW_THRESHOLD, Decimal(2), ONE, service_id=SERVICE)
    other = MappingRule(NEW, ONE, value="w", field_id=FIELD)
    book = applied(book, ThresholdCreated(second), MappingCreated(other))

    after = applied(
        book, Moved(OTHER_FIELD, before=FIELD), Moved(FIELD_MAPPING), Moved(NEW_THRESHOLD, before=THRESHOLD)
    )

    assert [field.name for field in after.fields_of(SERVICE)] == ["other", "f"]
    assert [entry.rule.value for entry in after.mappings_of(FIELD)] == ["w", "v"]
    assert [entry.rule.level for entry in after.thresholds_of(SERVICE)] == [2, 1]
    assert [field.name for field in book.fields_of(SERVICE)] == ["f", "other"]


def test_children_moved_and_removed_in_one_event_stand_as_if_they_came_one_by_one(book: RuleBook) -> None:
    ids = [uid(number) for number in range(50, 55)]
    steps: list[Change] = [
        *(FieldCreated(Field(field_id, SERVICE, field_id)) for field_id in ids),
        Moved(ids[4], before=ids[1]),
        Moved(FIELD),
        FieldDeleted(ids[1]),
        FieldCreated(Field(NEW, SERVICE, "last")),
        Moved(ids[0], before=FIELD),
    ]

    at_once, one_by_one = applied(book, *steps), book
    for step in steps:
        one_by_one = applied(one_by_one, step)

    order = [field.field_id for field in at_once.fields_of(SERVICE)]
    assert order == [OTHER_FIELD, ids[4], ids[2], ids[3], ids[0], FIELD, NEW]
    assert order == [field.field_id for field in one_by_one.fields_of(SERVICE)]


def test_a_script_is_updated_moved_and_kept_for_audit_when_deleted(book: RuleBook) -> None:
    renamed = Script(SCRIPT, "discount", "pass", description="10 %")

    after = applied(book, ScriptUpdated(renamed), Moved(SCRIPT), author="bob", created_at=200)
    gone = applied(after, ScriptDeleted(SCRIPT), author="cy", created_at=300)

    assert after.scripts[SCRIPT] == ScriptEntry(renamed, 100, "ann", 200, "bob")
    assert [entry.script.name for entry in after.scripts_in_order()] == ["other", "discount"]
    assert gone.scripts[SCRIPT] == ScriptEntry(renamed, 100, "ann", 200, "bob", 300, "cy")
    assert [entry.script.name for entry in gone.scripts_in_order()] == ["other"]
    assert gone.script_named("discount") is None


def test_the_name_of_a_deleted_or_renamed_script_is_free_again(book: RuleBook) -> None:
    renamed = applied(book, ScriptUpdated(Script(SCRIPT, "discount", "")), ScriptCreated(Script(NEW, "rebate", "")))
    deleted = applied(book, ScriptDeleted(SCRIPT), ScriptCreated(Script(NEW, "rebate", "")))

    assert [entry.script.name for entry in renamed.scripts_in_order()] == ["discount", "other", "rebate"]
    assert renamed.script_named("discount") == renamed.scripts[SCRIPT]
    assert deleted.script_named("rebate") == ScriptEntry(Script(NEW, "rebate", ""), 100, "tester")


def test_a_script_with_a_syntax_error_is_no_matter_of_the_book(book: RuleBook) -> None:
    applied(book, ScriptCreated(Script(NEW, "new", "def")))


def test_tiers_are_replaced_and_deleted(book: RuleBook) -> None:
    flat = Tiers(TIERED, (TierStep(Decimal(2)),))

    after = applied(book, TiersSet(flat))
    gone = applied(after, TiersDeleted(TIERED), MappingCreated(MappingRule(NEW, ONE, service_id=TIERED)))

    assert after.tiers_of(TIERED) == flat
    assert gone.tiers_of(TIERED) is None


def test_collectors_are_noted_for_whoever_asks(book: RuleBook) -> None:
    noted = applied(book, CollectorMapped("cpu", "monasca"), CollectorMapped("cpu", "gnocchi"))
    switched = applied(noted, CollectorSwitched("gnocchi", True))

    assert noted.collector_of == {"cpu": "gnocchi"}
    assert switched.collectors == {"gnocchi": True}
    assert applied(switched, CollectorMapped("cpu")).collector_of == {}
    again = applied(switched, CollectorMapped("cpu"), CollectorMapped("cpu", "gnocchi"))
    assert again.collector_of == {"cpu": "gnocchi"}
    assert applied(switched, CollectorSwitched("gnocchi", False)).collectors == {"gnocchi": False}
    _, outcome = book.apply(event(book.version, CollectorMapped("cpu")))
    assert outcome == Ignored(
        IgnoredReason.UNKNOWN, "changes[0] collector_mapped: there is no collector of service cpu: read the rules again"
    )


def test_a_service_whose_rules_are_deleted_can_have_tiers(book: RuleBook) -> None:
    after = applied(
        book,
        *(FieldDeleted(FIELD), FieldDeleted(OTHER_FIELD), MappingDeleted(MAPPING), ThresholdDeleted(THRESHOLD)),
        TiersSet(Tiers(SERVICE, (TierStep(ONE),))),
    )

    assert after.tiers_of(SERVICE) == Tiers(SERVICE, (TierStep(ONE),))
    assert list(after.mappings) == [MAPPING]


def test_every_kind_of_change_does_something(book: RuleBook) -> None:
    tried = {type(change) for change in ALL_CHANGES}

    assert tried == set(typing.get_args(Change))
    for change in ALL_CHANGES:
        applied(book, change)


ALL_CHANGES: list[Change] = [
    CollectorMapped("cpu", "gnocchi"),
    CollectorSwitched("gnocchi", True),
    ModuleSet("noop", True),
    ServiceCreated(Service(NEW, "new")),
    ServiceDeleted(SERVICE),
    FieldCreated(Field(NEW, SERVICE, "new")),
    FieldDeleted(FIELD),
    GroupCreated(Group(NEW, "new")),
    GroupDeleted(GROUP),
    MappingCreated(msgspec.structs.replace(mapping, mapping_id=NEW)),
    MappingUpdated(mapping),
    MappingDeleted(MAPPING),
    ThresholdCreated(msgspec.structs.replace(threshold, threshold_id=NEW)),
    ThresholdUpdated(threshold),
    ThresholdDeleted(THRESHOLD),
    ScriptCreated(Script(NEW, "new", "")),
    ScriptUpdated(script),
    ScriptDeleted(SCRIPT),
    TiersSet(tiers),
    TiersDeleted(TIERED),
    Moved(MAPPING),
]

INVALID, UNKNOWN, DUPLICATE = IgnoredReason.INVALID, IgnoredReason.UNKNOWN, IgnoredReason.DUPLICATE


def but(rule: MappingRule | ThresholdRule, **attributes: object) -> Change:
    """A rule with some attributes changed, as a new one unless its id is given."""
    if isinstance(rule, MappingRule):
        return MappingCreated(msgspec.structs.replace(rule, **{"mapping_id": NEW, **attributes}))
    return ThresholdCreated(msgspec.structs.replace(rule, **{"threshold_id": NEW, **attributes}))


GIVEN = "delete them before it is given mappings, thresholds or fields"
TIERS = "delete them before it is given tiers"


def steps(*bounds: str | None, costs: str = "1", by: tuple[str, ...] = ()) -> Change:
    """Tiers of that service with these bounds."""
    made = tuple(TierStep(Decimal(costs), None if bound is None else Decimal(bound)) for bound in bounds)
    return TiersSet(Tiers(TIERED, made, by))


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        (ServiceCreated(Service(SERVICE, "new")), DUPLICATE, f"id {SERVICE} is taken: ids are never used twice"),
        (ServiceCreated(Service(NEW, "s")), DUPLICATE, "a service named 's' exists: read the rules again"),
        (ServiceDeleted(NEW), UNKNOWN, f"there is no service {NEW}: read the rules again"),
        (FieldCreated(Field(NEW, SERVICE, "f")), DUPLICATE, "a field named 'f' exists: read the rules again"),
        (FieldCreated(Field(FIELD, SERVICE, "new")), DUPLICATE, f"id {FIELD} is taken: ids are never used twice"),
        (FieldCreated(Field(NEW, NEW, "new")), UNKNOWN, f"there is no service {NEW}: read the rules again"),
        (FieldDeleted(NEW), UNKNOWN, f"there is no field {NEW}: read the rules again"),
        (GroupCreated(Group(NEW, "g")), DUPLICATE, "a group named 'g' exists: read the rules again"),
        (GroupCreated(Group(GROUP, "new")), DUPLICATE, f"id {GROUP} is taken: ids are never used twice"),
        (GroupDeleted(NEW), UNKNOWN, f"there is no group {NEW}: read the rules again"),
        (but(mapping, mapping_id=MAPPING), DUPLICATE, f"id {MAPPING} is taken: ids are never used twice"),
        (but(mapping, service_id=NEW), UNKNOWN, f"there is no service {NEW}: read the rules again"),
        (but(field_mapping, field_id=NEW), UNKNOWN, f"there is no field {NEW}: read the rules again"),
        (but(mapping, group_id=NEW), UNKNOWN, f"there is no group {NEW}: read the rules again"),
        (but(mapping, service_id=None), INVALID, "a rule belongs to one service or one field, not to both or none"),
        (but(mapping, field_id=FIELD), INVALID, "a rule belongs to one service or one field, not to both or none"),
        (but(mapping, value="v"), INVALID, "a mapping of a field needs a value, one of a service has none"),
        (but(field_mapping, value=""), INVALID, "a mapping of a field needs a value, one of a service has none"),
        (but(mapping, start=5, end=4), INVALID, "end 4 is before start 5"),
        (but(mapping, cost=Decimal("NaN")), INVALID, "the cost is NaN: it must be a finite number"),
        (but(mapping, cost=Decimal("1e12")), INVALID, "the cost has 13 digits before the point: at most 12 are taken"),
        (but(mapping, cost=Decimal("1e-29")), INVALID, "the cost has 29 digits after the point: at most 28 are taken"),
        (
            but(threshold, level=Decimal("1.000000001")),
            INVALID,
            "the level has 9 digits after the point: at most 8 are taken",
        ),
        (but(threshold, cost=Decimal("-Infinity")), INVALID, "the cost is -Infinity: it must be a finite number"),
        (but(threshold, threshold_id=THRESHOLD), DUPLICATE, f"id {THRESHOLD} is taken: ids are never used twice"),
        (but(threshold, service_id=None), INVALID, "a rule belongs to one service or one field, not to both or none"),
        (
            MappingUpdated(msgspec.structs.replace(mapping, mapping_id=NEW)),
            UNKNOWN,
            f"there is no mapping {NEW}: read the rules again",
        ),
        (
            MappingUpdated(msgspec.structs.replace(mapping, cost=Decimal("inf"))),
            INVALID,
            "the cost is Infinity: it must be a finite number",
        ),
        (
            MappingUpdated(msgspec.structs.replace(field_mapping, field_id=OTHER_FIELD)),
            INVALID,
            "the parent of a rule stays the same: delete it and create another",
        ),
        (MappingDeleted(NEW), UNKNOWN, f"there is no mapping {NEW}: read the rules again"),
        (
            ThresholdUpdated(msgspec.structs.replace(threshold, threshold_id=NEW)),
            UNKNOWN,
            f"there is no threshold {NEW}: read the rules again",
        ),
        (
            ThresholdUpdated(msgspec.structs.replace(field_threshold, field_id=OTHER_FIELD)),
            INVALID,
            "the parent of a rule stays the same: delete it and create another",
        ),
        (ThresholdDeleted(NEW), UNKNOWN, f"there is no threshold {NEW}: read the rules again"),
        (ScriptCreated(Script(SCRIPT, "new", "")), DUPLICATE, f"id {SCRIPT} is taken: ids are never used twice"),
        (ScriptCreated(Script(NEW, "rebate", "")), DUPLICATE, "a script named 'rebate' exists: read the rules again"),
        (ScriptCreated(Script(NEW, "new", "", start=5, end=4)), INVALID, "end 4 is before start 5"),
        (ScriptUpdated(Script(NEW, "new", "")), UNKNOWN, f"there is no script {NEW}: read the rules again"),
        (ScriptUpdated(Script(SCRIPT, "other", "")), DUPLICATE, "a script named 'other' exists: read the rules again"),
        (ScriptUpdated(Script(SCRIPT, "rebate", "", start=5, end=4)), INVALID, "end 4 is before start 5"),
        (ScriptDeleted(NEW), UNKNOWN, f"there is no script {NEW}: read the rules again"),
        (Moved(SCRIPT, before=FIELD), UNKNOWN, f"{FIELD} is no sibling of {SCRIPT}: read the rules again"),
        (but(mapping, service_id=TIERED), INVALID, f"service {TIERED} has tiers: {GIVEN}"),
        (but(threshold, service_id=TIERED), INVALID, f"service {TIERED} has tiers: {GIVEN}"),
        (FieldCreated(Field(NEW, TIERED, "f")), INVALID, f"service {TIERED} has tiers: {GIVEN}"),
        (TiersSet(Tiers(NEW, tiers.steps)), UNKNOWN, f"there is no service {NEW}: read the rules again"),
        (
            TiersSet(Tiers(SERVICE, tiers.steps)),
            INVALID,
            f"service {SERVICE} has mappings, thresholds or fields: {TIERS}",
        ),
        (TiersDeleted(SERVICE), UNKNOWN, f"service {SERVICE} has no tiers: read the rules again"),
        (steps(None, by=("a", "b", "a")), INVALID, "a label stands twice in `by`"),
        (steps("1"), INVALID, "the last step has a bound: it must be without one (up_to null)"),
        (steps(None, "1"), INVALID, "the last step has a bound: it must be without one (up_to null)"),
        (steps("1", None, None), INVALID, "steps[1] has no bound: only the last step is without one"),
        (steps("0", None), INVALID, "the bound of steps[0] is 0: it must be more than 0"),
        (steps("-1", None), INVALID, "the bound of steps[0] is -1: it must be more than 0"),
        (steps("2", "2.0", None), INVALID, "the bound of steps[1] is 2.0: it must be more than 2"),
        (steps("1e-9", None), INVALID, "the bound of steps[0] has 9 digits after the point: at most 8 are taken"),
        (steps("1", None, costs="NaN"), INVALID, "the cost of steps[0] is NaN: it must be a finite number"),
        (Moved(NEW), UNKNOWN, f"there is no mapping {NEW}: read the rules again"),
        (Moved(FIELD, before=NEW), UNKNOWN, f"{NEW} is no sibling of {FIELD}: read the rules again"),
        (Moved(FIELD, before=FIELD), UNKNOWN, f"{FIELD} is no sibling of {FIELD}: read the rules again"),
    ],
    ids=count(),
)
def test_a_change_that_cannot_be_makes_its_whole_event_void(
    book: RuleBook, change: Change, reason: IgnoredReason, message: str
) -> None:
    before = fold(book, [])[0]

    after, outcome = book.apply(event(1, ModuleSet("hashmap", True), change, ModuleSet("pyscripts", True)))

    assert isinstance(outcome, Ignored)
    assert outcome.reason is reason
    assert outcome.message == f"changes[1] {type(change).__struct_config__.tag}: {message}"
    assert after.version == book.version
    for part in PARTS:
        assert getattr(after, part) == getattr(before, part)


def test_a_deleted_mapping_cannot_be_changed_again(book: RuleBook) -> None:
    after = applied(book, MappingDeleted(MAPPING))

    for change in (MappingDeleted(MAPPING), MappingUpdated(mapping), Moved(MAPPING)):
        _, outcome = after.apply(event(2, change))
        kind = type(change).__struct_config__.tag
        message = f"changes[0] {kind}: mapping {MAPPING} is deleted: read the rules again"
        assert outcome == Ignored(UNKNOWN, message)


def test_a_deleted_script_cannot_be_changed_again(book: RuleBook) -> None:
    after = applied(book, ScriptDeleted(SCRIPT))

    for change in (ScriptDeleted(SCRIPT), ScriptUpdated(script), Moved(SCRIPT)):
        _, outcome = after.apply(event(2, change))
        message = f"changes[0] {type(change).__struct_config__.tag}: script {SCRIPT} is deleted: read the rules again"
        assert outcome == Ignored(UNKNOWN, message)


def test_of_two_events_for_one_version_the_first_counts() -> None:
    first, second = event(0, ModuleSet("hashmap", True)), event(0, ModuleSet("hashmap", False))

    book, outcomes = fold(RuleBook.empty(), [first, second, event(1, ModuleSet("pyscripts", True)), event(7)])

    assert [isinstance(outcome, Applied) for outcome in outcomes] == [True, False, True, False]
    assert outcomes[1] == Ignored(
        IgnoredReason.VERSION_CONFLICT,
        "expects version 0 of the rule book, which is at 1: read the rules again and repeat the change",
    )
    assert book.version == 2
    assert book.module("hashmap").enabled


def test_folding_at_once_or_one_by_one_gives_the_same(book: RuleBook) -> None:
    events = [
        event(1, MappingCreated(msgspec.structs.replace(field_mapping, mapping_id=NEW, value="w"))),
        event(2, MappingDeleted(FIELD_MAPPING)),
        event(2, ModuleSet("late", True)),
        event(3, Moved(OTHER_FIELD, before=FIELD), GroupDeleted(GROUP)),
    ]

    at_once, outcomes = fold(book, events)
    one_by_one = book
    for number, step in enumerate(events):
        one_by_one, outcome = one_by_one.apply(step)
        assert outcome == outcomes[number]

    for part in ("version", *PARTS):
        assert getattr(at_once, part) == getattr(one_by_one, part)
    assert at_once.fields_of(SERVICE) == one_by_one.fields_of(SERVICE)
    assert at_once.mappings_of(FIELD) == one_by_one.mappings_of(FIELD)


def test_numbers_have_one_plain_text() -> None:
    texts = {"1.500": "1.5", "1E+3": "1000", "0E-50": "0", "-0": "0", "-2.0": "-2", "1E-28": f"0.{'0' * 27}1"}

    assert {number: number_text(Decimal(number)) for number in texts} == texts
