"""The rule document: what is read, and every fault with its line, path and words."""

from __future__ import annotations

from decimal import Decimal

import pytest

from rater.model.rules import RuleType
from rater.rating import (
    DocumentField,
    DocumentMapping,
    DocumentScript,
    DocumentService,
    DocumentStep,
    DocumentThreshold,
    DocumentTiers,
    HashmapSection,
    ModuleState,
    PyscriptsSection,
    RuleDocument,
    ScriptFileError,
    parse,
)
from tests.unit.rating.documents import COMPLETE, faults_of, field, read_two_files, service


def test_a_document_is_read_with_its_defaults() -> None:
    assert parse(COMPLETE, "r.yaml", read_file=read_two_files) == RuleDocument(
        {"hashmap": ModuleState(True, 3), "pyscripts": ModuleState(True, 1)},
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
                DocumentService(
                    "traffic",
                    tiers=DocumentTiers(
                        (
                            DocumentStep(Decimal("0.09"), Decimal(1000)),
                            DocumentStep(Decimal("0.08"), Decimal(10_000)),
                            DocumentStep(Decimal("0.07")),
                        ),
                        ("region", "1"),
                    ),
                ),
            ),
        ),
        PyscriptsSection(
            (
                DocumentScript("rebate", "for points in data['usage'].values():\n    pass\n"),
                DocumentScript("other", "pass  # scripts/rebate2.py\r\n", 1_767_225_600, 1_767_225_600, "two"),
            )
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


FIELD_MAPPINGS = "hashmap.services[0].fields[0].mappings"


@pytest.mark.parametrize("known", [("acme", "noop"), ("hashmap", "acme", "noop", "pyscripts")])
def test_modules_without_a_section_say_whether_they_are_enabled(known: tuple[str, ...]) -> None:
    text = "modules: {acme: {enabled: true, priority: 7}, noop: {enabled: false}}"

    modules = parse(text, "r.yaml", modules=known).modules

    assert modules == {
        "hashmap": ModuleState(),
        "pyscripts": ModuleState(),
        "acme": ModuleState(True, 7),
        "noop": ModuleState(),
    }


def test_a_module_that_is_not_installed_may_be_switched_off() -> None:
    modules = parse("modules: {acme: {enabled: false, priority: 7}}", "r.yaml").modules

    assert modules["acme"] == ModuleState(False, 7)


def test_scripts_keep_their_order_and_their_text() -> None:
    text = """\
pyscripts:
  scripts:
  - {name: b, data: "x = 1\\n\\ty"}
  - {name: a, data: ''}
  - {name: c, data: 1}
"""

    scripts = parse(text, "r.yaml", check=lambda name, data: []).pyscripts.scripts

    assert [(script.name, script.data) for script in scripts] == [("b", "x = 1\n\ty"), ("a", ""), ("c", "1")]


def test_what_is_at_its_limit_is_taken() -> None:
    steps = ", ".join(f"{{cost: 1, up_to: {bound}}}" for bound in range(1, 1000))
    labels = [str(number) for number in range(100)]
    path = f"{'d' * 500}/{'f' * 496}.py"
    asked: list[tuple[str, int]] = []

    document = parse(
        service(f"tiers: {{by: {labels}, steps: [{steps}, {{cost: 1}}]}}")
        + f"pyscripts: {{scripts: [{{name: a, file: {path}, description: ''}}]}}",
        "r.yaml",
        read_file=lambda name: "#" * 1_000_000 if name == path else "",
        check=lambda name, data: asked.append((name, len(data))) or [],
    )

    (tiered,) = document.hashmap.services
    assert tiered.tiers is not None
    assert (len(tiered.tiers.steps), len(tiered.tiers.by)) == (1000, 100)
    assert [(script.name, script.description) for script in document.pyscripts.scripts] == [("a", "")]
    assert asked == [("a", 1_000_000)]


def test_a_rule_with_a_fault_is_not_called_a_duplicate_too() -> None:
    text = field("mappings:\n- {value: b, cost: x}\n- {value: b, cost: 1}")

    assert faults_of(text) == [f"r.yaml:7: {FIELD_MAPPINGS}[0].cost: expected a decimal number, got text 'x'"]


def test_a_file_that_cannot_be_read_is_a_fault_of_the_document() -> None:
    def read_file(name: str) -> str:
        raise ScriptFileError(f"{name} cannot be read: no such file")

    text = "pyscripts:\n  scripts:\n  - name: a\n    file: a.py\n  - {name: b, data: def}"

    assert faults_of(text, read_file=read_file) == [
        "r.yaml:4: pyscripts.scripts[0].file: a.py cannot be read: no such file",
        "r.yaml:5: pyscripts.scripts[1].data: line 1 of the script: invalid syntax",
    ]


def test_a_fault_of_a_whole_script_stands_where_the_script_begins() -> None:
    text = "pyscripts:\n  scripts:\n  - name: a\n    data: |\n      pass\n      pass"

    faults = faults_of(text, check=lambda name, data: [(0, f"{name} is too deep"), (2, "and this")])

    assert faults == [
        "r.yaml:4: pyscripts.scripts[0].data: the script: a is too deep",
        "r.yaml:6: pyscripts.scripts[0].data: line 2 of the script: and this",
    ]


def test_files_are_not_read_unless_the_caller_can() -> None:
    assert faults_of("pyscripts: {scripts: [{name: a, file: /etc/passwd}]}") == [
        "r.yaml:1: pyscripts.scripts[0].file: files are not read here: give the script itself as 'data'"
    ]


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
        ("name: a", "name: b, group: g"),
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
        f"r.yaml:8: {FIELD_MAPPINGS}[0]: has the name 'n' of another mapping; "
        "see hashmap.services[0].mappings[0] on line 4"
    ]
