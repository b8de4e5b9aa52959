"""The rule document: what is read, and every fault with its line, path and words."""

from __future__ import annotations

from decimal import Decimal

import pytest

from rater.model.document import DocumentError
from rater.model.rules import RuleType
from rater.rating import (
    DocumentField,
    DocumentMapping,
    DocumentService,
    DocumentThreshold,
    HashmapSection,
    ModuleState,
    RuleDocument,
    parse,
)

COMPLETE = """\
modules:
  hashmap: {enabled: true, priority: 3}
hashmap:
  groups: [instance_uptime, storage]
  services:
    - name: instance
      mappings:
        - {cost: "0.1", type: flat}
      thresholds:
        - {level: "50", cost: "0.98", type: rate, group: volume}
      tiers: {}
      fields:
        - name: flavor_id
          mappings:
            - {value: m1.tiny, cost: 0.0100, type: flat, group: instance_uptime,
               tenant_id: null, start: 2026-01-01T00:00:00Z, end: null, name: tiny-2026, description: null}
            - {value: 8, cost: 1e3, type: null, description: ''}
          thresholds:
            - {level: 64, cost: "0.7", type: flat, group: null, tenant_id: projA}
    - name: storage
"""


def faults_of(text: str) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        parse(text, "r.yaml")
    return str(caught.value).splitlines()


def service(rules: str) -> str:
    """A document with one service `s`; `rules` are further keys of it, one a line."""
    lines = "".join(f"    {line}\n" for line in rules.splitlines())
    return f"hashmap:\n  services:\n  - name: s\n{lines}"


def field(rules: str) -> str:
    """A document with one field `f` in a service; its mappings begin on line 7."""
    lines = "".join(f"  {line}\n" for line in rules.splitlines())
    return service(f"fields:\n- name: f\n{lines}")


def test_a_document_is_read_with_its_defaults() -> None:
    assert parse(COMPLETE, "r.yaml") == RuleDocument(
        {"hashmap": ModuleState(True, 3), "pyscripts": ModuleState(False, 1)},
        HashmapSection(
            ("instance_uptime", "storage", "volume"),
            (
                DocumentService(
                    "instance",
                    (DocumentMapping(Decimal("0.1")),),
                    (DocumentThreshold(Decimal(50), Decimal("0.98"), RuleType.RATE, "volume"),),
                    (
                        DocumentField(
                            "flavor_id",
                            (
                                DocumentMapping(
                                    Decimal("0.01"),
                                    "m1.tiny",
                                    group="instance_uptime",
                                    start=1_767_225_600,
                                    name="tiny-2026",
                                ),
                                DocumentMapping(Decimal(1000), "8", description=""),
                            ),
                            (DocumentThreshold(Decimal(64), Decimal("0.7"), tenant_id="projA"),),
                        ),
                    ),
                ),
                DocumentService("storage"),
            ),
        ),
    )


def test_json_is_read_too_and_its_numbers_exactly() -> None:
    text = '{"hashmap": {"services": [{"name": "s", "mappings": [{"cost": 0.1234567890123456789012345678}]}]}}'

    (first,) = parse(text, "r.json").hashmap.services

    assert first.mappings == (DocumentMapping(Decimal("0.1234567890123456789012345678")),)


@pytest.mark.parametrize(
    ("text", "hashmap", "pyscripts"),
    [
        ("{}", ModuleState(False, 1), ModuleState(False, 1)),
        ("hashmap:", ModuleState(True, 1), ModuleState(False, 1)),
        ("pyscripts: {scripts: []}\nhashmap: {}", ModuleState(True, 1), ModuleState(True, 1)),
        ("hashmap: {}\nmodules:", ModuleState(True, 1), ModuleState(False, 1)),
        ("hashmap: {}\nmodules: {hashmap: }", ModuleState(True, 1), ModuleState(False, 1)),
        ("hashmap: {}\nmodules: {hashmap: {priority: 4}}", ModuleState(True, 4), ModuleState(False, 1)),
        ("hashmap: {}\nmodules: {hashmap: {enabled: false}}", ModuleState(False, 1), ModuleState(False, 1)),
        ("modules: {pyscripts: {enabled: true, priority: 2}}", ModuleState(False, 1), ModuleState(True, 2)),
    ],
)
def test_a_module_not_named_is_enabled_by_its_section(text: str, hashmap: ModuleState, pyscripts: ModuleState) -> None:
    assert parse(text, "r.yaml").modules == {"hashmap": hashmap, "pyscripts": pyscripts}


MAPPINGS = "hashmap.services[0].mappings"
FIELD_MAPPINGS = "hashmap.services[0].fields[0].mappings"


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", ["r.yaml:1: expected a mapping, got null"]),
        ("- a", ["r.yaml:1: expected a mapping, got a list"]),
        ("rules: {}", ["r.yaml:1: rules: unknown key 'rules': use modules, hashmap, pyscripts"]),
        ("modules: {noop: {}}", ["r.yaml:1: modules.noop: unknown key 'noop': use hashmap, pyscripts"]),
        (
            "modules: {hashmap: {enabled: 1, priority: 0, on: x}}",
            [
                "r.yaml:1: modules.hashmap.on: unknown key 'on': use enabled, priority",
                "r.yaml:1: modules.hashmap.enabled: expected true or false, got a number '1'",
                "r.yaml:1: modules.hashmap.priority: is 0: must be from 1 to 1000000",
            ],
        ),
        (
            "pyscripts:\n  scripts:\n  - {name: a, data: x}\n  - {name: b, data: y}",
            [
                f"r.yaml:{line}: pyscripts.scripts[{line - 3}]: pyscripts are not supported yet by this version "
                "of rater: take it out of the document"
                for line in (3, 4)
            ],
        ),
        ("pyscripts: {files: []}", ["r.yaml:1: pyscripts.files: unknown key 'files': use scripts"]),
        (
            service("tiers: {by: [region]}"),
            [
                "r.yaml:4: hashmap.services[0].tiers: tiers are not supported yet by this version of rater: "
                "take it out of the document"
            ],
        ),
        (
            service("tiers: [1]"),
            [
                "r.yaml:4: hashmap.services[0].tiers: tiers are not supported yet by this version of rater: "
                "take it out of the document"
            ],
        ),
        ("hashmap: {services: x}", ["r.yaml:1: hashmap.services: expected a list, got text 'x'"]),
        ("hashmap: {services: [x]}", ["r.yaml:1: hashmap.services[0]: expected a mapping, got text 'x'"]),
        ("hashmap: {services: [{}]}", ["r.yaml:1: hashmap.services[0]: 'name' is missing"]),
        (
            "hashmap: {services: [{name: }, {name: ''}]}",
            [
                "r.yaml:1: hashmap.services[0].name: expected text, got null",
                "r.yaml:1: hashmap.services[1].name: is empty: give at least one character",
            ],
        ),
        (
            f"hashmap: {{services: [{{name: {'x' * 256}}}]}}",
            ["r.yaml:1: hashmap.services[0].name: has 256 characters: at most 255 are taken"],
        ),
        (
            "hashmap:\n  services:\n  - name: a\n  - name: a",
            ["r.yaml:4: hashmap.services[1].name: a second service named 'a': first on line 3, put them together"],
        ),
        (
            service("fields: [{name: f},\n  {name: f}]"),
            [
                "r.yaml:5: hashmap.services[0].fields[1].name: a second field named 'f': first on line 4, "
                "put them together"
            ],
        ),
        (
            "hashmap: {groups: [a, a, 1, true]}",
            [
                "r.yaml:1: hashmap.groups[1]: group 'a' is listed twice",
                "r.yaml:1: hashmap.groups[3]: expected text, in quotes: 'true', got true or false 'true'",
            ],
        ),
        (service("mappings: [{}]"), [f"r.yaml:4: {MAPPINGS}[0]: 'cost' is missing"]),
        (
            service("mappings: [{cost: 1, service_id: x}]"),
            [
                f"r.yaml:4: {MAPPINGS}[0].service_id: unknown key 'service_id': "
                "use value, cost, type, group, tenant_id, start, end, name, description"
            ],
        ),
        (
            service("mappings: [{cost: 1, value: x}]"),
            [
                f"r.yaml:4: {MAPPINGS}[0].value: a mapping of a service has no value: "
                "put it under a field, or drop the value"
            ],
        ),
        (service("mappings: [{cost: }]"), [f"r.yaml:4: {MAPPINGS}[0].cost: expected a decimal number, got null"]),
        (
            service("mappings: [{cost: ten}]"),
            [f"r.yaml:4: {MAPPINGS}[0].cost: expected a decimal number, got text 'ten'"],
        ),
        (
            service("mappings: [{cost: '1234567890123'}]"),
            [f"r.yaml:4: {MAPPINGS}[0].cost: has 13 digits before the point: at most 12 are taken"],
        ),
        (
            service("mappings: [{cost: 1e12}]"),
            [f"r.yaml:4: {MAPPINGS}[0].cost: has 13 digits before the point: at most 12 are taken"],
        ),
        (
            service("mappings: [{cost: 1e-29}]"),
            [f"r.yaml:4: {MAPPINGS}[0].cost: has 29 digits after the point: at most 28 are taken"],
        ),
        (
            service("mappings: [{cost: 1, type: threshold}]"),
            [f"r.yaml:4: {MAPPINGS}[0].type: expected one of flat, rate, got text 'threshold'"],
        ),
        (
            service("mappings: [{cost: 1, group: '', tenant_id: false}]"),
            [
                f"r.yaml:4: {MAPPINGS}[0].group: is empty: give at least one character",
                f"r.yaml:4: {MAPPINGS}[0].tenant_id: expected text, in quotes: 'false', got true or false 'false'",
            ],
        ),
        (
            service("mappings: [{cost: 1, start: 2026-01-01, end: soon}]"),
            [
                f"r.yaml:4: {MAPPINGS}[0].start: '2026-01-01' has no offset from UTC: "
                "write it as 2026-01-01T00:00:00Z if it is UTC",
                f"r.yaml:4: {MAPPINGS}[0].end: expected a time such as 2026-01-01T00:00:00Z, got text 'soon'",
            ],
        ),
        (
            service("mappings: [{cost: 1, start: 2026-01-02T00:00:00Z,\n  end: 2026-01-01T00:00:00Z}]"),
            [f"r.yaml:5: {MAPPINGS}[0].end: end is before start"],
        ),
        (
            service(f"mappings: [{{cost: 1, name: {'n' * 33}, description: {'d' * 257}}}]"),
            [
                f"r.yaml:4: {MAPPINGS}[0].name: has 33 characters: at most 32 are taken",
                f"r.yaml:4: {MAPPINGS}[0].description: has 257 characters: at most 256 are taken",
            ],
        ),
        (field("mappings: [{cost: 1}]"), [f"r.yaml:6: {FIELD_MAPPINGS}[0]: 'value' is missing"]),
        (
            field("mappings: [{cost: 1, value: }]"),
            [f"r.yaml:6: {FIELD_MAPPINGS}[0].value: expected text, got null"],
        ),
        (
            field("mappings: [{cost: 1, value: true}]"),
            [f"r.yaml:6: {FIELD_MAPPINGS}[0].value: expected text, in quotes: 'true', got true or false 'true'"],
        ),
        (
            field("mappings: [{cost: 1, value: ''}]"),
            [f"r.yaml:6: {FIELD_MAPPINGS}[0].value: is empty: give at least one character"],
        ),
        (
            service("thresholds: [{cost: 1}, {level: 1}]"),
            [
                "r.yaml:4: hashmap.services[0].thresholds[0]: 'level' is missing",
                "r.yaml:4: hashmap.services[0].thresholds[1]: 'cost' is missing",
            ],
        ),
        (
            service("thresholds: [{cost: 1, level: 0.000000001}]"),
            ["r.yaml:4: hashmap.services[0].thresholds[0].level: has 9 digits after the point: at most 8 are taken"],
        ),
        (
            service("thresholds: [{cost: 1, level: 1, start: 2026-01-01T00:00:00Z}]"),
            [
                "r.yaml:4: hashmap.services[0].thresholds[0].start: unknown key 'start': "
                "use level, cost, type, group, tenant_id"
            ],
        ),
        (
            field("tiers: {}"),
            [
                "r.yaml:6: hashmap.services[0].fields[0].tiers: unknown key 'tiers': use name, mappings, thresholds",
            ],
        ),
    ],
)
def test_each_fault_is_named(text: str, faults: list[str]) -> None:
    assert faults_of(text) == faults


def test_all_faults_come_at_once_in_order_of_lines() -> None:
    text = field(
        "mappings:\n- {value: a, cost: x}\n- {value: b, cost: 1}\n- {value: b, cost: 2}\nthresholds: [{level: y}]"
    )

    assert faults_of(text) == [
        f"r.yaml:7: {FIELD_MAPPINGS}[0].cost: expected a decimal number, got text 'x'",
        f"r.yaml:9: {FIELD_MAPPINGS}[2]: is a duplicate: same value or level, tenant and group, "
        f"valid at the same time; see {FIELD_MAPPINGS}[1] on line 8",
        "r.yaml:10: hashmap.services[0].fields[0].thresholds[0]: 'cost' is missing",
        "r.yaml:10: hashmap.services[0].fields[0].thresholds[0].level: expected a decimal number, got text 'y'",
    ]


JAN, FEB, MAR = (f"2026-0{month}-01T00:00:00Z" for month in (1, 2, 3))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("", ""),
        ("", "group: _DEFAULT_"),
        ("type: rate", "type: flat"),
        ("tenant_id: A", "tenant_id: A"),
        (f"end: {MAR}", f"start: {FEB}"),
        (f"start: {FEB}", f"start: {JAN}"),
        (f"start: {JAN}, end: {MAR}", f"start: {FEB}, end: {MAR}"),
    ],
)
def test_rules_for_the_same_thing_at_the_same_time_are_duplicates(first: str, second: str) -> None:
    text = field(f"mappings:\n- {{value: v, cost: 1, {first}}}\n- {{value: v, cost: 2, {second}}}")

    (fault,) = faults_of(text)

    assert fault.startswith(f"r.yaml:8: {FIELD_MAPPINGS}[1]: is a duplicate")
    assert fault.endswith(f"see {FIELD_MAPPINGS}[0] on line 7")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("group: a", "group: b"),
        ("tenant_id: A", "tenant_id: B"),
        ("tenant_id: A", ""),
        (f"end: {FEB}", f"start: {FEB}"),
        (f"start: {FEB}, end: {FEB}", ""),
    ],
)
def test_rules_for_other_things_or_times_are_not(first: str, second: str) -> None:
    parse(field(f"mappings:\n- {{value: v, cost: 1, {first}}}\n- {{value: v, cost: 2, {second}}}"), "r.yaml")


def test_each_overlap_is_named_once_however_long_a_rule_reaches() -> None:
    text = field(
        "mappings:\n"
        f"- {{value: v, cost: 1, start: {JAN}}}\n"
        f"- {{value: v, cost: 2, start: {FEB}, end: {MAR}}}\n"
        f"- {{value: v, cost: 3, start: {MAR}, end: {MAR}}}\n"
        f"- {{value: v, cost: 3, start: {MAR}}}"
    )

    assert [fault.split(": ")[0] for fault in faults_of(text)] == ["r.yaml:8", "r.yaml:10"]


def test_equal_levels_are_duplicates_however_they_are_written() -> None:
    text = service("thresholds:\n- {level: 1, cost: 1}\n- {level: '1.0', cost: 1}\n- {level: 1, cost: 1, group: g}")

    (fault,) = faults_of(text)

    assert fault.startswith("r.yaml:6: hashmap.services[0].thresholds[1]: is a duplicate")


def test_a_name_is_given_to_one_mapping_only() -> None:
    text = service("mappings: [{cost: 1, name: n}]\nfields:\n- name: f\n  mappings:\n  - {value: v, cost: 1, name: n}")

    assert faults_of(text) == [
        f"r.yaml:8: {FIELD_MAPPINGS}[0]: has the name 'n' of another mapping; see {MAPPINGS}[0] on line 4"
    ]
