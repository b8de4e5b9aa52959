"""From a book to a document and back: what the plan says, what the event does, and that nothing is lost."""

from __future__ import annotations

from uuid import UUID, uuid5

import msgspec
import pytest

from rater.model.codec import encode_json
from rater.model.document import DocumentError
from rater.model.rules import (
    GroupCreated,
    GroupDeleted,
    MappingCreated,
    Moved,
    RuleEvent,
    ScriptCreated,
    ScriptDeleted,
    ScriptUpdated,
    ServiceDeleted,
)
from rater.rating import (
    Applied,
    ChangeTooLargeError,
    Diff,
    DiffEntry,
    ExportError,
    RuleBook,
    document_of,
    export,
    fold,
    parse,
    plan,
)
from tests.unit.rating.builders import applied, book_of, uid
from tests.unit.rating.documents import COMPLETE, read_two_files

TEXT = """\
modules:
  hashmap: {enabled: true, priority: 1}
  pyscripts: {enabled: false, priority: 1}
hashmap:
  groups: [g, h]
  services:
  - name: instance
    mappings:
    - {cost: '0.1', type: flat}
    thresholds:
    - {level: '50', cost: '0.98', type: rate, group: g}
    fields:
    - name: flavor
      mappings:
      - {value: m1, cost: '1', type: flat, group: g, start: '2026-01-01T00:00:00Z', name: n}
      - {value: m2, cost: '2', type: flat, tenant_id: A, end: '2027-01-01T00:00:00Z', description: two}
    - name: ram
      thresholds:
      - {level: '64', cost: '0.7', type: flat}
  - {name: volume}
"""


def applied_text(text: str, book: RuleBook | None = None) -> RuleBook:
    book = book or RuleBook.empty()
    diff = plan(book, parse(text, "r.yaml"))
    after, outcome = book.apply(diff.event("me", "why", 7))
    assert outcome == Applied(book.version + 1)
    return after


def changed(old: str, new: str) -> Diff:
    """The plan from TEXT to TEXT with one part replaced, after proof that applying it leads there."""
    book = applied_text(TEXT)
    text = TEXT.replace(old, new)
    assert text != TEXT
    diff = plan(book, parse(text, "r.yaml"))
    after, outcome = book.apply(diff.event("me", "why", 8))
    assert outcome == Applied(2)
    assert document_of(after) == parse(text, "r.yaml")
    assert not plan(after, parse(text, "r.yaml"))
    return diff


def test_a_new_document_is_one_event_that_says_all() -> None:
    diff = plan(RuleBook.empty(), parse(TEXT, "r.yaml"))

    assert diff.expected_version == 0
    assert diff.counts == {"+": 11, "-": 0, "~": 1}
    assert diff.entries == (
        DiffEntry("~", "module", "hashmap", "disabled, priority 1", "enabled, priority 1"),
        DiffEntry("+", "group", "g", "", ""),
        DiffEntry("+", "group", "h", "", ""),
        DiffEntry("+", "service", "instance", "", ""),
        DiffEntry("+", "mapping", "instance", "", "flat 0.1"),
        DiffEntry("+", "threshold", "instance >= 50", "", "rate 0.98 @g"),
        DiffEntry("+", "field", "instance / flavor", "", ""),
        DiffEntry(
            "+",
            "mapping",
            "instance / flavor = m1",
            "",
            "flat 1 @g from 2026-01-01T00:00:00Z named 'n'",
        ),
        DiffEntry("+", "mapping", "instance / flavor = m2", "", "flat 2 [A] until 2027-01-01T00:00:00Z (two)"),
        DiffEntry("+", "field", "instance / ram", "", ""),
        DiffEntry("+", "threshold", "instance / ram >= 64", "", "flat 0.7"),
        DiffEntry("+", "service", "volume", "", ""),
    )
    event = diff.event("me", "why", 7)
    assert event == RuleEvent(0, "me", "why", 7, diff.changes)
    assert msgspec.json.decode(msgspec.json.encode(event), type=RuleEvent) == event
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(event), type=RuleEvent) == event


def test_export_gives_the_document_back_and_apply_after_export_is_empty() -> None:
    book = applied_text(TEXT)

    assert export(book) == TEXT
    assert not plan(book, parse(export(book), "r.yaml"))


def test_export_of_an_empty_book_is_an_empty_plan() -> None:
    assert not plan(RuleBook.empty(), parse(export(RuleBook.empty()), "r.yaml"))


def test_the_same_plan_twice_has_the_same_ids() -> None:
    assert plan(RuleBook.empty(), parse(TEXT, "a")) == plan(RuleBook.empty(), parse(TEXT, "b"))


def test_a_changed_cost_or_end_updates_the_rule_in_place() -> None:
    diff = changed("cost: '1', type: flat, group: g", "cost: '1.50', type: rate, group: g")

    assert diff.entries == (
        DiffEntry(
            "~",
            "mapping",
            "instance / flavor = m1",
            "flat 1 @g from 2026-01-01T00:00:00Z named 'n'",
            "rate 1.5 @g from 2026-01-01T00:00:00Z named 'n'",
        ),
    )
    assert len(diff.changes) == 1


def test_a_changed_threshold_is_updated_in_place() -> None:
    diff = changed("'0.98'", "'0.97'")

    assert diff.entries == (DiffEntry("~", "threshold", "instance >= 50", "rate 0.98 @g", "rate 0.97 @g"),)


def test_the_default_group_by_its_name_is_the_same_rule() -> None:
    book = applied_text("hashmap: {services: [{name: s, mappings: [{cost: 1}]}]}")
    text = "hashmap: {services: [{name: s, mappings: [{cost: 1, group: _DEFAULT_}]}]}"

    diff = plan(book, parse(text, "r.yaml"))

    assert diff.entries == (
        DiffEntry("+", "group", "_DEFAULT_", "", ""),
        DiffEntry("~", "mapping", "s", "flat 1", "flat 1 @_DEFAULT_"),
    )


def test_another_value_is_another_rule() -> None:
    diff = changed("value: m2", "value: m3")

    assert diff.entries == (
        DiffEntry("-", "mapping", "instance / flavor = m2", "flat 2 [A] until 2027-01-01T00:00:00Z (two)", ""),
        DiffEntry("+", "mapping", "instance / flavor = m3", "", "flat 2 [A] until 2027-01-01T00:00:00Z (two)"),
    )


def test_what_goes_with_a_service_or_field_is_listed_and_is_one_change() -> None:
    without_fields = TEXT[: TEXT.index("    fields:")] + "  - {name: volume}\n"
    diff = changed(TEXT, without_fields)
    assert [(entry.sign, entry.what, entry.place) for entry in diff.entries] == [
        ("-", "field", "instance / flavor"),
        ("-", "mapping", "instance / flavor = m1"),
        ("-", "mapping", "instance / flavor = m2"),
        ("-", "field", "instance / ram"),
        ("-", "threshold", "instance / ram >= 64"),
    ]
    assert len(diff.changes) == 2

    nothing_left = plan(applied_text(TEXT), parse("hashmap: {groups: [g]}", "r.yaml"))
    assert nothing_left.counts == {"+": 0, "-": 10, "~": 0}
    assert len(nothing_left.changes) == 3
    assert isinstance(nothing_left.changes[-1], GroupDeleted)


SCRIPTED = """\
modules:
  hashmap: {enabled: true, priority: 1}
  pyscripts: {enabled: true, priority: 2}
  acme: {enabled: true, priority: 9}
hashmap:
  groups: []
  services:
  - name: traffic
    tiers:
      by: [region]
      steps:
      - {up_to: '1000', cost: '0.09'}
      - {up_to: null, cost: '0.07'}
  - name: volume
    tiers:
      steps:
      - {up_to: null, cost: '1'}
pyscripts:
  scripts:
  - name: rebate
    start: '2026-01-01T00:00:00Z'
    description: ten percent
    data: |
      for points in data['usage'].values():
          pass
  - {name: one, data: pass}
  - name: tabs
    data: "if 1:\\n\\tpass \\n"
  - name: no end
    data: |-
      x = 1

      y = 'größe'
"""
MODULES = ("acme", "hashmap", "noop", "pyscripts")


def test_scripts_and_tiers_are_exported_as_they_were_read() -> None:
    document = parse(SCRIPTED, "r.yaml", modules=MODULES)
    diff = plan(RuleBook.empty(), document)
    book = applied(RuleBook.empty(), *diff.changes)

    assert document_of(book) == document
    assert export(book) == SCRIPTED
    assert not plan(book, document)
    assert diff.entries == (
        DiffEntry("~", "module", "hashmap", "disabled, priority 1", "enabled, priority 1"),
        DiffEntry("~", "module", "pyscripts", "disabled, priority 1", "enabled, priority 2"),
        DiffEntry("~", "module", "acme", "disabled, priority 1", "enabled, priority 9"),
        DiffEntry("+", "service", "traffic", "", ""),
        DiffEntry("+", "tiers", "traffic", "", "0.09 up to 1000, 0.07 beyond by region"),
        DiffEntry("+", "service", "volume", "", ""),
        DiffEntry("+", "tiers", "volume", "", "1 beyond"),
        DiffEntry(
            "+",
            "script",
            "rebate",
            "",
            "2 lines, checksum 6d74127e8462 from 2026-01-01T00:00:00Z (ten percent)",
        ),
        DiffEntry("+", "script", "one", "", "1 line, checksum 5b722b307fce"),
        DiffEntry("+", "script", "tabs", "", "2 lines, checksum 5ef3f5fb792d"),
        DiffEntry("+", "script", "no end", "", "3 lines, checksum c61557c6611f"),
    )


def test_every_key_of_a_document_survives_plan_and_export() -> None:
    document = parse(COMPLETE, "r.yaml", read_file=read_two_files)
    diff = plan(RuleBook.empty(), document)
    book = applied(RuleBook.empty(), *diff.changes)

    assert document_of(book) == parse(export(book), "r.yaml") == document
    after = {(entry.what, entry.place): entry.after for entry in diff.entries}
    assert after["tiers", "traffic"] == "0.09 up to 1000, 0.08 up to 10000, 0.07 beyond by region, 1"
    assert after["script", "other"].endswith("from 2026-01-01T00:00:00Z until 2026-01-01T00:00:00Z (two)")
    assert after["threshold", "instance / flavor_id >= 64"] == "flat 0.7 [projA]"


def rescripted(old: str, new: str) -> Diff:
    """The plan from SCRIPTED to SCRIPTED with one part replaced, after proof that applying it leads there."""
    book = applied(RuleBook.empty(), *plan(RuleBook.empty(), parse(SCRIPTED, "r.yaml", modules=MODULES)).changes)
    assert old in SCRIPTED
    document = parse(SCRIPTED.replace(old, new), "r.yaml", modules=MODULES)
    diff = plan(book, document)
    after = applied(book, *diff.changes)
    assert document_of(after) == document
    assert not plan(after, document)
    return diff


def test_a_changed_script_is_updated_in_place_and_keeps_its_id() -> None:
    diff = rescripted("          pass\n", "          pass  # nothing\n")

    assert [(entry.sign, entry.what, entry.place) for entry in diff.entries] == [("~", "script", "rebate")]
    assert [type(change) for change in diff.changes] == [ScriptUpdated]


def test_a_renamed_script_is_another_one_in_the_same_place() -> None:
    diff = rescripted("{name: one, data: pass}", "{name: uno, data: pass}")

    assert [(entry.sign, entry.place) for entry in diff.entries] == [("-", "one"), ("+", "uno")]
    assert [type(change) for change in diff.changes] == [ScriptDeleted, ScriptCreated, Moved]


def test_scripts_run_in_the_order_of_the_document() -> None:
    one = "  - {name: one, data: pass}\n"

    diff = rescripted(SCRIPTED, SCRIPTED.replace(one, "").replace("  scripts:\n", f"  scripts:\n{one}"))

    assert [(entry.place, entry.after) for entry in diff.entries] == [("one", "before rebate")]


@pytest.mark.parametrize(
    ("old", "new", "entry"),
    [
        (
            "'1000'",
            "'2000'",
            DiffEntry(
                "~",
                "tiers",
                "traffic",
                "0.09 up to 1000, 0.07 beyond by region",
                "0.09 up to 2000, 0.07 beyond by region",
            ),
        ),
        (
            "    tiers:\n      steps:\n      - {up_to: null, cost: '1'}\n",
            "",
            DiffEntry("-", "tiers", "volume", "1 beyond", ""),
        ),
    ],
)
def test_tiers_are_changed_and_taken_away(old: str, new: str, entry: DiffEntry) -> None:
    assert rescripted(old, new).entries == (entry,)


def test_tiers_take_the_place_of_other_rules_and_the_other_way_round() -> None:
    plain = "  - {name: volume, mappings: [{cost: 1}], thresholds: [{level: 1, cost: 1}], fields: [{name: f}]}\n"
    tiered = SCRIPTED[SCRIPTED.index("  - name: volume") : SCRIPTED.index("pyscripts:\n  scripts")]

    away = rescripted(tiered, plain)
    book = applied(
        RuleBook.empty(), *plan(RuleBook.empty(), parse(SCRIPTED.replace(tiered, plain), "r", modules=MODULES)).changes
    )
    back = plan(book, parse(SCRIPTED, "r.yaml", modules=MODULES))

    signs = [("tiers", "-"), ("mapping", "+"), ("threshold", "+"), ("field", "+")]
    assert [(entry.what, entry.sign) for entry in away.entries] == signs
    assert [(entry.what, entry.sign) for entry in back.entries] == [
        *((what, "-") for what, _ in signs[1:]),
        ("tiers", "+"),
    ]
    assert document_of(applied(book, *back.changes)) == parse(SCRIPTED, "r.yaml", modules=MODULES)


def test_a_service_takes_its_tiers_along_and_a_module_not_named_is_off() -> None:
    volume = SCRIPTED[SCRIPTED.index("  - name: volume") : SCRIPTED.index("pyscripts:\n  scripts")]

    assert [(e.sign, e.what, e.before) for e in rescripted(volume, "").entries] == [
        ("-", "service", ""),
        ("-", "tiers", "1 beyond"),
    ]
    assert rescripted("  acme: {enabled: true, priority: 9}\n", "").entries == (
        DiffEntry("~", "module", "acme", "enabled, priority 9", "disabled, priority 1"),
    )


def test_a_large_plan_is_split_into_consecutive_events() -> None:
    diff = plan(RuleBook.empty(), parse(SCRIPTED, "r.yaml", modules=MODULES))

    events = diff.events("größe", "why", 7, 700)
    book, outcomes = fold(RuleBook.empty(), events)

    assert len(events) > 2
    assert [event.expected_version for event in events] == list(range(len(events)))
    assert all(len(encode_json(event)) <= 700 for event in events)
    assert all(isinstance(outcome, Applied) for outcome in outcomes)
    assert tuple(change for event in events for change in event.changes) == diff.changes
    assert document_of(book) == parse(SCRIPTED, "r.yaml", modules=MODULES)
    assert diff.events("a", "b", 7, 4_194_304) == [diff.event("a", "b", 7)]
    assert bool(diff)
    assert not Diff(3, (), ())
    assert Diff(3, (), ()).events("a", "b", 7, 100) == []


def test_events_begin_at_the_version_of_the_plan_and_are_filled_to_the_last_byte() -> None:
    version = 2**53 - 9  # of 16 digits: what an event of the largest version has
    change = ServiceDeleted(uid(1))
    diff = Diff(version, (change,) * 6, ())
    two = len(encode_json(RuleEvent(version, "me", "why", 7, (change, change)))) + 2  # `0`, and a comma at the end

    assert [len(event.changes) for event in diff.events("me", "why", 7, two)] == [2, 2, 2]
    assert [len(event.changes) for event in diff.events("me", "why", 7, two - 1)] == [1] * 6
    assert [event.expected_version for event in diff.events("me", "why", 7, two)] == [version, version + 1, version + 2]
    one = two - len(encode_json(change)) - 1
    assert len(diff.events("me", "why", 7, one)) == 6
    with pytest.raises(ChangeTooLargeError):
        diff.events("me", "why", 7, one - 1)


def test_a_change_that_no_event_can_carry_is_refused() -> None:
    diff = plan(RuleBook.empty(), parse(SCRIPTED, "r.yaml", modules=MODULES))

    with pytest.raises(
        ChangeTooLargeError, match=r"kind module_set has \d+ bytes: an event holds 150, \d+ of them for"
    ):
        diff.events("me", "why", 7, 150)


def test_all_that_goes_is_told_in_full() -> None:
    book = applied(RuleBook.empty(), *plan(RuleBook.empty(), parse(COMPLETE, "r", read_file=read_two_files)).changes)

    diff = plan(book, parse("hashmap: {groups: [volume]}", "r.yaml"))

    assert diff.entries == (
        DiffEntry("~", "module", "hashmap", "enabled, priority 3", "enabled, priority 1"),
        DiffEntry("~", "module", "pyscripts", "enabled, priority 1", "disabled, priority 1"),
        DiffEntry("-", "service", "instance", "", ""),
        DiffEntry("-", "mapping", "instance", "flat 0.1", ""),
        DiffEntry("-", "threshold", "instance >= 50", "rate 0.98 @volume", ""),
        DiffEntry("-", "field", "instance / flavor_id", "", ""),
        DiffEntry(
            "-",
            "mapping",
            "instance / flavor_id = m1.tiny",
            "flat 0.01 @instance_uptime from 2026-01-01T00:00:00Z named 'tiny-2026'",
            "",
        ),
        DiffEntry("-", "mapping", "instance / flavor_id = 8", "flat 1000 ()", ""),
        DiffEntry("-", "threshold", "instance / flavor_id >= 64", "flat 0.7 [projA]", ""),
        DiffEntry("-", "service", "storage", "", ""),
        DiffEntry("-", "service", "traffic", "", ""),
        DiffEntry("-", "tiers", "traffic", "0.09 up to 1000, 0.08 up to 10000, 0.07 beyond by region, 1", ""),
        DiffEntry("-", "group", "instance_uptime", "", ""),
        DiffEntry("-", "group", "storage", "", ""),
        DiffEntry("-", "script", "rebate", diff.entries[-2].before, ""),
        DiffEntry("-", "script", "other", diff.entries[-1].before, ""),
    )
    assert document_of(applied(book, *diff.changes)) == parse("hashmap: {groups: [volume]}", "r.yaml")


@pytest.mark.parametrize("change", ["level: 2", "group: g", "tenant_id: A"])
def test_a_threshold_of_another_level_group_or_tenant_is_another_one(change: str) -> None:
    text = "hashmap: {groups: [g], services: [{name: s, thresholds: [{level: 1, cost: 1%s}]}]}"
    before, after = (
        parse(text % "", "r.yaml"),
        parse((text % f", {change}").replace("level: 1, cost: 1, level: 2", "level: 2, cost: 1"), "r"),
    )
    book = applied(RuleBook.empty(), *plan(RuleBook.empty(), before).changes)

    diff = plan(book, after)

    assert [(entry.sign, entry.what) for entry in diff.entries] == [("-", "threshold"), ("+", "threshold")]
    assert document_of(applied(book, *diff.changes)) == after


def test_ids_follow_from_version_and_place_and_never_change_from_release_to_release() -> None:
    _, *groups = plan(RuleBook.empty(), parse("hashmap: {groups: [a, b]}", "r")).changes

    assert [change.group.group_id for change in groups if isinstance(change, GroupCreated)] == [
        str(uuid5(UUID("6f2d3b43-2c7f-5d8e-9f0e-3a1b6c5d7e90"), name)) for name in ("0/1", "0/2")
    ]


def test_what_is_moved_says_so() -> None:
    text = "hashmap: {services: [{name: s, fields: [{name: a}, {name: b}]}]}"
    book = applied(RuleBook.empty(), *plan(RuleBook.empty(), parse(text, "r")).changes)

    diff = plan(book, parse(text.replace("{name: a}, {name: b}", "{name: b}, {name: a}"), "r"))

    assert diff.entries == (DiffEntry("~", "field", "s / b", "in another place", "before s / a"),)


def test_a_rule_put_between_others_takes_that_place() -> None:
    diff = changed("      - {value: m2", "      - {value: new, cost: '3'}\n      - {value: m2")

    assert [entry.sign for entry in diff.entries] == ["+"]
    assert [type(change) for change in diff.changes] == [MappingCreated, Moved]


@pytest.mark.parametrize(
    ("order", "moves"),
    [
        ("abcd", []),
        ("dabc", [("d", "before a")]),
        ("bcda", [("a", "last")]),
        ("axbcd", []),
        ("abcdxy", []),
        ("xbay", [("b", "before a")]),
        ("dcba", [("b", "before a"), ("c", "before b"), ("d", "before c")]),
        ("xdyazb", [("d", "before a new one")]),
    ],
)
def test_the_order_of_the_document_becomes_that_of_the_book(order: str, moves: list[tuple[str, str]]) -> None:
    def text_of(fields: str) -> str:
        rules = "{value: %s, cost: 1}"
        mappings = ", ".join(rules % letter for letter in fields)
        thresholds = ", ".join(f"{{level: {ord(letter)}, cost: 1}}" for letter in fields)
        names = ", ".join(
            f"{{name: {letter}, mappings: [{mappings}], thresholds: [{thresholds}]}}" for letter in fields
        )
        return f"hashmap: {{services: [{{name: s, fields: [{names}]}}]}}"

    book = applied_text(text_of("abcd"))
    document = parse(text_of(order), "r.yaml")

    diff = plan(book, document)

    moved = [entry for entry in diff.entries if (entry.sign, entry.what) == ("~", "field")]
    assert [(entry.place.removeprefix("s / "), entry.after.replace("s / ", "")) for entry in moved] == moves
    if not diff:
        return
    after, outcome = book.apply(diff.event("me", "order", 8))
    assert outcome == Applied(2)
    assert document_of(after) == document
    assert not plan(after, document)


def test_a_book_that_no_document_can_say_is_not_exported() -> None:
    book = book_of("f=v flat 5 from 1000 until 3000", "f=v flat 2 from 2000", "thr svc>=1 flat 5", "thr svc>=1 flat 2")

    with pytest.raises(ExportError) as caught:
        export(book)

    head, *faults = str(caught.value).splitlines()
    assert head == "the rule book cannot be exported: delete or end one rule of each pair"
    assert [fault.split(" is a duplicate")[0].split(" ")[0] for fault in faults] == ["mapping", "threshold"]


def test_a_document_resolves_what_no_document_can_say() -> None:
    book = book_of("thr svc>=1 flat 5", "thr svc>=1 flat 2")
    text = "hashmap: {services: [{name: compute, thresholds: [{level: 1, cost: 2}]}]}"

    diff = plan(book, parse(text, "r.yaml"))

    assert [entry.sign for entry in diff.entries] == ["-", "~"]
    after = applied(book, *diff.changes)
    assert document_of(after) == parse(text, "r.yaml")


def test_two_documents_are_compared_by_way_of_a_book() -> None:
    old, new = parse(TEXT, "a"), parse(TEXT.replace("'0.7'", "'0.8'"), "b")
    book = applied(RuleBook.empty(), *plan(RuleBook.empty(), old).changes)

    assert [entry.sign for entry in plan(book, new).entries] == ["~"]


def test_an_event_for_another_version_changes_nothing() -> None:
    diff = plan(RuleBook.empty(), parse(TEXT, "r.yaml"))
    book = applied_text(TEXT)

    after, outcome = book.apply(diff.event("me", "late", 9))

    assert after.version == book.version
    assert not isinstance(outcome, Applied)


def test_a_document_with_faults_has_no_plan() -> None:
    with pytest.raises(DocumentError):
        parse("hashmap: {services: [{name: s, mappings: [{cost: x}]}]}", "r.yaml")
