"""What becomes of a listing of CloudKitty's rules, and of what stands in it that a rule document cannot hold."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone

import msgspec
import pytest

from rater.cloudkitty import ImportRefusedError, Listing, convert
from rater.rating import Compiler

S, F, G, M, T, X = (f"{kind}0000000-0000-4000-8000-00000000000" for kind in "123456")


def listing(**parts: object) -> Listing:
    given: dict[str, object] = {
        "services": [{"service_id": S + "1", "name": "compute"}],
        "fields": [{"field_id": F + "1", "service_id": S + "1", "name": "flavor"}],
        "groups": [{"group_id": G + "1", "name": "g"}],
        "modules": [{"module_id": "hashmap", "enabled": True, "priority": 0, "hot-config": True}],
    }
    return msgspec.convert(given | parts, Listing)


def mapping(number: int, **members: object) -> dict[str, object]:
    row: dict[str, object] = {"mapping_id": f"{M}{number}", "type": "flat", "cost": "1.5", "service_id": S + "1"}
    return row | {"created_at": f"2026-01-0{number}T00:00:00"} | members


def threshold(number: int, **members: object) -> dict[str, object]:
    row: dict[str, object] = {"threshold_id": f"{T}{number}", "type": "flat", "cost": "1", "level": "2.00000000"}
    return row | {"service_id": S + "1"} | members


def refused(given: Listing, *, last_wins: bool = False) -> list[str]:
    with pytest.raises(ImportRefusedError) as caught:
        convert(given, UTC, last_wins=last_wins)
    return [problem.text for problem in caught.value.problems]


def test_a_start_with_a_fraction_counts_from_the_next_second_on() -> None:
    given = listing(mappings=[mapping(1, start="2026-01-01T00:00:00.250000", end="2026-01-01T01:00:00.000001")])

    (entry,) = convert(given, UTC).book.mappings.values()

    assert (entry.rule.start, entry.rule.end) == (1_767_225_601, 1_767_229_201)


def test_times_without_offset_are_local_and_those_with_one_are_not() -> None:
    given = listing(mappings=[mapping(1, start="2026-01-01T02:00:00", end="2026-01-02T00:00:00+00:00")])

    (entry,) = convert(given, timezone(timedelta(hours=2))).book.mappings.values()

    assert (entry.rule.start, entry.rule.end) == (1_767_225_600, 1_767_312_000)


def test_mappings_come_in_order_of_their_creation() -> None:
    rows = [mapping(3, field_id=F + "1", service_id=None, value="c"), mapping(1, group_id=G + "1"), mapping(2)]

    book = convert(listing(mappings=rows), UTC).book

    assert list(book.mappings) == [f"{M}1", f"{M}2", f"{M}3"]


def test_bounds_before_and_beyond_all_periods_are_none() -> None:
    rows = [mapping(1, start="1969-12-31T00:00:00", end="9999-12-31T23:59:59.9")]

    (entry,) = convert(listing(mappings=rows), UTC).book.mappings.values()

    assert (entry.rule.start, entry.rule.end) == (None, None)


def test_what_can_never_be_valid_is_left_out_with_a_note() -> None:
    rows = [mapping(1, start="2026-01-02T00:00:00", end="2026-01-01T00:00:00"), mapping(2, end="1969-01-01T00:00:00")]
    script = {"script_id": X + "1", "name": "s", "data": "pass", "start": "2026-01-02T00:00:00"}

    imported = convert(listing(mappings=rows, scripts=[script | {"end": "2026-01-01T00:00:00"}]), UTC)

    assert not imported.book.mappings
    assert not imported.book.scripts
    assert len(imported.notes) == 3


def test_names_that_cloudkitty_made_up_are_not_kept() -> None:
    rows = [mapping(1, name="0123456789abcdef0123456789abcdef"), mapping(2, name="gold", tenant_id="A")]

    book = convert(listing(mappings=rows), UTC).book

    assert [entry.rule.name for entry in book.mappings.values()] == [None, "gold"]


def test_modules_that_are_not_known_here_are_noted() -> None:
    modules = [
        {"module_id": "hashmap", "enabled": True, "priority": 0},
        {"module_id": "noop", "enabled": True},
        {"module_id": "ours", "enabled": True, "priority": 5},
        {"module_id": "off", "enabled": False},
    ]

    imported = convert(listing(modules=modules), UTC)

    assert [(name, module.enabled, module.priority) for name, module in imported.book.modules.items()] == [
        ("hashmap", True, 1)
    ]
    assert imported.notes == ("module 'ours' is on in CloudKitty and was not imported",)


def test_all_that_no_document_can_hold_is_named_at_once() -> None:
    given = listing(
        services=[{"service_id": S + "1", "name": "compute"}, {"service_id": S + "2", "name": ""}],
        mappings=[
            mapping(1, value="x"),
            mapping(2, tenant_id=""),
            mapping(3, start="yesterday"),
            mapping(4, service_id=S + "9"),
            mapping(5, group_id=G + "9"),
            mapping(6, type="percent"),
            mapping(7, cost="1234567890123"),
        ],
        thresholds=[threshold(1, level=None), threshold(2), threshold(3)],
    )

    told = refused(given, last_wins=True)

    assert len(told) == 10
    for text, number in zip(told[1:8], (1, 2, 3, 4, 5, 6, 7), strict=True):
        assert f"{M}{number}" in text
    assert f"{T}1" in told[8]
    assert f"{T}3" in told[9]
    assert f"{T}2" in told[9]


def test_what_the_rule_book_itself_refuses_is_a_problem() -> None:
    fields = [{"field_id": f"{F}{number}", "service_id": S + "1", "name": "flavor"} for number in (1, 2)]

    (told,) = refused(listing(fields=fields))

    assert "flavor" in told


def test_the_group_named_default_is_that_of_rules_without_one() -> None:
    given = listing(
        groups=[{"group_id": G + "1", "name": "_DEFAULT_"}], mappings=[mapping(1), mapping(2, group_id=G + "1", cost=7)]
    )

    (told,) = refused(given)
    imported = convert(given, UTC, last_wins=True)

    assert "is a duplicate" in told
    assert [problem.ids for problem in imported.resolved] == [(f"{M}2", f"{M}1")]
    (entry,) = imported.book.mappings.values()
    assert entry.rule.cost == 7
    assert Compiler(imported.book).plan("A", 0).rule_version == 1


def test_of_two_mappings_with_one_name_the_first_keeps_it() -> None:
    rows = [mapping(1, name="gold"), mapping(2, name="gold", tenant_id="A")]

    assert "has the name 'gold'" in refused(listing(mappings=rows))[0]
    book = convert(listing(mappings=rows), UTC, last_wins=True).book
    assert sorted(entry.rule.name or "" for entry in book.mappings.values()) == ["", "gold"]
