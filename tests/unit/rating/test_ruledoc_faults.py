"""Every fault that a rule document can have, with the line, the path and the words that its author gets."""

from __future__ import annotations

import pytest

from tests.unit.rating.documents import faults_of, field, read_two_files, script, service

MAPPINGS = "hashmap.services[0].mappings"
FIELD_MAPPINGS = "hashmap.services[0].fields[0].mappings"
TIERS = "hashmap.services[0].tiers"
SCRIPT = "pyscripts.scripts[0]"
JAN, FEB = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"


NOT_INSTALLED = (
    "no rating module 'acme' is installed here: install the package that offers it (entry point rater.rating), "
    "or correct the name: hashmap, noop, pyscripts"
)

FAULTS: list[tuple[str, list[str]]] = [
    ("", ["r.yaml:1: expected a mapping, got null"]),
    ("- a", ["r.yaml:1: expected a mapping, got a list"]),
    ("rules: {}", ["r.yaml:1: rules: unknown key 'rules': use modules, hashmap, pyscripts"]),
    ("modules: {acme: {}}", [f"r.yaml:1: modules.acme: {NOT_INSTALLED}"]),
    ("modules:\n  acme:\n    enabled: true\n    priority: 2", [f"r.yaml:2: modules.acme: {NOT_INSTALLED}"]),
    (
        "modules: {acme: {enabled: 1, priority: 0}}",
        [
            "r.yaml:1: modules.acme.enabled: expected true or false, got a number '1'",
            "r.yaml:1: modules.acme.priority: is 0: must be from 1 to 1000000",
        ],
    ),
    (
        "modules: {acme: {enabled: false, on: x}}",
        ["r.yaml:1: modules.acme.on: unknown key 'on': use enabled, priority"],
    ),
    ("modules: {7: {enabled: false}}", ["r.yaml:1: modules.7: unknown key '7': use hashmap, noop, pyscripts"]),
    (
        f"modules: {{{'m' * 256}: {{enabled: false}}}}",
        [
            f"r.yaml:1: modules.{'m' * 256}: has 256 characters: at most 255 are taken",
            f"r.yaml:1: modules.{'m' * 256}: unknown key '{'m' * 256}': use hashmap, noop, pyscripts",
        ],
    ),
    ("modules: {noop: {}}", ["r.yaml:1: modules.noop: 'enabled' is missing"]),
    ("modules: {noop: }", ["r.yaml:1: modules.noop: expected a mapping, got null"]),
    ("modules: [noop]", ["r.yaml:1: modules: expected a mapping, got a list"]),
    (
        "modules: {hashmap: {enabled: 1, priority: 0, on: x}}",
        [
            "r.yaml:1: modules.hashmap.on: unknown key 'on': use enabled, priority",
            "r.yaml:1: modules.hashmap.enabled: expected true or false, got a number '1'",
            "r.yaml:1: modules.hashmap.priority: is 0: must be from 1 to 1000000",
        ],
    ),
    ("pyscripts: {files: []}", ["r.yaml:1: pyscripts.files: unknown key 'files': use scripts"]),
    ("pyscripts: [a]", ["r.yaml:1: pyscripts: expected a mapping, got a list"]),
    ("pyscripts: {scripts: {a: 1}}", ["r.yaml:1: pyscripts.scripts: expected a list, got a mapping"]),
    ("pyscripts: {scripts: [a]}", [f"r.yaml:1: {SCRIPT}: expected a mapping, got text 'a'"]),
    (
        "pyscripts: {scripts: [{}]}",
        [f"r.yaml:1: {SCRIPT}: 'name' is missing", f"r.yaml:1: {SCRIPT}: 'data' or 'file' is missing"],
    ),
    (
        script("name: a\ncode: x\ndata: x"),
        [f"r.yaml:4: {SCRIPT}.code: unknown key 'code': use name, data, file, start, end, description"],
    ),
    (script("name: ''\ndata: x"), [f"r.yaml:3: {SCRIPT}.name: is empty: give at least one character"]),
    (
        script("name: a\ndata: x\nfile: a.py"),
        [f"r.yaml:5: {SCRIPT}.file: a script has 'data' or 'file', not both: take one out"],
    ),
    (script("name: a\ndata: "), [f"r.yaml:4: {SCRIPT}.data: expected text, got null"]),
    (script("name: a\ndata: [x]"), [f"r.yaml:4: {SCRIPT}.data: expected text, got a list"]),
    (
        script(f"name: a\ndata: '{'#' * 1_000_001}'"),
        [f"r.yaml:4: {SCRIPT}.data: has 1000001 characters: at most 1000000 are taken"],
    ),
    (
        script("name: a\ndata: 'if x'"),
        [f"r.yaml:4: {SCRIPT}.data: line 1 of the script: expected ':'"],
    ),
    (
        script("name: a\ndata: |\n\n  x = 1\n  if x\n    pass"),
        [f"r.yaml:7: {SCRIPT}.data: line 3 of the script: expected ':'"],
    ),
    (
        script("name: a\ndata: >\n  x = 1\n\n  if x"),
        [f"r.yaml:4: {SCRIPT}.data: line 2 of the script: expected ':'"],
    ),
    (
        script('name: a\ndata: "x = 1\\0"'),
        [f"r.yaml:4: {SCRIPT}.data: line 1 of the script: holds a null character"],
    ),
    (
        script(f"name: a\ndata: '{'(' * 150}'"),
        [f"r.yaml:4: {SCRIPT}.data: line 1 of the script: '(' was never closed"],
    ),
    (script("name: a\nfile: "), [f"r.yaml:4: {SCRIPT}.file: expected text, got null"]),
    (script("name: a\nfile: ''"), [f"r.yaml:4: {SCRIPT}.file: is empty: give at least one character"]),
    (
        script("name: a\nfile: gone.py"),
        [f"r.yaml:4: {SCRIPT}.file: gone.py cannot be read: No such file or directory"],
    ),
    (
        script("name: a\nfile: huge.py"),
        [f"r.yaml:4: {SCRIPT}.file: huge.py has 1000001 characters: at most 1000000 are taken"],
    ),
    (
        script("name: a\nfile: broken.py"),
        [f"r.yaml:4: {SCRIPT}.file: line 2 of the script: expected ':'"],
    ),
    (
        "pyscripts:\n  scripts:\n  - {name: a, data: x}\n  - {name: b, data: x}\n  - {name: a, data: x}",
        ["r.yaml:5: pyscripts.scripts[2].name: a second script named 'a': first on line 3, give each its own"],
    ),
    (
        script("name: a\ndata: x\nstart: 2026-01-02T00:00:00Z\nend: 2026-01-01T00:00:00Z"),
        [f"r.yaml:6: {SCRIPT}.end: end is before start"],
    ),
    (
        script("name: a\ndata: x\nstart: 2026-01-01T00:00:00\nend: 1767225600"),
        [
            f"r.yaml:5: {SCRIPT}.start: '2026-01-01T00:00:00' has no offset from UTC: "
            "write it as 2026-01-01T00:00:00Z if it is UTC",
            f"r.yaml:6: {SCRIPT}.end: expected a time such as 2026-01-01T00:00:00Z, got a number '1767225600'",
        ],
    ),
    (
        script(f"name: a\ndata: x\ndescription: {'d' * 257}"),
        [f"r.yaml:5: {SCRIPT}.description: has 257 characters: at most 256 are taken"],
    ),
    (service("tiers: [1]"), [f"r.yaml:4: {TIERS}: expected a mapping, got a list"]),
    (service("tiers: {by: [region]}"), [f"r.yaml:4: {TIERS}: 'steps' is missing"]),
    (
        service("tiers: {step: []}"),
        [f"r.yaml:4: {TIERS}.step: unknown key 'step': use by, steps", f"r.yaml:4: {TIERS}: 'steps' is missing"],
    ),
    (service("tiers: {steps: []}"), [f"r.yaml:4: {TIERS}.steps: has no steps: give at least one"]),
    (service("tiers: {steps: }"), [f"r.yaml:4: {TIERS}.steps: has no steps: give at least one"]),
    (service("tiers: {steps: x}"), [f"r.yaml:4: {TIERS}.steps: expected a list, got text 'x'"]),
    (service("tiers: {steps: [x]}"), [f"r.yaml:4: {TIERS}.steps[0]: expected a mapping, got text 'x'"]),
    (service("tiers: {steps: [{up_to: null}]}"), [f"r.yaml:4: {TIERS}.steps[0]: 'cost' is missing"]),
    (
        service("tiers: {steps: [{cost: 1e-29}]}"),
        [f"r.yaml:4: {TIERS}.steps[0].cost: has 29 digits after the point: at most 28 are taken"],
    ),
    (
        service("tiers:\n  steps:\n  - {cost: 1, up_to: 5}\n  - {cost: 1, up_to: 9}"),
        [f"r.yaml:7: {TIERS}.steps[1].up_to: the last step must be without bound: set up_to to null"],
    ),
    (
        service("tiers:\n  steps:\n  - {cost: 1}\n  - x\n  - {cost: 1}"),
        [
            f"r.yaml:6: {TIERS}.steps[0]: only the last step is without bound: give up_to a number",
            f"r.yaml:7: {TIERS}.steps[1]: expected a mapping, got text 'x'",
        ],
    ),
    (
        service("tiers:\n  steps:\n  - {cost: 1, up_to: 0}\n  - {cost: 1, up_to: -1}\n  - {cost: 1}"),
        [
            f"r.yaml:6: {TIERS}.steps[0].up_to: is 0: it must be more than 0",
            f"r.yaml:7: {TIERS}.steps[1].up_to: is -1: it must be more than 0",
        ],
    ),
    (
        service("tiers:\n  steps:\n  - {cost: 1, up_to: 5}\n  - {cost: 1, up_to: 5.0}\n  - {cost: 1}"),
        [f"r.yaml:7: {TIERS}.steps[1].up_to: is 5: it must be more than 5, the bound of the step before"],
    ),
    (
        service("tiers:\n  steps:\n  - {cost: 1, up_to: 1e-9}\n  - {cost: 1, up_to: lots}\n  - {cost: 1}"),
        [
            f"r.yaml:6: {TIERS}.steps[0].up_to: has 9 digits after the point: at most 8 are taken",
            f"r.yaml:7: {TIERS}.steps[1].up_to: expected a decimal number, got text 'lots'",
        ],
    ),
    (
        service("tiers: {by: [a, b, a, true], steps: [{cost: 1}]}"),
        [
            f"r.yaml:4: {TIERS}.by[2]: label 'a' is listed twice",
            f"r.yaml:4: {TIERS}.by[3]: expected text, in quotes: 'true', got true or false 'true'",
        ],
    ),
    (
        service(f"tiers: {{by: {[str(number) for number in range(101)]}, steps: [{{cost: 1}}]}}"),
        [f"r.yaml:4: {TIERS}.by: has 101 labels: at most 100 are taken"],
    ),
    (
        service(f"tiers: {{steps: [{', '.join(f'{{cost: 1, up_to: {n}}}' for n in range(1, 1001))}, {{cost: 1}}]}}"),
        [f"r.yaml:4: {TIERS}.steps: has 1001 steps: at most 1000 are taken"],
    ),
    *(
        (
            service(f"{rules}\ntiers: {{steps: [{{cost: 1}}]}}"),
            [f"r.yaml:5: {TIERS}: a service has tiers, or mappings, thresholds and fields: take one of the two out"],
        )
        for rules in ("mappings: [{cost: 1}]", "thresholds: [{cost: 1, level: 1}]", "fields: [{name: f}]")
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
        ["r.yaml:5: hashmap.services[0].fields[1].name: a second field named 'f': first on line 4, put them together"],
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
    (
        field(f"mappings:\n- {{value: v, cost: 1, end: {FEB}}}\n- {{value: v, cost: 2, start: {JAN}}}"),
        [
            f"r.yaml:8: {FIELD_MAPPINGS}[1]: is a duplicate: same value or level, tenant and group, "
            f"valid at the same time; see {FIELD_MAPPINGS}[0] on line 7"
        ],
    ),
    (
        service("thresholds:\n- {level: 1, cost: 1}\n- {level: '1.0', cost: 1, group: _DEFAULT_}"),
        [
            "r.yaml:6: hashmap.services[0].thresholds[1]: is a duplicate: same value or level, tenant and group, "
            "valid at the same time; see hashmap.services[0].thresholds[0] on line 5"
        ],
    ),
    (
        service("mappings:\n- {cost: 1, name: n}\n- {cost: 1, name: n, group: g}"),
        [f"r.yaml:6: {MAPPINGS}[1]: has the name 'n' of another mapping; see {MAPPINGS}[0] on line 5"],
    ),
    (
        service("mappings: [{cost: 010}, {cost: .nan, group: g}, {cost: Infinity, group: h}]"),
        [
            f"r.yaml:4: {MAPPINGS}[0].cost: '010' may be read as octal: write it without leading zeros",
            f"r.yaml:4: {MAPPINGS}[1].cost: expected a decimal number, got a number '.nan'",
            f"r.yaml:4: {MAPPINGS}[2].cost: expected a decimal number, got text 'Infinity'",
        ],
    ),
    (
        service("mappings: [{cost: 1, start: 2026-02-30T00:00:00Z, end: 1969-12-31T23:59:59Z}]"),
        [
            f"r.yaml:4: {MAPPINGS}[0].start: expected a time such as {JAN}, got text '2026-02-30T00:00:00Z'",
            f"r.yaml:4: {MAPPINGS}[0].end: '1969-12-31T23:59:59Z' is out of range: times from 1970 to 9999 are taken",
        ],
    ),
    (
        service("mappings: [{cost: 1, start: 2026-01-01T00:00:00.5+01:00}]"),
        [
            f"r.yaml:4: {MAPPINGS}[0].start: '2026-01-01T00:00:00.5+01:00' has a fraction of a second: "
            "whole seconds are taken"
        ],
    ),
    (
        "hashmap: {}\nhashmap: {}",
        ["r.yaml:2: hashmap: key 'hashmap' is repeated: first on line 1"],
    ),
    (
        "hashmap: {services: [",
        [
            "r.yaml:2: hashmap.services[0]: this is no YAML while parsing a flow node: "
            "did not find expected node content"
        ],
    ),
]


@pytest.mark.parametrize(("text", "faults"), FAULTS, ids=[f"{number}" for number in range(len(FAULTS))])
def test_each_fault_is_named(text: str, faults: list[str]) -> None:
    assert faults_of(text, read_file=read_two_files) == faults


def test_the_table_has_at_least_45_faults() -> None:
    assert len(FAULTS) >= 45
