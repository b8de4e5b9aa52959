"""Changes of the rules in words: those of a plan, those of the history, and those that name what is not there."""

from __future__ import annotations

import hashlib
from decimal import Decimal

import msgspec

from rater.model.rules import (
    Change,
    CollectorMapped,
    CollectorSwitched,
    FieldDeleted,
    GroupDeleted,
    MappingDeleted,
    MappingRule,
    MappingUpdated,
    Moved,
    ScriptDeleted,
    ServiceDeleted,
    ThresholdDeleted,
    TiersDeleted,
)
from rater.rating import RuleBook, parse, plan
from rater.rating.change_words import ChangeWords, words_of
from tests.unit.rating.builders import event, uid

FIRST = """
hashmap:
  services:
  - name: cpu
    mappings: [{cost: "0.1"}]
    thresholds: [{level: "50", cost: "0.98", type: rate, group: volume, tenant_id: projA}]
    fields:
    - {name: flavor, mappings: [{value: tiny, cost: "0.01", start: 2026-01-01T00:00:00Z, name: t, description: why}]}
    - {name: image, thresholds: [{level: "7", cost: "1"}]}
  - {name: net, tiers: {by: [zone], steps: [{up_to: "1000", cost: "0.09"}, {up_to: null, cost: "0.07"}]}}
pyscripts: {scripts: [{name: rebate, data: "pass"}, {name: other, data: "pass"}]}
"""
SECOND = (
    FIRST.replace('"0.1"', '"0.2"')
    .replace('"0.98"', '"0.9"')
    .replace("0.07", "0.06")
    .replace('rebate, data: "pass"', 'rebate, data: "x = 1"')
    .replace("description: why", "end: 2027-01-01T00:00:00Z")
    + "modules: {pyscripts: {enabled: true, priority: 5}}\n"
)
PASS = hashlib.sha512(b"pass").hexdigest()[:12]


def applied(book: RuleBook, *changes: Change) -> RuleBook:
    after, _ = book.apply(event(book.version, *changes))
    assert after.version == book.version + 1
    return after


def book_of(text: str) -> RuleBook:
    return applied(RuleBook.empty(), *plan(RuleBook.empty(), parse(text, "first.yaml")).changes)


def test_the_words_of_the_history_are_those_of_the_plan() -> None:
    for book, text in ((RuleBook.empty(), FIRST), (book_of(FIRST), SECOND)):
        diff = plan(book, parse(text, "f.yaml"))
        words = words_of(event(book.version, *diff.changes), book)
        assert words == [ChangeWords(*msgspec.structs.astuple(entry)) for entry in diff.entries]
        assert len(words) == len(diff.changes) >= 6


def test_what_is_deleted_or_moved_is_told_by_its_place() -> None:
    book = book_of(FIRST)
    cpu, net = book.service_named("cpu"), book.service_named("net")
    assert cpu is not None
    assert net is not None
    flavor, image = book.fields_of(cpu.service_id)
    group = book.group_named("volume")
    assert group is not None
    rebate, other = (entry.script.script_id for entry in book.scripts_in_order())
    changes: dict[Change, tuple[str, ...]] = {
        ServiceDeleted(net.service_id): ("-", "service", "net", "with all its rules", ""),
        FieldDeleted(image.field_id): ("-", "field", "cpu / image", "with all its rules", ""),
        GroupDeleted(group.group_id): ("-", "group", "volume", "its rules stay, without a group", ""),
        GroupDeleted(group.group_id, True): ("-", "group", "volume", "with its rules", ""),
        MappingDeleted(book.mappings_of(cpu.service_id)[0].rule.mapping_id): ("-", "mapping", "cpu", "flat 0.1", ""),
        ThresholdDeleted(book.thresholds_of(cpu.service_id)[0].rule.threshold_id): (
            "-", "threshold", "cpu >= 50", "rate 0.98 @volume [projA]", "",
        ),
        TiersDeleted(net.service_id): ("-", "tiers", "net", "0.09 up to 1000, 0.07 beyond by zone", ""),
        ScriptDeleted(rebate): ("-", "script", "rebate", f"1 line, checksum {PASS}", ""),
        Moved(image.field_id, flavor.field_id): (
            "~", "field", "cpu / image", "in another place", "before cpu / flavor",
        ),
        CollectorMapped("cpu", "gnocchi"): ("~", "collector of", "cpu", "", "gnocchi"),
        CollectorSwitched("gnocchi", True): ("~", "collector", "gnocchi", "off", "on"),
        Moved(rebate): ("~", "script", "rebate", "in another place", "last"),
        Moved(other, rebate): ("~", "script", "other", "in another place", "before rebate"),
    }  # fmt: skip
    for change, expected in changes.items():
        (words,) = words_of(event(1, change), book)
        assert words == expected


def test_what_nobody_knows_is_named_by_its_id() -> None:
    gone = uid(77)
    rule = MappingRule(gone, Decimal(1), value="v", field_id=uid(78), group_id=uid(79))
    words = words_of(
        event(0, MappingUpdated(rule), MappingDeleted(gone), ServiceDeleted(gone), Moved(gone, uid(78))),
        RuleBook.empty(),
    )
    assert words == [
        ("~", "mapping", f"{uid(78)} = v", "", f"flat 1 @{uid(79)}"),
        ("-", "mapping", gone, "", ""),
        ("-", "service", gone, "with all its rules", ""),
        ("~", "field", gone, "in another place", f"before {uid(78)}"),
    ]


def test_a_rule_that_changes_its_place_says_both() -> None:
    book = book_of(FIRST)
    (entry,) = [entry for entry in book.mappings.values() if entry.rule.value]
    (words,) = words_of(event(1, MappingUpdated(msgspec.structs.replace(entry.rule, value="small"))), book)
    assert words.place == "cpu / flavor = tiny"
    assert words.after.startswith("cpu / flavor = small flat 0.01 ")
