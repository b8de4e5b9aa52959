"""`rater rate`: a usage file priced without a server, in its order, with its totals and its faults."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rater.cli.app import _run
from rater.rating import NoScripts, RatingFrame, RatingPoint, RuleBook
from rater.rating.explain import Explained
from rater.trial import Measured, Priced, Pricer, UnorderedUsageError, UnprovenPriceError
from rater.trial.pricing import MAX_RUN, check_proven
from tests.unit.trial.world import book_from

EXAMPLES = Path(__file__).parents[3] / "examples" / "rating"
Call = Callable[..., tuple[int, str, str]]

RULES = """
hashmap:
  services:
    - name: instance
      fields:
        - name: flavor
          mappings:
            - {value: tiny, cost: "0.01"}
            - {value: tiny, cost: "0.02", start: 2026-01-02T00:00:00Z, group: later}
        - name: ram
          thresholds: [{level: "64", cost: "2", group: memory}]
    - name: traffic
      tiers: {by: [region], steps: [{up_to: "10", cost: "2"}, {cost: "1"}]}
"""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Runs `rater rate --rules rules.yaml …` in this process, in a directory with these rules."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("RATER_")]:
        monkeypatch.delenv(name)
    (tmp_path / "rules.yaml").write_text(RULES)

    def run(*arguments: str) -> tuple[int, str, str]:
        status = _run(["rate", "--rules", "rules.yaml", *arguments])
        told = capfd.readouterr()
        return status, told.out, told.err

    return run


def a_line(
    metric: str = "instance", begin: str = "2026-01-01T00:00:00Z", qty: str = "1", **more: Any
) -> dict[str, Any]:
    return {"scope_id": "projA", "metric": metric, "begin": begin, "qty": qty, **more}


def a_file(path: Path, *lines: dict[str, Any] | str) -> str:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return str(path)


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_each_line_comes_back_with_its_price(call: Call, tmp_path: Path) -> None:
    # given lines of several kinds, one of them about coverage
    lines: list[dict[str, Any] | str] = [
        a_line(metadata={"flavor": "tiny"}, qty="3", unit="h", end="2026-01-01T01:00:00+00:00"),
        '{"covers":{"scope_id":"*","metric":"*","begin":"2026-01-01T00:00:00Z","end":"2026-01-02T00:00:00Z"}}',
        a_line(begin="2026-01-02T00:30:00Z", metadata={"flavor": "tiny"}),
        a_line("unheard-of"),
        a_line(begin="2025-12-31T00:00:00Z", qty="0.5", groupby={"flavor": "tiny", "ram": 64}),
    ]
    # when
    status, out, err = call(a_file(tmp_path / "usage.jsonl", *lines))
    # then
    assert status == 0
    assert [{**line, "price": price} for line, price in zip([*lines[:1], *lines[2:]], PRICES, strict=True)] == objects(
        out
    )
    assert [row.split() for row in err.splitlines() if "projA" in row] == [
        ["projA", "instance", "1", "3", "h", "0.03", "0"],
        ["projA", "instance", "2", "1.5", "undefined", "1.035", "0"],
        ["projA", "unheard-of", "1", "1", "undefined", "0", "0"],
    ]


PRICES = ["0.03", "0.03", "0", "1.005"]


def test_a_point_that_no_rule_reads_and_a_line_that_nobody_reads(call: Call, tmp_path: Path) -> None:
    # given
    bad = [f'{{"scope_id":"projA","metric":"m","begin":"2026-01-01T0{n % 10}:00:00","qty":"1"}}' for n in range(25)]
    lines: list[dict[str, Any] | str] = [
        a_line(metadata={"ram": "much"}),
        *bad,
        a_line(metadata={"flavor": "tiny"}),
        a_line("unheard-of", qty="1e29"),
    ]
    # when
    status, out, err = call(a_file(tmp_path / "usage.jsonl", *lines))
    # then all others are there
    assert status == 1
    first, second, third = objects(out)
    assert "field 'ram' has thresholds" in first["error"]
    assert "price" not in first
    assert (second["price"], third["price"]) == ("0.01", "0")
    assert f"{tmp_path / 'usage.jsonl'}:2: begin '2026-01-01T00:00:00' has no offset" in err
    assert err.count("has no offset") == 20
    assert "and 5 more lines that cannot be read" in err
    assert [row.split()[-1] for row in err.splitlines() if "projA" in row and "instance" in row] == ["1"]


def test_what_no_column_holds_has_no_price(call: Call, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text("hashmap: {services: [{name: instance, mappings: [{cost: '1000'}]}]}")
    status, out, _ = call(a_file(tmp_path / "u.jsonl", a_line(qty="1" + "0" * 29)))
    assert status == 1
    assert "metric 'instance': its price" in objects(out)[0]["error"]
    assert "is beyond 1E+30" in objects(out)[0]["error"]


def test_graduated_prices_count_by_scope_label_and_month(call: Call, tmp_path: Path) -> None:
    # given
    lines: list[dict[str, Any] | str] = [
        a_line("traffic", "2026-01-30T00:00:00Z", "8", groupby={"region": "a"}),
        a_line("traffic", "2026-01-30T00:00:00Z", "8", groupby={"region": "b"}),
        a_line("traffic", "2026-01-31T00:00:00Z", "8", groupby={"region": "a"}),
        {**a_line("traffic", "2026-01-30T00:00:00Z", "8", groupby={"region": "a"}), "scope_id": "projB"},
        a_line("instance", "2026-01-01T00:00:00Z"),
        a_line("traffic", "2026-02-01T00:00:00Z", "8", groupby={"region": "a"}),
    ]
    # when
    status, out, _ = call(a_file(tmp_path / "usage.jsonl", *lines))
    # then
    assert status == 0
    assert [found["price"] for found in objects(out)] == ["16", "16", "10", "16", "0", "16"]
    # and out of order it cannot be said
    status, out, err = call(a_file(tmp_path / "usage.jsonl", lines[2], "no usage", lines[0]))
    assert status == 1
    assert "with begin 2026-01-30T00:00:00Z comes after one with begin 2026-01-31T00:00:00Z" in err
    assert "order the usage of each scope by begin" in err
    assert "usage.jsonl:2: this is no JSON" in err


def test_csv_parquet_and_standard_input(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given the same sample in each form
    table = {"scope_id": "projA", "metric": "instance", "begin": "2026-01-01T00:00:00Z", "qty": "2"}
    table["metadata.flavor"] = "tiny"
    (tmp_path / "u.csv").write_text(",".join(table) + "\n" + ",".join(table.values()) + "\n")
    pq.write_table(pa.table({name: [value] for name, value in table.items()}), tmp_path / "u.parquet")
    rest = {"unit": "undefined", "groupby": {}, "metadata": {"flavor": "tiny"}, "price": "0.02"}
    expected = {**a_line(qty="2"), "end": "2026-01-01T00:00:00Z", **rest}
    # when / then
    for name in ("u.csv", "u.parquet"):
        assert objects(call(str(tmp_path / name))[1]) == [expected]
    # and from standard input, as CSV
    standard = io.TextIOWrapper(io.BytesIO(json.dumps(a_line(metadata={"flavor": "tiny"})).encode()))
    monkeypatch.setattr("sys.stdin", standard)
    status, out, _ = call("--out", "csv", "-")
    assert status == 0
    [row] = csv.DictReader(io.StringIO(out))
    assert {name: cell for name, cell in row.items() if cell} == {
        **a_line(),
        "end": "2026-01-01T00:00:00Z",
        "unit": "undefined",
        "groupby": "{}",
        "metadata": '{"flavor":"tiny"}',
        "price": "0.01",
    }


def test_tables_and_explanations(call: Call, tmp_path: Path) -> None:
    # given
    file = a_file(tmp_path / "u.jsonl", a_line(qty="2", metadata={"flavor": "tiny", "ram": "x"}), a_line("unheard-of"))
    # when / then
    _, out, _ = call("--out", "table", file)
    assert "flavor=tiny, ram=x" in out
    assert "is no number" in out
    _, out, _ = call("--out", "table", "--explain", file)
    assert "projA 2026-01-01T00:00:00Z unheard-of: 1 undefined\n  hashmap: price 0 -> 0\n" in out
    assert "    flavor = tiny: flat 0.01 (group _DEFAULT_) -> flat 0.01, rate 1\n" in out
    _, out, _ = call("--explain", file)
    first, second = objects(out)
    assert [rule["cost"] for rule in first["because"][0]["rules"]] == ["0.01", "0.02"]
    assert first["because"][0]["rules"][1]["outcome"] == "not valid then"
    assert second["because"][0]["note"] == "there are no rules for metric unheard-of"
    _, out, _ = call("--out", "csv", "--explain", file)
    assert json.loads(next(csv.DictReader(io.StringIO(out)))["because"])[0]["module"] == "hashmap"


def test_an_empty_file_and_wrong_calls(call: Call, tmp_path: Path) -> None:
    file = a_file(tmp_path / "u.jsonl")
    assert call(file) == (0, "", f"{file}: no samples\n")
    assert call("--out", "csv", file)[1].startswith("scope_id,metric,begin")
    assert call(str(tmp_path / "none.jsonl"))[0] == 1
    (tmp_path / "rules.yaml").write_text("hashmap: {services: [{name: a, mappings: [{cost: x}]}]}")
    status, out, err = call(file)
    assert (status, out) == (2, "")
    assert "rules.yaml:1" in err
    assert _run(["rate", "--rules", "none.yaml", file]) == 2
    assert _run(["rate", "--rules", "-", "-"]) == 2
    (tmp_path / "rules.yaml").write_text("{}")
    assert objects(call(a_file(tmp_path / "u.jsonl", a_line()))[1]) == [{**a_line(), "price": "0"}]


# --- the pricer


def samples(count: int, scope_id: str = "projA", begin: int = 0) -> Iterable[Measured]:
    for number in range(count):
        yield Measured(scope_id, "instance", begin, begin, Decimal(number), None, b'[{},{"flavor":"tiny"}]')


def priced(pricer: Pricer, found: Iterable[Measured]) -> list[Priced]:
    done = [one for sample in found for one in pricer.take(sample)]
    return [*done, *pricer.finish()]


def test_long_runs_are_priced_in_parts() -> None:
    # given
    pricer = Pricer(book_from(RULES), NoScripts(), {}, 3600)
    # when
    done = [len(list(pricer.take(sample))) for sample in samples(2 * MAX_RUN + 5)]
    # then
    assert max(done) == MAX_RUN
    assert len(list(pricer.finish())) == 5
    # and they are numbered through
    found = priced(Pricer(book_from(RULES), NoScripts(), {}, 3600), samples(MAX_RUN + 5))
    assert [one.number for one in found] == list(range(MAX_RUN + 5))
    assert [one.point.price for one in found] == [number * Decimal("0.01") for number in range(MAX_RUN + 5)]


MODULES = "\nmodules: {hashmap: {priority: 2}, tidy: {enabled: true}}"


def tidy(frame: RatingFrame, rules: RuleBook) -> list[RatingPoint]:
    """Drops quantity 1, doubles 2, changes the unit of 3, adds a point and one beyond all columns."""
    import msgspec

    kept = [point for point in frame.points if point.qty != 1]
    first = kept[0]
    return [
        RatingPoint("extra", "h", Decimal(1), Decimal(len(frame.points)), {}, {}),
        *(msgspec.structs.replace(point, unit="GB") if point.qty == 3 else point for point in kept),
        *(point for point in kept if point.qty == 2),
        msgspec.structs.replace(first, origin=-1, price=Decimal("1e31")),
    ]


@pytest.mark.parametrize("explain", [False, True])
def test_a_module_sees_a_frame_and_may_change_drop_and_add(*, explain: bool) -> None:
    # given two frames with a module that shuffles them
    book = book_from(RULES + MODULES)
    pricer = Pricer(book, NoScripts(), {"tidy": tidy}, 3600, explain=explain)
    # when
    found = priced(pricer, [*samples(4), *samples(1, begin=3600)])
    # then
    told = [(one.number, str(one.point.price), one.dropped, one.added, one.changed, one.error) for one in found]
    assert told[:5] == [
        (0, "0", False, False, False, ""),
        (1, "0", True, False, False, ""),
        (2, "0.02", False, False, False, ""),
        (3, "0.03", False, False, True, ""),
        (3, "4", False, True, True, ""),
    ]
    assert told[5][1:5] == ("0.02", False, True, True)
    assert "is beyond" in told[6][-1]
    assert [one[0] for one in told[7:]] == [4, 4, 4]
    assert (found[4].sample.begin, found[4].sample.end, found[4].sample.metric) == (0, 3600, "extra")
    assert all((one.because is not None) is explain for one in found)


def test_frames_that_modules_see_must_come_in_order() -> None:
    pricer = Pricer(book_from(RULES + MODULES), NoScripts(), {"tidy": tidy}, 3600)
    with pytest.raises(UnorderedUsageError, match=r"scope 'a', period 1970-01-01T01:00:00Z, comes after scope 'b'"):
        priced(pricer, [*samples(1, "b"), *samples(1, "a", 3600)])


def test_a_module_that_fails_fails_the_points_of_its_frame_alone() -> None:
    def picky(frame: RatingFrame, rules: RuleBook) -> list[RatingPoint]:
        if frame.period_begin:
            return list(frame.points)
        raise ValueError("not this one")

    pricer = Pricer(book_from(RULES + MODULES), NoScripts(), {"tidy": picky}, 3600, explain=True)
    found = priced(pricer, [*samples(2), *samples(1, begin=3600)])
    assert [one.error for one in found] == ["module 'tidy': ValueError: not this one"] * 2 + [""]


def test_an_explanation_that_leads_elsewhere_is_an_error() -> None:
    # given
    from rater.rating import Rated

    point = RatingPoint("m", "u", Decimal(1), Decimal(2), {}, {}, 0)
    frame = RatingFrame("A", 0, 3600, (point,))
    other = Explained(0, RatingPoint("m", "u", Decimal(1), Decimal(3), {}, {}, 0), None)  # type: ignore[arg-type]  # not looked at
    # when / then
    with pytest.raises(UnprovenPriceError, match="other prices than those of points 0 costs 2"):
        check_proven(frame, Rated([point]), [other])
    with pytest.raises(UnprovenPriceError, match="points that are there"):
        check_proven(frame, Rated([]), [other])
