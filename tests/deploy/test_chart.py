"""The chart as a whole: helm's own lint, the matrix of values, the unit tests of its templates."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import yaml

from tests.deploy.chart import CASES, CHART, ROOT, call, case_file, name_of, program, rendered, rendered_text, template

TEMPLATES = sorted(
    path.relative_to(CHART).as_posix() for path in (CHART / "templates").rglob("*.yaml") if path.name[0] != "_"
)
UNIT_TESTS = sorted((CHART / "tests").glob("*_test.yaml"))


def test_the_matrix_has_twelve_cases_or_more() -> None:
    assert len(CASES) >= 12, f"{CHART.relative_to(ROOT)}/ci has only {CASES}"


@pytest.mark.parametrize("case", CASES)
def test_helm_lints_it(case: str) -> None:
    said = call(program("helm"), "lint", "--strict", CHART, "--values", case_file(case))

    assert said.code == 0, said.out + said.err
    assert "[WARNING]" not in said.out


@pytest.mark.parametrize("case", CASES)
def test_it_renders_objects_that_do_not_stand_in_each_others_way(case: str) -> None:
    objects = rendered(case)

    assert len(objects) > 3
    assert Counter(map(name_of, objects)).most_common(1)[0][1] == 1, "two objects of one kind and name"
    for found in objects:
        labels = found["metadata"].get("labels", {})
        assert labels.get("app.kubernetes.io/instance") == "release", name_of(found)
        assert labels.get("app.kubernetes.io/managed-by") == "Helm", name_of(found)
        if not found["kind"].startswith("Cluster"):
            assert found["metadata"].get("namespace", "billing") == "billing", name_of(found)


def test_it_renders_the_same_twice() -> None:
    """No random name and no time: an upgrade with the same values must restart nothing."""
    once, again = (template("--values", case_file("everything")).out for _ in range(2))

    assert once
    assert once == again


def test_each_template_is_rendered_by_some_case() -> None:
    sources = {
        source for case in CASES for source in re.findall(r"^# Source: rater/(\S+)", rendered_text(case), re.MULTILINE)
    }

    assert [name for name in TEMPLATES if name not in sources] == []


def test_helm_unittest_passes() -> None:
    said = call(program("helm-unittest"), "--color=false", "--strict", "--file", "tests/*_test.yaml", CHART)

    assert said.code == 0, said.out + said.err
    passed = re.search(r"^Tests:\s+(\d+) passed, (\d+) total", said.out, re.MULTILINE)
    assert passed, said.out
    assert int(passed[1]) == int(passed[2]) >= len(TEMPLATES)


def test_each_template_has_unit_tests() -> None:
    tested: set[str] = set()
    for path in UNIT_TESTS:
        suite = yaml.safe_load(path.read_text())
        named = [*suite.get("templates", ()), suite.get("template")]
        for test in suite["tests"]:
            assert test.get("asserts"), f"{path.name}: {test['it']!r} asserts nothing"
            named += [*test.get("templates", ()), test.get("template")]
            named += [one.get("template") for one in test["asserts"]]
        tested |= {f"templates/{name.removeprefix('templates/')}" for name in named if name}

    assert [name for name in TEMPLATES if name not in tested] == []
