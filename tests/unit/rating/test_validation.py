"""Which changes of rules the API may make: CloudKitty's dates, parents and conflicts, each with its reason."""

from __future__ import annotations

from decimal import Decimal
from itertools import count
from typing import Any

import msgspec
import pytest

from rater.model.rules import (
    Change,
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
    RuleType,
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
    TiersSet,
    TierStep,
)
from rater.rating import RuleBook
from rater.rating.validation import (
    Answer,
    MappingInput,
    Refusal,
    Refused,
    ScriptInput,
    ThresholdInput,
    create_field,
    create_group,
    create_mapping,
    create_script,
    create_service,
    create_threshold,
    delete_field,
    delete_group,
    delete_mapping,
    delete_script,
    delete_service,
    delete_threshold,
    set_module,
    update_mapping,
    update_script,
    update_threshold,
)
from tests.unit.rating.builders import applied, uid

NOW = 1_767_225_600  # 2026-01-01T00:00:00Z
DAY = 86_400
SERVICE, FIELD, GROUP, DEFAULT, TIERED, NEW = (uid(number) for number in range(1, 7))
RUNNING, FUTURE, ENDED, THRESHOLD, SCRIPT, FUTURE_SCRIPT, DELETED = (uid(number) for number in range(10, 17))
ONE = Decimal(1)
running = MappingRule(RUNNING, ONE, RuleType.RATE, "run", field_id=FIELD, group_id=GROUP, start=NOW - DAY, name="run")
future = MappingRule(FUTURE, ONE, value="next", field_id=FIELD, start=NOW + DAY, end=NOW + 2 * DAY, name="next")
ended = MappingRule(ENDED, ONE, value="ended", field_id=FIELD, start=NOW - DAY, end=NOW + DAY, name="ended")
threshold = ThresholdRule(THRESHOLD, ONE, ONE, RuleType.RATE, SERVICE, group_id=GROUP, tenant_id="A")
script = Script(SCRIPT, "rebate", "pass", NOW - DAY)
future_script = Script(FUTURE_SCRIPT, "later", "pass", NOW + DAY, NOW + 2 * DAY, "soon")

START_IN_PAST = (
    "Cannot create a rule with start in the past: 2025-12-31T23:59:59Z lies before 2026-01-01T00:00:00Z; "
    "force=true creates it all the same"
)
ONLY_END = "You are allowed to update only the attribute [end] of a rule that was already processed"


def missing(what: str) -> str:
    return f"Invalid input for field/attribute {what}. Value: 'None'. Mandatory field missing."


def no_type(kind: str) -> str:
    return f"Invalid input for field/attribute type. Value: '{kind}'. Value should be one of: flat, rate"


@pytest.fixture
def book() -> RuleBook:
    return applied(
        RuleBook.empty(),
        ServiceCreated(Service(SERVICE, "s")),
        FieldCreated(Field(FIELD, SERVICE, "f")),
        GroupCreated(Group(GROUP, "g")),
        GroupCreated(Group(DEFAULT, "_DEFAULT_")),
        ServiceCreated(Service(TIERED, "tiered")),
        TiersSet(Tiers(TIERED, (TierStep(ONE),))),
        MappingCreated(running),
        MappingCreated(future),
        MappingCreated(ended),
        MappingCreated(MappingRule(DELETED, ONE, value="gone", field_id=FIELD, name="gone")),
        MappingDeleted(DELETED),
        ThresholdCreated(threshold),
        ScriptCreated(script),
        ScriptCreated(future_script),
        ScriptCreated(Script(DELETED, "gone", "")),
        ScriptDeleted(DELETED),
    )


def made(book: RuleBook, answer: Answer) -> Any:
    """What the one change of an answer carries; it must apply to the book."""
    assert isinstance(answer, tuple), answer
    applied(book, *answer)
    (change,) = answer
    return getattr(change, change.__struct_fields__[0])


def reason(answer: Answer) -> Refused:
    assert isinstance(answer, Refusal), answer
    return answer.reason


def said(answer: Answer) -> tuple[Refused, str]:
    assert isinstance(answer, Refusal), answer
    return answer.reason, answer.message


def new_mapping(book: RuleBook, force: bool = False, **keys: Any) -> Answer:
    return create_mapping(
        book, MappingInput(**({"cost": "1", "field_id": FIELD, "value": "v"} | keys)), NEW, NOW, force=force
    )


def new_threshold(book: RuleBook, **keys: Any) -> Answer:
    return create_threshold(book, ThresholdInput(**({"cost": "1", "level": "5", "service_id": SERVICE} | keys)), NEW)


def new_script(book: RuleBook, force: bool = False, **keys: Any) -> Answer:
    return create_script(book, ScriptInput(**({"name": "new", "data": "pass"} | keys)), NEW, NOW, force=force)


def test_a_mapping_starts_now_for_ever_and_has_a_name_of_32_digits(book: RuleBook) -> None:
    rule = made(book, new_mapping(book))

    assert rule == MappingRule(NEW, ONE, value="v", field_id=FIELD, start=NOW, name=NEW.replace("-", ""))
    assert len(rule.name) == 32


def test_a_mapping_takes_all_that_is_sent(book: RuleBook) -> None:
    keys = {"cost": 0.98, "type": "rate", "group_id": GROUP, "tenant_id": "A", "name": "n", "description": ""}

    rule = made(book, new_mapping(book, **keys, start="2026-01-02", end="2026-01-03"))

    assert rule == MappingRule(
        NEW,
        Decimal("0.9799999999999999822364316060"),
        RuleType.RATE,
        "v",
        None,
        FIELD,
        GROUP,
        "A",
        NOW + DAY,
        NOW + 3 * DAY - 1,
        "n",
        "",
    )


@pytest.mark.parametrize(
    ("keys", "why", "message"),
    [
        (
            {"cost": None},
            Refused.COST_MISSING,
            missing("cost"),
        ),
        ({"cost": "ten"}, Refused.COST_INVALID, "the cost 'ten' is no number with at most 12 digits before the point"),
        ({"cost": "NaN"}, Refused.COST_INVALID, "the cost 'NaN' is no number with at most 12 digits before the point"),
        (
            {"cost": float("inf")},
            Refused.COST_INVALID,
            "the cost 'inf' is no number with at most 12 digits before the point",
        ),
        (
            {"cost": "1234567890123"},
            Refused.COST_INVALID,
            "the cost '1234567890123' is no number with at most 12 digits before the point",
        ),
        (
            {"type": "threshold"},
            Refused.TYPE_UNKNOWN,
            no_type("threshold"),
        ),
        (
            {"start": "2025-12-31T23:59:59"},
            Refused.START_IN_PAST,
            START_IN_PAST,
        ),
        (
            {"start": "2026-01-02", "end": "2026-01-01T12:00:00"},
            Refused.END_BEFORE_START,
            "Cannot create a rule with start after end: 2026-01-02T00:00:00Z lies after 2026-01-01T12:00:00Z",
        ),
        (
            {"end": "2025-12-31"},
            Refused.END_BEFORE_START,
            "Cannot create a rule with start after end: 2026-01-01T00:00:00Z lies after 2025-12-31T23:59:59Z",
        ),
        ({"start": "soon"}, Refused.DATE_INVALID, "'soon' is no time: write it as 2026-01-01T00:00:00"),
        ({"end": -1}, Refused.DATE_INVALID, "'-1' is out of range: times up to 9999-12-31T23:59:59Z are taken"),
        ({"service_id": SERVICE}, Refused.TWO_PARENTS, "You can only specify one parent."),
        ({"field_id": None}, Refused.NO_PARENT, "You must specify one parent."),
        (
            {"field_id": None, "service_id": SERVICE},
            Refused.VALUE_WITH_SERVICE,
            "You can't specify a value and a service_id.",
        ),
        ({"value": None}, Refused.VALUE_MISSING, "You must specify a value for a field mapping."),
        ({"value": ""}, Refused.VALUE_MISSING, "You must specify a value for a field mapping."),
        ({"field_id": NEW}, Refused.PARENT_UNKNOWN, f"No such field: {NEW}"),
        (
            {"field_id": None, "service_id": NEW, "value": None},
            Refused.PARENT_UNKNOWN,
            f"No such service: None (UUID: {NEW})",
        ),
        (
            {"field_id": None, "service_id": TIERED, "value": None},
            Refused.SERVICE_HAS_TIERS,
            f"service {TIERED} has tiers, so it has no other rules",
        ),
        ({"group_id": NEW}, Refused.GROUP_UNKNOWN, f"No such group: None (UUID: {NEW})"),
        ({"tenant_id": ""}, Refused.TEXT_EMPTY, "tenant_id is empty: leave it out if the rule is for everybody"),
        ({"tenant_id": "t" * 256}, Refused.TEXT_TOO_LONG, "tenant_id has 256 characters: at most 255 are taken"),
        ({"value": "v" * 256}, Refused.TEXT_TOO_LONG, "value has 256 characters: at most 255 are taken"),
        ({"name": "n" * 33}, Refused.TEXT_TOO_LONG, "name has 33 characters: at most 32 are taken"),
        ({"description": "d" * 257}, Refused.TEXT_TOO_LONG, "description has 257 characters: at most 256 are taken"),
        (
            {"name": "run"},
            Refused.NAME_TAKEN,
            f"Mapping 'v' already exists for field '{FIELD}', tenant: 'None': there is one named 'run'",
        ),
        (
            {"cost": "x", "type": "y", "start": NOW - 1, "service_id": NEW, "value": "v" * 256, "group_id": NEW},
            Refused.COST_INVALID,
            "the cost 'x' is no number with at most 12 digits before the point; "
            "Invalid input for field/attribute type. Value: 'y'. Value should be one of: "
            f"flat, rate; {START_IN_PAST}; You can only specify one parent.; value has 256 characters: at most 255 are "
            f"taken; No such service: None (UUID: {NEW}); No such group: None (UUID: {NEW})",
        ),
    ],
    ids=count(),
)
def test_a_mapping_is_refused_for_a_reason(book: RuleBook, keys: dict[str, Any], why: Refused, message: str) -> None:
    assert said(new_mapping(book, **keys)) == (why, message)


def test_a_mapping_may_start_in_the_past_if_forced(book: RuleBook) -> None:
    assert made(book, new_mapping(book, force=True, start="2020-01-01")).start == NOW - 2192 * DAY
    assert reason(new_mapping(book, force=True, start="2020-01-01", end="2019-01-01")) is Refused.END_BEFORE_START


def test_dates_may_have_an_offset_and_a_fraction(book: RuleBook) -> None:
    rule = made(book, new_mapping(book, start="2026-01-01T01:00:00.5+01:00", end="2026-01-02 00:00:00Z"))

    assert (rule.start, rule.end) == (NOW + 1, NOW + DAY)


def test_an_end_without_a_start_is_compared_with_now(book: RuleBook) -> None:
    assert made(book, new_mapping(book, end="2026-01-01")).end == NOW + DAY - 1
    assert reason(new_mapping(book, end="2025-12-31")) is Refused.END_BEFORE_START


def test_the_name_of_a_deleted_mapping_is_free_and_its_validity_too(book: RuleBook) -> None:
    assert made(book, new_mapping(book, name="gone", value="gone")).name == "gone"


def test_a_service_mapping_without_value_is_one_with_null_or_empty_value(book: RuleBook) -> None:
    keys = {"field_id": None, "service_id": SERVICE}
    first = new_mapping(book, **keys, value=None)
    assert made(book, first).value == ""
    assert isinstance(first, tuple)
    book = applied(book, *first)

    for value in (None, ""):
        again = create_mapping(book, MappingInput(cost="2", service_id=SERVICE, value=value), uid(99), NOW)
        assert again == Refusal(
            Refused.VALIDITY_OVERLAPS, f"Mapping '' already exists for service '{SERVICE}', tenant: 'None'", (NEW,)
        )


@pytest.mark.parametrize(
    ("keys", "overlaps"),
    [
        ({"value": "run", "group_id": GROUP}, True),
        ({"value": "run", "group_id": GROUP, "start": "2030-01-01", "end": "2031-01-01"}, True),
        ({"value": "run"}, False),
        ({"value": "run", "group_id": GROUP, "tenant_id": "A"}, False),
        ({"value": "RUN", "group_id": GROUP}, False),
        ({"value": "next"}, True),
        ({"value": "next", "group_id": DEFAULT}, True),
        ({"value": "next", "group_id": GROUP}, False),
        ({"value": "next", "start": NOW + DAY + 1}, True),
        ({"value": "next", "start": NOW + 2 * DAY - 1}, True),
        ({"value": "next", "start": NOW + 2 * DAY}, False),
        ({"value": "next", "end": NOW + DAY}, False),
        ({"value": "next", "end": NOW + DAY + 1}, True),
        ({"value": "next", "start": NOW + DAY + 5, "end": NOW + DAY + 5}, False),
    ],
)
def test_mappings_for_the_same_thing_at_the_same_time_conflict(
    book: RuleBook, keys: dict[str, Any], overlaps: bool
) -> None:
    answer = new_mapping(book, **keys)

    if overlaps:
        assert reason(answer) is Refused.VALIDITY_OVERLAPS
    else:
        made(book, answer)


def test_an_open_rule_inside_a_finite_one_is_a_conflict(book: RuleBook) -> None:
    answer = new_mapping(book, value="ended", start=NOW + 1)

    assert answer == Refusal(
        Refused.VALIDITY_OVERLAPS, f"Mapping 'ended' already exists for field '{FIELD}', tenant: 'None'", (ENDED,)
    )


def test_a_rule_may_begin_when_another_ends(book: RuleBook) -> None:
    assert made(book, new_mapping(book, value="ended", start=NOW + DAY, end=NOW + 2 * DAY)).start == ended.end


def put_mapping(book: RuleBook, mapping_id: str, **keys: Any) -> Answer:
    return update_mapping(book, mapping_id, MappingInput(**keys), NOW)


def test_of_a_running_mapping_the_end_can_be_set(book: RuleBook) -> None:
    assert made(book, put_mapping(book, RUNNING, end="2026-01-31")).end == NOW + 31 * DAY - 1


def test_the_end_of_a_running_mapping_can_be_sent_with_the_full_object(book: RuleBook) -> None:
    full = {
        "cost": "1.000",
        "type": "rate",
        "value": "run",
        "field_id": FIELD,
        "group_id": GROUP,
        "start": "2025-12-31T00:00:00",
        "name": "run",
        "description": "",
    }

    assert made(book, put_mapping(book, RUNNING, **full, end=NOW + DAY)).end == NOW + DAY


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ({"cost": "2"}, "cost"),
        ({"cost": 0}, "cost"),
        ({"type": "flat", "value": "other"}, "type, value"),
        ({"service_id": SERVICE, "field_id": NEW, "group_id": NEW}, "service_id, field_id, group_id"),
        ({"tenant_id": "A", "name": "x", "description": "y"}, "tenant_id, name, description"),
        ({"start": "2026-01-01"}, "start"),
    ],
)
def test_of_a_running_mapping_nothing_else_changes(book: RuleBook, keys: dict[str, Any], names: str) -> None:
    assert put_mapping(book, RUNNING, **keys, end=NOW + DAY) == Refusal(
        Refused.ONLY_END_MAY_CHANGE,
        f"{ONLY_END}: {names} would change",
    )


@pytest.mark.parametrize(
    ("mapping_id", "keys", "why", "message"),
    [
        (NEW, {}, Refused.RULE_UNKNOWN, f"No such mapping: {NEW}"),
        (DELETED, {}, Refused.RULE_UNKNOWN, f"No such mapping: {DELETED}"),
        (RUNNING, {}, Refused.END_MISSING, "a rule that was already processed can only be given an end: give one"),
        (
            RUNNING,
            {"end": NOW - 1},
            Refused.END_IN_PAST,
            "Cannot end a rule in the past: 2025-12-31T23:59:59Z lies before 2026-01-01T00:00:00Z",
        ),
        (
            RUNNING,
            {"cost": "x", "end": NOW + DAY},
            Refused.COST_INVALID,
            "the cost 'x' is no number with at most 12 digits before the point",
        ),
        (
            ENDED,
            {"end": NOW + DAY + 1},
            Refused.ALREADY_ENDED,
            "Cannot update a rule that was already processed and has a defined end date.",
        ),
        (
            ENDED,
            {"cost": "2", "end": NOW + DAY},
            Refused.ALREADY_ENDED,
            "Cannot update a rule that was already processed and has a defined end date.",
        ),
        (
            ENDED,
            {},
            Refused.ALREADY_ENDED,
            "Cannot update a rule that was already processed and has a defined end date.",
        ),
        (
            FUTURE,
            {"start": NOW - 1},
            Refused.START_IN_PAST,
            "Cannot update a rule with start in the past: 2025-12-31T23:59:59Z lies before 2026-01-01T00:00:00Z",
        ),
        (
            FUTURE,
            {"end": NOW + DAY - 1},
            Refused.END_BEFORE_START,
            "Cannot create a rule with start after end: 2026-01-02T00:00:00Z lies after 2026-01-01T23:59:59Z",
        ),
        (
            FUTURE,
            {"cost": "x"},
            Refused.COST_INVALID,
            "the cost 'x' is no number with at most 12 digits before the point",
        ),
        (
            FUTURE,
            {"description": "d" * 257},
            Refused.TEXT_TOO_LONG,
            "description has 257 characters: at most 256 are taken",
        ),
    ],
    ids=count(),
)
def test_an_update_of_a_mapping_is_refused_for_a_reason(
    book: RuleBook, mapping_id: str, keys: dict[str, Any], why: Refused, message: str
) -> None:
    assert said(put_mapping(book, mapping_id, **keys)) == (why, message)


def test_an_end_that_is_sent_again_changes_nothing(book: RuleBook) -> None:
    assert put_mapping(book, ENDED, cost="1", value="ended", end=NOW + DAY) == ()
    assert put_mapping(book, FUTURE, cost="1", end=NOW + 2 * DAY) == ()


def test_a_mapping_to_come_takes_cost_dates_and_description_and_nothing_else(book: RuleBook) -> None:
    rule = made(book, put_mapping(book, FUTURE, cost=0.1, value="x", type="rate", name="y", start=NOW, description="d"))

    assert rule == MappingRule(
        FUTURE,
        Decimal("0.1000000000000000055511151231"),
        value="next",
        field_id=FIELD,
        start=NOW,
        name="next",
        description="d",
    )
    assert made(book, put_mapping(book, FUTURE, end="2026-01-05")).cost == 1


def test_a_mapping_to_come_cannot_be_moved_onto_another(book: RuleBook) -> None:
    before = MappingRule(NEW, ONE, value="next", field_id=FIELD, start=NOW, end=NOW + DAY)
    book = applied(book, MappingCreated(before))

    answer = put_mapping(book, FUTURE, start=NOW + DAY - 1)

    assert isinstance(answer, Refusal)
    assert (answer.reason, answer.ids) == (Refused.VALIDITY_OVERLAPS, (NEW,))


def test_a_threshold_is_flat_for_everybody_and_always_valid(book: RuleBook) -> None:
    assert made(book, new_threshold(book)) == ThresholdRule(NEW, Decimal(5), ONE, service_id=SERVICE)
    assert made(book, new_threshold(book, level=0.1, cost=0.1, type="rate", group_id=GROUP, tenant_id="B")) == (
        ThresholdRule(
            NEW,
            Decimal("0.1"),
            Decimal("0.1000000000000000055511151231"),
            RuleType.RATE,
            SERVICE,
            group_id=GROUP,
            tenant_id="B",
        )
    )


@pytest.mark.parametrize(
    ("keys", "why", "message"),
    [
        (
            {"level": None},
            Refused.LEVEL_MISSING,
            missing("level"),
        ),
        (
            {"level": "lots"},
            Refused.LEVEL_INVALID,
            "the level 'lots' is no number with at most 12 digits before the point",
        ),
        (
            {"level": 1e12},
            Refused.LEVEL_INVALID,
            "the level '1000000000000.0' is no number with at most 12 digits before the point",
        ),
        (
            {"cost": None},
            Refused.COST_MISSING,
            missing("cost"),
        ),
        (
            {"type": "x"},
            Refused.TYPE_UNKNOWN,
            no_type("x"),
        ),
        ({"field_id": FIELD}, Refused.TWO_PARENTS, "You can only specify one parent."),
        ({"service_id": None}, Refused.NO_PARENT, "You must specify one parent."),
        ({"service_id": NEW}, Refused.PARENT_UNKNOWN, f"No such service: None (UUID: {NEW})"),
        ({"service_id": TIERED}, Refused.SERVICE_HAS_TIERS, f"service {TIERED} has tiers, so it has no other rules"),
        ({"group_id": NEW}, Refused.GROUP_UNKNOWN, f"No such group: None (UUID: {NEW})"),
        ({"tenant_id": ""}, Refused.TEXT_EMPTY, "tenant_id is empty: leave it out if the rule is for everybody"),
        (
            {"level": "1.0", "group_id": GROUP, "tenant_id": "A"},
            Refused.LEVEL_TAKEN,
            f"Threshold '1.00000000' already exists for service '{SERVICE}', tenant: 'A'",
        ),
    ],
    ids=count(),
)
def test_a_threshold_is_refused_for_a_reason(book: RuleBook, keys: dict[str, Any], why: Refused, message: str) -> None:
    assert said(new_threshold(book, **keys)) == (why, message)


def test_two_thresholds_for_everybody_of_one_level_conflict(book: RuleBook) -> None:
    book = applied(book, ThresholdCreated(ThresholdRule(NEW, Decimal(5), ONE, field_id=FIELD)))

    for group_id in (None, DEFAULT):
        wanted = ThresholdInput(level=5, cost=2, field_id=FIELD, group_id=group_id)
        assert create_threshold(book, wanted, uid(99)) == Refusal(
            Refused.LEVEL_TAKEN,
            f"Threshold '{Decimal('5.00000000')}' already exists for field '{FIELD}', tenant: 'None'",
            (NEW,),
        )


def test_the_same_level_may_stand_in_two_groups(book: RuleBook) -> None:
    assert made(book, new_threshold(book, level="1", tenant_id="A")).group_id is None


def put_threshold(book: RuleBook, threshold_id: str = THRESHOLD, **keys: Any) -> Answer:
    return update_threshold(book, threshold_id, ThresholdInput(**({"cost": "1", "level": "1"} | keys)))


def test_a_threshold_becomes_what_is_sent_but_keeps_its_group(book: RuleBook) -> None:
    assert made(book, put_threshold(book)) == ThresholdRule(THRESHOLD, ONE, ONE, service_id=SERVICE, group_id=GROUP)
    assert made(book, put_threshold(book, type="rate", tenant_id="A", group_id=DEFAULT)).group_id == DEFAULT
    assert put_threshold(book, type="rate", tenant_id="A") == ()


@pytest.mark.parametrize(
    ("keys", "why", "message"),
    [
        ({"threshold_id": NEW}, Refused.RULE_UNKNOWN, f"No such threshold: {NEW}"),
        (
            {"level": None},
            Refused.LEVEL_MISSING,
            missing("level"),
        ),
        (
            {"cost": None},
            Refused.COST_MISSING,
            missing("cost"),
        ),
        (
            {"type": "x"},
            Refused.TYPE_UNKNOWN,
            no_type("x"),
        ),
        ({"group_id": NEW}, Refused.GROUP_UNKNOWN, f"No such group: None (UUID: {NEW})"),
        (
            {"level": "7"},
            Refused.LEVEL_TAKEN,
            f"Threshold '7.00000000' already exists for service '{SERVICE}', tenant: 'None'",
        ),
    ],
    ids=count(),
)
def test_an_update_of_a_threshold_is_refused_for_a_reason(
    book: RuleBook, keys: dict[str, Any], why: Refused, message: str
) -> None:
    other = ThresholdRule(uid(98), Decimal(7), ONE, service_id=SERVICE, group_id=GROUP)

    assert said(put_threshold(applied(book, ThresholdCreated(other)), **keys)) == (why, message)


def test_a_script_starts_when_it_is_created(book: RuleBook) -> None:
    assert made(book, new_script(book)) == Script(NEW, "new", "pass", NOW)
    assert made(
        book, new_script(book, name="gone", start="2026-01-02", end="2026-01-03T00:00:00", description="d")
    ) == (Script(NEW, "gone", "pass", NOW + DAY, NOW + 2 * DAY, "d"))
    assert made(book, new_script(book, force=True, start=0)).start == 0


@pytest.mark.parametrize(
    ("keys", "why", "message"),
    [
        (
            {"name": None},
            Refused.NAME_MISSING,
            missing("name"),
        ),
        ({"name": ""}, Refused.TEXT_EMPTY, "name is empty: give at least one character"),
        ({"name": "n" * 256}, Refused.TEXT_TOO_LONG, "name has 256 characters: at most 255 are taken"),
        ({"name": "rebate"}, Refused.NAME_TAKEN, f"Script rebate already exists (UUID: {SCRIPT})"),
        (
            {"data": None},
            Refused.DATA_MISSING,
            missing("data"),
        ),
        ({"data": "#" * 1_000_001}, Refused.TEXT_TOO_LONG, "data has 1000001 characters: at most 1000000 are taken"),
        ({"data": "if x"}, Refused.SYNTAX, "script 'new' does not compile: line 1: expected ':'"),
        (
            {"start": NOW - 1},
            Refused.START_IN_PAST,
            START_IN_PAST,
        ),
        (
            {"start": NOW + 1, "end": NOW},
            Refused.END_BEFORE_START,
            "Cannot create a rule with start after end: 2026-01-01T00:00:01Z lies after 2026-01-01T00:00:00Z",
        ),
        (
            {"end": NOW - 1},
            Refused.END_BEFORE_START,
            "Cannot create a rule with start after end: 2026-01-01T00:00:00Z lies after 2025-12-31T23:59:59Z",
        ),
        ({"description": "d" * 257}, Refused.TEXT_TOO_LONG, "description has 257 characters: at most 256 are taken"),
    ],
    ids=count(),
)
def test_a_script_is_refused_for_a_reason(book: RuleBook, keys: dict[str, Any], why: Refused, message: str) -> None:
    assert said(new_script(book, **keys)) == (why, message)


def test_a_script_that_does_not_compile_is_refused_with_its_line(book: RuleBook) -> None:
    assert new_script(book, data="x = 1\nif x\n") == Refusal(
        Refused.SYNTAX, "script 'new' does not compile: line 2: expected ':'"
    )
    answer = new_script(book, data="\0")
    assert isinstance(answer, Refusal)
    assert "null character" in answer.message


def put_script(book: RuleBook, script_id: str, **keys: Any) -> Answer:
    return update_script(book, script_id, ScriptInput(**keys), NOW)


def test_of_a_running_script_only_the_end_can_be_set(book: RuleBook) -> None:
    full = {"name": "rebate", "data": "pass", "start": "2025-12-31T00:00:00"}

    assert made(book, put_script(book, SCRIPT, **full, end="2026-01-01")) == Script(
        SCRIPT, "rebate", "pass", NOW - DAY, NOW + DAY - 1
    )


def test_a_script_to_come_is_replaced_but_keeps_its_name(book: RuleBook) -> None:
    assert made(book, put_script(book, FUTURE_SCRIPT, name="x", data="x = 1", start=NOW)) == Script(
        FUTURE_SCRIPT, "later", "x = 1", NOW
    )
    same = {"data": "pass", "end": NOW + 2 * DAY, "description": "soon"}
    assert put_script(book, FUTURE_SCRIPT, **same) == ()


@pytest.mark.parametrize(
    ("script_id", "keys", "why", "message"),
    [
        (NEW, {}, Refused.RULE_UNKNOWN, f"No such script: None (UUID: {NEW})"),
        (DELETED, {}, Refused.RULE_UNKNOWN, f"No such script: None (UUID: {DELETED})"),
        (
            SCRIPT,
            {"data": "x = 1", "end": NOW + 1},
            Refused.ONLY_END_MAY_CHANGE,
            f"{ONLY_END}: data would change",
        ),
        (
            SCRIPT,
            {"name": "rebate"},
            Refused.END_MISSING,
            "a rule that was already processed can only be given an end: give one",
        ),
        (
            SCRIPT,
            {"end": NOW - 1},
            Refused.END_IN_PAST,
            "Cannot end a rule in the past: 2025-12-31T23:59:59Z lies before 2026-01-01T00:00:00Z",
        ),
        (
            FUTURE_SCRIPT,
            {},
            Refused.DATA_MISSING,
            missing("data"),
        ),
        (FUTURE_SCRIPT, {"data": "if"}, Refused.SYNTAX, "script 'later' does not compile: line 1: invalid syntax"),
        (
            FUTURE_SCRIPT,
            {"data": "pass", "start": NOW - 1},
            Refused.START_IN_PAST,
            "Cannot update a rule with start in the past: 2025-12-31T23:59:59Z lies before 2026-01-01T00:00:00Z",
        ),
        (
            FUTURE_SCRIPT,
            {"data": "pass", "end": NOW},
            Refused.END_BEFORE_START,
            "Cannot create a rule with start after end: 2026-01-02T00:00:00Z lies after 2026-01-01T00:00:00Z",
        ),
    ],
    ids=count(),
)
def test_an_update_of_a_script_is_refused_for_a_reason(
    book: RuleBook, script_id: str, keys: dict[str, Any], why: Refused, message: str
) -> None:
    assert said(put_script(book, script_id, **keys)) == (why, message)


def test_services_fields_and_groups_have_names_of_their_own(book: RuleBook) -> None:
    assert made(book, create_service(book, "new", NEW)) == Service(NEW, "new")
    assert made(book, create_field(book, SERVICE, "new", NEW)) == Field(NEW, SERVICE, "new")
    assert made(book, create_group(book, "new", NEW)) == Group(NEW, "new")
    assert create_service(book, "s", NEW) == Refusal(
        Refused.NAME_TAKEN, f"Service s already exists (UUID: {SERVICE})", (SERVICE,)
    )
    assert create_group(book, "g", NEW) == Refusal(
        Refused.NAME_TAKEN, f"Group g already exists (UUID: {GROUP})", (GROUP,)
    )
    assert create_field(book, SERVICE, "f", NEW) == Refusal(
        Refused.NAME_TAKEN, f"Field f already exists (UUID: {FIELD})", (FIELD,)
    )
    assert reason(create_field(book, NEW, "f", NEW)) is Refused.PARENT_UNKNOWN
    assert reason(create_field(book, TIERED, "f", NEW)) is Refused.SERVICE_HAS_TIERS


def test_empty_names_are_refused(book: RuleBook) -> None:
    answers = [create_service(book, "", NEW), create_field(book, SERVICE, "", NEW), create_group(book, "", NEW)]

    assert [reason(answer) for answer in answers] == [Refused.TEXT_EMPTY] * 3
    assert reason(create_service(book, "x" * 256, NEW)) is Refused.TEXT_TOO_LONG


def test_what_is_there_can_be_deleted(book: RuleBook) -> None:
    changes: list[tuple[Answer, Change]] = [
        (delete_service(book, SERVICE), ServiceDeleted(SERVICE)),
        (delete_field(book, FIELD), FieldDeleted(FIELD)),
        (delete_group(book, GROUP), GroupDeleted(GROUP)),
        (delete_group(book, GROUP, recursive=True), GroupDeleted(GROUP, recursive=True)),
        (delete_mapping(book, RUNNING), MappingDeleted(RUNNING)),
        (delete_threshold(book, THRESHOLD), ThresholdDeleted(THRESHOLD)),
        (delete_script(book, SCRIPT), ScriptDeleted(SCRIPT)),
    ]

    for answer, change in changes:
        assert answer == (change,)
        applied(book, change)


def test_what_is_not_there_cannot_be_deleted(book: RuleBook) -> None:
    answers = [
        delete(book, thing)
        for delete in (delete_service, delete_field, delete_group, delete_mapping, delete_threshold, delete_script)
        for thing in (NEW, DELETED)
    ]

    assert [reason(answer) for answer in answers] == [Refused.RULE_UNKNOWN] * 12


@pytest.mark.parametrize(
    ("twin", "refused"),
    [
        (MappingRule(NEW, ONE, value="run", field_id=FIELD), True),
        (MappingRule(NEW, ONE, value="run", field_id=FIELD, group_id=DEFAULT, start=NOW + 9 * DAY), True),
        (MappingRule(NEW, ONE, value="run", field_id=FIELD, end=NOW - DAY), False),
        (MappingRule(NEW, ONE, value="run", field_id=FIELD, tenant_id="A"), False),
        (ThresholdRule(NEW, Decimal("1.0"), ONE, service_id=SERVICE, tenant_id="A"), True),
        (ThresholdRule(NEW, ONE, ONE, field_id=FIELD, tenant_id="A"), False),
    ],
)
def test_a_group_whose_rules_would_be_like_others_without_it_stays(
    book: RuleBook, twin: MappingRule | ThresholdRule, refused: bool
) -> None:
    created = MappingCreated(twin) if isinstance(twin, MappingRule) else ThresholdCreated(twin)
    others = [
        MappingCreated(MappingRule(uid(97), ONE, value="run", field_id=FIELD, tenant_id="B", end=NOW)),
        MappingCreated(MappingRule(uid(98), ONE, value="run", field_id=FIELD, tenant_id="B", start=NOW)),
    ]
    book = applied(book, created, *others)

    answer = delete_group(book, GROUP)

    assert answer == (GroupDeleted(GROUP),) if not refused else reason(answer) is Refused.UNGROUPED_OVERLAPS
    if isinstance(answer, Refusal):
        assert NEW in answer.ids
    assert delete_group(book, GROUP, recursive=True) == (GroupDeleted(GROUP, recursive=True),)
    assert delete_group(book, DEFAULT) == (GroupDeleted(DEFAULT),)


def test_a_module_is_switched_and_given_a_priority(book: RuleBook) -> None:
    known = ("hashmap", "noop", "pyscripts", "acme")

    assert set_module(book, "hashmap", known, enabled=True) == (ModuleSet("hashmap", True, 1),)
    assert set_module(book, "acme", known, priority=7) == (ModuleSet("acme", False, 7),)
    assert set_module(book, "pyscripts", known, priority=0, enabled=True) == (ModuleSet("pyscripts", True, 1),)
    assert set_module(book, "hashmap", known, enabled=False, priority=1) == ()
    assert set_module(book, "noop", known, enabled=False, priority=9) == ()
    assert set_module(book, "other", known, enabled=True) == Refusal(
        Refused.MODULE_UNKNOWN, "Module not found: 'other' is none of acme, hashmap, noop, pyscripts"
    )
    for priority in (-1, 1_000_001):
        assert reason(set_module(book, "hashmap", known, priority=priority)) is Refused.PRIORITY_INVALID


def test_texts_of_the_greatest_length_are_taken(book: RuleBook) -> None:
    keys = {"value": "v" * 255, "tenant_id": "t" * 255, "name": "n" * 32, "description": "d" * 256}

    rule = made(book, new_mapping(book, **keys))

    assert (rule.value, rule.tenant_id, rule.name, rule.description) == tuple(keys.values())
    assert made(book, create_service(book, "s" * 255, NEW)).name == "s" * 255
    assert made(book, new_script(book, name="n" * 255, data="#" * 1_000_000)).name == "n" * 255


def test_a_conflict_names_what_it_is_with(book: RuleBook) -> None:
    answers = [
        new_mapping(book, name="run"),
        new_mapping(book, field_id=None, service_id=TIERED, value=None),
        new_script(book, name="rebate"),
        new_threshold(book, level="1.0", group_id=GROUP, tenant_id="A"),
    ]

    assert [answer.ids for answer in answers if isinstance(answer, Refusal)] == [
        (RUNNING,),
        (TIERED,),
        (SCRIPT,),
        (THRESHOLD,),
    ]


def test_all_mappings_in_the_way_are_named(book: RuleBook) -> None:
    second = MappingRule(NEW, ONE, value="next", field_id=FIELD, start=NOW + 2 * DAY)
    book = applied(book, MappingCreated(second))

    answer = create_mapping(book, MappingInput(cost="1", field_id=FIELD, value="next"), uid(99), NOW)

    assert isinstance(answer, Refusal)
    assert answer.ids == (FUTURE, NEW)


def test_a_group_that_stays_names_the_two_rules(book: RuleBook) -> None:
    mapping = MappingRule(NEW, ONE, value="run", field_id=FIELD)
    twin = ThresholdRule(NEW, ONE, ONE, service_id=SERVICE, tenant_id="A")

    for first, change in ((RUNNING, MappingCreated(mapping)), (THRESHOLD, ThresholdCreated(twin))):
        assert delete_group(applied(book, change), GROUP) == Refusal(
            Refused.UNGROUPED_OVERLAPS,
            f"rules {first} and {NEW} would be alike without the group: delete one of them, or the group with "
            "its rules (recursive)",
            (first, NEW),
        )


def test_an_end_is_a_day_with_all_of_it_and_a_start_its_begin(book: RuleBook) -> None:
    assert made(book, put_mapping(book, RUNNING, start="2025-12-31", end="2026-01-01")).end == NOW + DAY - 1
    assert made(book, put_script(book, SCRIPT, start="2025-12-31", end="2026-01-01")).end == NOW + DAY - 1
    assert made(book, put_mapping(book, RUNNING, end=NOW)).end == NOW
    assert made(book, put_mapping(book, FUTURE, start="2026-01-04", end="2026-01-04")).end == NOW + 4 * DAY - 1


def test_a_rule_that_starts_now_has_not_started(book: RuleBook) -> None:
    book = applied(
        book,
        MappingCreated(MappingRule(NEW, ONE, value="now", field_id=FIELD, start=NOW)),
        ScriptCreated(Script(NEW, "now", "", NOW)),
    )

    assert made(book, put_mapping(book, NEW, cost=2)).cost == 2
    assert made(book, put_script(book, NEW, data="pass")).data == "pass"


def test_a_rule_from_the_beginning_of_time_has_started(book: RuleBook) -> None:
    book = applied(
        book,
        MappingCreated(MappingRule(NEW, ONE, value="ever", field_id=FIELD)),
        ScriptCreated(Script(NEW, "ever", "")),
    )

    assert reason(put_mapping(book, NEW, cost="2", end=NOW + DAY)) is Refused.ONLY_END_MAY_CHANGE
    assert reason(put_script(book, NEW, data="pass", end=NOW + DAY)) is Refused.ONLY_END_MAY_CHANGE


def test_changes_say_what_they_are(book: RuleBook) -> None:
    updates = [
        put_mapping(book, RUNNING, end=NOW),
        put_threshold(book),
        put_script(book, SCRIPT, end=NOW),
    ]

    assert [type(answer[0]) for answer in updates if isinstance(answer, tuple)] == [
        MappingUpdated,
        ThresholdUpdated,
        ScriptUpdated,
    ]


def test_a_rule_without_start_is_shown_as_of_1970_and_can_be_ended(book: RuleBook) -> None:
    always = MappingRule(NEW, ONE, value="always", field_id=FIELD, name="always")
    book = applied(book, MappingCreated(always))
    answer = put_mapping(book, NEW, start="1970-01-01T00:00:00", end="2026-02-01T00:00:00")
    assert answer == (MappingUpdated(msgspec.structs.replace(always, end=NOW + 31 * DAY)),)
