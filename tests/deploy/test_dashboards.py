"""What the dashboards ask is understood: by the ClickHouse engine, by promtool, and of metrics that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import yaml

from rater.model.rated import FrameStatus
from rater.store import Batch, Store, migrate, write
from tests.deploy.chart import ROOT, call, program
from tests.unit.store.builders import (
    HOUR,
    JANUARY,
    a_frame,
    a_gap_alert,
    a_hit_frame,
    a_line,
    memory_store,
    store_frames,
)

PLACE = ROOT / "deploy" / "helm" / "rater" / "files" / "dashboards"
DASHBOARDS = sorted(PLACE.glob("*.json"))
METRICS = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
RANGE = JANUARY, JANUARY + 6 * HOUR
"""What a reader looks at; as long a stretch before it has frames, too."""


class Asked(NamedTuple):
    """A question of a panel."""

    dashboard: str
    panel: str
    text: str

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel}"


def questions(member: str) -> Iterator[Asked]:
    for file in DASHBOARDS:
        for panel in json.loads(file.read_text(encoding="utf-8"))["panels"]:
            for target in panel.get("targets", []):
                if member in target:
                    yield Asked(file.stem, panel["title"], target[member])


EXPRESSIONS = list(questions("expr"))
STATEMENTS = list(questions("rawSql"))


def plain(statement: str, scopes: str) -> str:
    """The statement as Grafana's plugin sends it."""
    begin, end = (f"toDateTime({instant}, 'UTC')" for instant in RANGE)
    statement = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 >= {begin} AND \1 <= {end}", statement)
    statement = statement.replace("$__fromTime", begin).replace("$__toTime", end)
    statement = statement.replace("${scope:sqlstring}", scopes)
    assert "$" not in statement, statement
    return statement


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    """Two scopes with six hours, dearer than the six before; a partial frame, a gap and a revision among them."""
    with memory_store() as opened:
        migrate(opened)
        for scope, price in (("alpha", "0.5"), ("beta", "2")):
            frames = [
                a_frame(scope, JANUARY + hour * HOUR, lines=[a_line(1, price=price if hour >= 0 else "0.25")])
                for hour in range(-6, 5)
            ]
            store_frames(opened, *frames)
        store_frames(opened, a_hit_frame("alpha", JANUARY + 5 * HOUR))
        again = a_frame("beta", JANUARY, revision=1, lines=[a_line(1, price="7"), a_line(2, "free", price="0")])
        store_frames(opened, msgspec.structs.replace(again, status=FrameStatus.RATED))
        batch = Batch()
        batch.add_alert(a_gap_alert(True, 0))
        write(opened, batch)
        yield opened


def answer(store: Store, dashboard: str, panel: str, scopes: str = "'*'") -> list[tuple[Any, ...]]:
    (asked,) = [one for one in STATEMENTS if (one.dashboard, one.panel) == (dashboard, panel)]
    return store.rows(plain(asked.text, scopes))


def test_there_are_three_and_they_differ() -> None:
    found = [json.loads(file.read_text(encoding="utf-8")) for file in DASHBOARDS]

    assert [file.stem for file in DASHBOARDS] == ["billing-completeness", "operations", "tenant-cost"]
    assert len({one["uid"] for one in found}) == len({one["title"] for one in found}) == 3
    for one in found:
        panels = [panel for panel in one["panels"] if panel["type"] != "row"]
        assert all(panel["targets"] and len(panel["description"].split()) > 2 for panel in panels)
        # no two panels lie on the same place, and none reaches over the border
        cells = [
            (x, y)
            for place in (panel["gridPos"] for panel in one["panels"])
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
        assert len(set(cells)) == len(cells)
        assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("asked", STATEMENTS, ids=str)
@pytest.mark.parametrize("scopes", ["'*'", "'alpha','it''s'"], ids=["all", "some"])
def test_every_statement_runs(store: Store, asked: Asked, scopes: str) -> None:
    store.rows(plain(asked.text, scopes))


def test_the_variable_names_the_scopes(store: Store) -> None:
    (variable,) = {
        one["query"]
        for file in DASHBOARDS
        for one in json.loads(file.read_text(encoding="utf-8"))["templating"]["list"]
        if one["name"] == "scope"
    }

    assert store.rows(variable) == [("alpha",), ("beta",)]


def test_costs_are_those_of_the_newest_revisions(store: Store) -> None:
    # alpha: six hours of 0.5; beta: a revised hour of 7, and four of 2
    assert answer(store, "tenant-cost", "Cost") == [(18.0,)]
    assert answer(store, "tenant-cost", "Cost", "'beta'") == [(15.0,)]
    assert answer(store, "tenant-cost", "Of the same time before") == [(3.0,)]
    grown = answer(store, "tenant-cost", "What grew most")
    assert [(scope, now, before, growth) for scope, now, before, growth in grown] == [
        ("beta", Decimal(15), Decimal("1.5"), Decimal("13.5")),
        ("alpha", Decimal(3), Decimal("1.5"), Decimal("1.5")),
    ]
    assert answer(store, "tenant-cost", "Metrics without a price") == [(1,)]
    dearest = answer(store, "tenant-cost", "The dearest resources")
    assert [(row[0], row[2], row[5]) for row in dearest][:2] == [
        ("beta", "r1", Decimal(15)),
        ("alpha", "r1", Decimal(3)),
    ]


def test_what_is_missing_is_shown(store: Store) -> None:
    assert answer(store, "billing-completeness", "Frames not billable") == [(1,)]
    assert answer(store, "billing-completeness", "Frames not billable", "'beta'") == [(0,)]
    (gap,) = answer(store, "billing-completeness", "Open gaps")
    assert gap[:3] == ("alpha", "instance", "prometheus")
    assert gap[5:7] == (60, "no answer")
    (revised,) = answer(store, "billing-completeness", "Frames that were rated again")
    assert (revised[0], revised[2], revised[7]) == ("beta", 1, Decimal(7))


@pytest.mark.parametrize("asked", EXPRESSIONS, ids=str)
def test_every_metric_is_in_the_page(asked: Asked) -> None:
    names = set(re.findall(r"\b(?:rater|process)_\w+", asked.text))

    assert names
    for name in names:
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        assert f"`{name}`" in METRICS or f"`{base}`" in METRICS, name


def test_promtool_understands_every_expression(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": asked.text.replace("$__rate_interval", "5m")}
        for number, asked in enumerate(EXPRESSIONS)
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))

    said = call(program("promtool"), "check", "rules", file)

    assert said.code == 0, said.out + said.err
    assert f"{len(EXPRESSIONS)} rules found" in said.out
