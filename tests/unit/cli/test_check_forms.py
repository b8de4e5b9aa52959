"""The billable-service table in its three forms, and what rules add to it."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from collectors.checking import CheckReport, Code, Finding, MetricCheck, MetricFacts, Sampled
from collectors.source import Answer
from rater.cli.check_forms import _COLUMNS, WRITERS
from rater.model.interval import Interval
from rater.model.usage import Sample, Series
from rater.rating import NoScripts, RuleBook, parse, plan
from rater.trial.sampled import SamplePrice, price_samples, with_rules

HOUR = Interval(1_767_225_600, 1_767_229_200)
RULES = """
hashmap:
  services:
    - name: instance
      mappings: [{cost: "0.1"}]
      fields:
        - name: flavour
          mappings: [{value: m1, cost: "5"}]
    - name: size
      thresholds: [{level: "1", cost: "1"}]
      fields:
        - name: flavor
          thresholds: [{level: "1", cost: "1"}]
"""


def row(service: str, *findings: Finding, flavor: str = "m1", points: int = 2) -> MetricCheck:
    """A metric with some points in its sample, as a source shows it."""
    series = [Series({"id": str(n)}, {"flavor": flavor}) for n in range(points)]
    samples = [Sample(n, *HOUR, Decimal("1.5")) for n in range(points)]
    sampled = Sampled("p1", HOUR, Answer([HOUR], series=series, samples=samples))
    facts = MetricFacts(exists=True, granularity=60.0, labels=frozenset(("id", "flavor")), points={"p1": 2, "p2": 3})
    return MetricCheck(service, "vm", "u", "prom", 3600, True, facts, ("id", "flavor"), sampled, findings)


def report(*rows: MetricCheck, findings: tuple[Finding, ...] = ()) -> CheckReport:
    return CheckReport("prom", "http://here", HOUR.end, 3600, 7200, None, None, ("p1",), findings, rows)


def unknown() -> MetricCheck:
    return MetricCheck("secret", "s", "u", "prom", 3600, True, MetricFacts(), None, None, ())


def book() -> RuleBook:
    found, _ = RuleBook.empty().apply(plan(RuleBook.empty(), parse(RULES, "rules.yaml")).event("test", "", 0))
    assert found.version == 1
    return found


def test_the_table_shows_what_is_known_and_says_what_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    doubt = Finding(Code.WEAK, "warn", "a\x1b[31mb", "look")
    prices = {"instance": SamplePrice(Decimal("0.20"), True), "size": SamplePrice(Decimal(0), False)}

    WRITERS["table"](report(row("instance", doubt), row("size", doubt), unknown()), prices, "")

    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert (
        lines[0]
        == "prom at http://here: 1 scopes, 3 metrics; keeps samples for: not known, 0.1 needed; clock: not known"
    )
    assert lines[3:] == [
        "instance vm u 60 s 3600 s prom id, flavor 5 2 0.20 warn",
        "size vm u 60 s 3600 s prom id, flavor 5 2 no rule warn",
        "secret s u not known 3600 s prom not known not known - - ok",
        "warn instance, size: a [31mb: look",
        "metrics: 1 ok, 2 warn. prom can be asked; see docs/check.md for what is doubtful",
    ]


def test_markdown_keeps_its_cells(capsys: pytest.CaptureFixture[str]) -> None:
    fault = Finding(Code.SOURCE, "fail", "a|b *c* <d>")

    WRITERS["md"](report(row("in|stance"), findings=(fault,)), {}, "no rules given")

    told = capsys.readouterr().out
    assert "| in\\|stance | vm | u | 60 s | 3600 s | prom | id, flavor | 5 | 2 | - | ok |" in told
    assert "- **fail** a\\|b \\*c\\* &lt;d>" in told
    assert told.endswith("metrics: 1 ok. prom is not fit to bill by as it is: see docs/check.md\n")


def test_every_key_of_the_object_is_on_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "check.md").read_text()
    doubt = Finding(Code.WEAK, "warn", "a", "b")
    prices = {"instance": SamplePrice(Decimal("1E-7"), True)}

    WRITERS["json"](report(row("instance", doubt), unknown(), findings=(doubt,)), prices, "")

    told = json.loads(capsys.readouterr().out)
    first, second = told["metrics"]
    keys = {*told, *told["findings"][0], *first, *first["sample"]}
    assert {
        key for key in keys if f"`{key}`" not in page and f"`.{key}`" not in page and f".{key}" not in page
    } == set()
    assert all(column.title in page for column in _COLUMNS if column.key not in ("points", "sample"))  # left out there
    assert (first["sample"]["price"], first["sample"]["first_qty"]) == ("0.0000001", "1.5")
    assert (second["granularity_seconds"], second["exists"], second["labels"], second["sample"]) == (None,) * 4


def test_a_sample_costs_what_its_points_cost() -> None:
    checked = report(row("instance"), row("size"), row("traffic"), unknown())

    prices = price_samples(checked, book(), NoScripts(), {})
    findings = {one.service: [f.code for f in one.findings] for one in with_rules(checked, book(), prices).metrics}

    assert prices["instance"] == SamplePrice(Decimal("0.30"), True)
    assert prices["traffic"] == SamplePrice(Decimal(0), False)
    assert prices["size"].reason
    assert findings == {
        "instance": [Code.RULE_LABEL],  # rules spell it flavour
        "size": [Code.NOT_PRICED],  # m1 is no number, as a threshold of the label needs it
        "traffic": [],
        "secret": [],
    }
