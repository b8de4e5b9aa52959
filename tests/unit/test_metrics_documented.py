"""docs/metrics.md lists every metric, and no other page, rule or dashboard names one that is not there."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
FILES = ROOT / "deploy" / "helm" / "rater" / "files"
READERS = sorted([*(ROOT / "docs").rglob("*.md"), *FILES.rglob("*.yaml"), *FILES.rglob("*.json")])
NAME = re.compile(r"\brater_(?:api|audit|build|collector|ready|requests|rework|sink|store|worker)(?:_\w+|\b(?=\{))")
OF_HISTOGRAM = re.compile(r"_(?:bucket|count|sum)$")


@cache
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("metrics_page", ROOT / "scripts" / "metrics_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names() -> set[str]:
    return set(re.findall(r"^\| `(\w+)`", generator().PAGE.read_text(encoding="utf-8"), re.MULTILINE))


def test_the_page_is_what_the_registries_say() -> None:
    page = generator().PAGE.read_text(encoding="utf-8")

    assert generator().written(page) == page, "run make schemas"
    assert len(names()) > 80


def test_every_metric_explains_itself_and_has_no_scope() -> None:
    for metric in generator().of_roles():
        assert len(metric.meaning.split()) >= 2, metric.name
        assert not {"scope", "scope_id", "line_id", "resource"} & set(metric.labels), metric.name
        if metric.kind == "counter":
            assert not metric.name.endswith(("_seconds", "_bytes")), metric.name
        if "timestamp" in metric.name:
            assert metric.name.endswith("_timestamp_seconds"), metric.name


@pytest.mark.parametrize("file", READERS, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_page_rule_or_dashboard_names_a_metric_that_is_not_there(file: Path) -> None:
    named = {OF_HISTOGRAM.sub("", name) for name in NAME.findall(file.read_text(encoding="utf-8"))}
    known = names() | {name.removesuffix("_total") for name in names()}

    assert {name for name in named if name not in known and not name.endswith("_")} == set()
