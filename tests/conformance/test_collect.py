"""Collecting: the points of our Prometheus source are those of CloudKitty's own collector over the same live server.

Each form of query, each conversion and mutation under `numbers: cloudkitty`, and what skip expressions leave out.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from decimal import Decimal
from itertools import product
from typing import Any

import pytest
import yaml

from collectors.errors import SourceError
from collectors.metrics_yml import Metric, read
from collectors.prometheus.promql import AGGREGATIONS, QUERY_FUNCTIONS, RANGE_FUNCTIONS, read_extra_args, usage_query
from collectors.prometheus.source import PrometheusSource
from collectors.quantity import GNOCCHI, QuantityError, quantity
from collectors.settings import CollectorSettings, CompletenessSettings, PrometheusSettings
from collectors.skipping import without_skipped
from collectors.source import Answer, SharingSession, SourceContext
from rater.model.codec import MAX_MAGNITUDE
from rater.model.interval import Interval
from tests.conformance.side import CloudKitty, cloudkitty
from tests.integration.prometheus.server import LaptopPrometheus

T, HOUR = 1_767_571_200, 3600  # 2026-01-05T00:00:00Z
PERIOD = Interval(T + HOUR, T + 2 * HOUR)
SCOPES = ["P1", "P2"]
CALENDAR = {"week_of_the_year", "day_of_the_year", "month", "year"}
ODD = ("NaN", "+Inf", "-Inf")

Point = tuple[list[tuple[str, Any]], list[tuple[str, Any]], str]


# --- what lies in Prometheus


def samples() -> list[str]:
    """Three hours of gauges with awkward digits, a counter with resets, a join partner, NaN and infinities."""
    chance = random.Random(4)
    of_plain = {
        ("P1", "digits", "m1"): lambda _: chance.uniform(0, 10),
        ("P1", "tie", "m1"): lambda _: "1.000000005",
        ("P1", "large", ""): lambda _: chance.uniform(1e11, 1e13),
        ("P1", "tiny", 'quo"te'): lambda _: chance.uniform(1e-12, 1e-9),
        ("P1", "below", "ü"): lambda _: -chance.uniform(0, 3),
        ("P1", "zero", "m2"): lambda _: 0,
        ("P1", "one", "m2"): lambda _: 1,
        ("P1", "four", "m2"): lambda _: "4.0",
        ("P2", "digits", "m1"): lambda at: at / 7,
    }
    of_odd = {("P1", "nan", ""): lambda _: "NaN", ("P1", "inf", ""): lambda _: "+Inf", ("P1", "five", ""): lambda _: 5}
    lines = []
    for metric, members in (("plain", of_plain), ("odd", of_odd)):
        lines.append(f"# TYPE {metric} gauge")
        for (scope, name, flavor), value in members.items():
            labels = f'project_id="{scope}",id="{name}",flavor="{flavor.translate({34: chr(92) + chr(34)})}"'
            lines += [f"{metric}{{{labels}}} {value(at)} {T + at}" for at in range(0, 3 * HOUR, 60)]
    lines.append("# TYPE total counter")
    for scope, name in (("P1", "a"), ("P1", "b"), ("P2", "a")):
        count = 0.0
        for at in range(0, 3 * HOUR, 60):
            count = chance.uniform(0, 5) if chance.random() < 0.03 else count + chance.uniform(0, 1e4)
            lines.append(f'total_total{{project_id="{scope}",id="{name}"}} {count} {T + at}')
    lines.append("# TYPE info gauge")
    lines += [
        f'info{{project_id="P1",id="{name}",name="the {name}"}} 3 {T + at}'
        for name in ("digits", "large", "zero")
        for at in range(0, 3 * HOUR, 60)
    ]
    return lines


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaptopPrometheus]:
    made = LaptopPrometheus(tmp_path_factory.mktemp("prometheus") / "server")
    made.backfill(samples())
    with made:
        yield made


@pytest.fixture(scope="module")
def real() -> Iterator[CloudKitty]:
    with cloudkitty() as side:
        yield side


# --- the two sides


def _metrics_yml(definitions: dict[str, list[dict[str, Any]]]) -> str:
    """Definitions by metric, with a name for each that has none; text in `raw` braces stays as it is written."""
    numbered = {
        metric: [
            {"unit": "u", "alt_name": f"{metric} {number}", "groupby": ["id"], **one} for number, one in enumerate(of)
        ]
        for metric, of in definitions.items()
    }
    return yaml.safe_dump({"metrics": numbered}, sort_keys=False, allow_unicode=True)


def _theirs(real: CloudKitty, server: LaptopPrometheus, text: str, scope: str, **more: str) -> dict[str, Any]:
    answer = real.ask(
        "collect", metrics_yml=text, url=server.url, scope_key="project_id", scope=scope, begin=PERIOD.begin,
        end=PERIOD.end, **more,
    )  # fmt: skip
    found: dict[str, Any] = answer["metrics"]
    return found


async def _ours(server: LaptopPrometheus, text: str, skip: str = "") -> dict[tuple[str, str], Answer | SourceError]:
    """The answers by scope and internal key; scopes share their questions where the source lets them."""
    metrics = read(text, "metrics.yml", read_extra_args, skip).metrics
    settings = CollectorSettings(
        numbers="cloudkitty",
        prometheus=PrometheusSettings(url=server.url),
        completeness=CompletenessSettings(mode="off"),
    )
    source = PrometheusSource(SourceContext(settings, HOUR, metrics))
    session = source.session(PERIOD, T + 20 * HOUR)
    assert isinstance(session, SharingSession)
    session.expect({metric.internal_key: SCOPES for metric in metrics})

    async def one(scope: str, metric: Metric) -> Answer | SourceError:
        try:
            return without_skipped(await session.collect(scope, metric), metric, PERIOD.begin)
        except SourceError as failure:
            return failure

    try:
        keys = [(scope, metric) for metric in metrics for scope in SCOPES]
        answers = await asyncio.gather(*(one(scope, metric) for scope, metric in keys))
        return {(scope, metric.internal_key): answer for (scope, metric), answer in zip(keys, answers, strict=True)}
    finally:
        await session.close()
        await source.close()


def _points_of(answer: Answer) -> list[Point]:
    return sorted(
        (sorted(answer.series[s.series].groupby.items()), sorted(answer.series[s.series].metadata.items()), str(s.qty))
        for s in answer.samples
    )


def _expected(points: list[dict[str, Any]], scope: str) -> list[Point]:
    """CloudKitty's points without the calendar, and with the scope where it loses it."""
    found = []
    for point in points:
        groupby = {key: value for key, value in point["groupby"].items() if key not in CALENDAR}
        groupby["project_id"] = groupby["project_id"] or scope
        found.append((sorted(groupby.items()), sorted(point["metadata"].items()), point["qty"]))
    return sorted(found)


def _is_no_quantity(value: str) -> bool:
    """NaN, infinities and what no sum could hold (`exp` makes it): CloudKitty takes them, here they are put aside."""
    return value in ODD or abs(Decimal(value)) > MAX_MAGNITUDE


async def _compare(real: CloudKitty, server: LaptopPrometheus, text: str) -> tuple[int, int]:
    """Points that are alike and questions that fail on both sides."""
    ours, alike, failed = await _ours(server, text), 0, 0
    for scope in SCOPES:
        for key, their in _theirs(real, server, text, scope).items():
            our = ours[scope, key]
            if isinstance(our, SourceError):
                assert "error" in their, f"{their['query']} fails here only: {our}"
                failed += 1
                continue
            assert "error" not in their, f"{their['query']} fails there only: {their['error']}"
            aside = [(sorted(q.groupby.items()), sorted(q.metadata.items())) for q in our.quarantined]
            assert all(_is_no_quantity(item.value) for item in our.quarantined), their["query"]
            expected = [p for p in _expected(their["points"], scope) if p[:2] not in aside]
            assert _points_of(our) == expected, f"{scope} {key}: {their['query']}"
            alike += len(expected)
    return alike, failed


# --- forms of queries


def _form(**arguments: str) -> dict[str, Any]:
    return {"metadata": ["flavor"], "extra_args": {key: value for key, value in arguments.items() if value}}


FORMS = [
    _form(aggregation_method=method, range_function=over, query_function=function)
    for method, over, function in product(AGGREGATIONS, ("", *RANGE_FUNCTIONS), ("", *QUERY_FUNCTIONS))
]
AFFIXES = [
    ("", "* 2"),
    ("", "/ 3"),
    ("2 *", ""),
    ("-", ""),
    ("ceil", "* 2"),  # no PromQL: fails on both sides
    ("floor(", ")"),
    ("", "> 1"),
    ("", "> bool 1"),
    ("", "or vector(7)"),
    ("topk(2,", ")"),
    ("sort_desc(", ")"),
    ("absent(", ")"),
    ("count(", ")"),
    ("sum by (project_id) (", ")"),
    ("label_replace(", ', "flavor", "x-$1", "id", "(.*)")'),
    ("", "* on (id) group_left (name) info"),
    ("clamp_min(", ", 0.1) offset 5m"),
]  # fmt: skip


async def test_every_query_is_the_same_text(real: CloudKitty, server: LaptopPrometheus) -> None:
    forms = [*FORMS[:40], *(_form(query_prefix=prefix, query_suffix=suffix) for prefix, suffix in AFFIXES)]
    text = _metrics_yml({"plain": [*forms, {"groupby": ["project_id", "id"]}, {"groupby": [], "metadata": ["a", "b"]}]})
    theirs = _theirs(real, server, text, "P1")

    for metric in read(text, "metrics.yml", read_extra_args).metrics:
        query = usage_query(metric, metric.extra_args, "project_id", ["P1"], HOUR)  # type: ignore[arg-type]  # as read
        assert query == theirs[metric.internal_key]["query"]


async def test_every_combination_of_functions(real: CloudKitty, server: LaptopPrometheus) -> None:
    over_counters = [form for form in FORMS if "query_function" not in form["extra_args"]]
    text = _metrics_yml({"plain": FORMS, "total_total": over_counters, "odd": FORMS[:80]})
    alike, failed = await _compare(real, server, text)

    print(f"\n{alike} points are alike, {failed} queries fail alike")
    assert alike > 4000
    assert failed == 2 * sum("irange" in form["extra_args"].values() for form in [*FORMS, *over_counters, *FORMS[:80]])


async def test_every_prefix_and_suffix(real: CloudKitty, server: LaptopPrometheus) -> None:
    forms = [
        _form(query_prefix=prefix, query_suffix=suffix, aggregation_method=method, range_function=over)
        for (prefix, suffix), method, over in product(AFFIXES, ("", "sum"), ("", "delta"))
    ]
    alike, failed = await _compare(real, server, _metrics_yml({"plain": forms, "total_total": forms}))

    assert alike > 500
    assert 0 < failed < 2 * 2 * 4 * 4


async def test_labels_that_are_asked_for_and_not_there(real: CloudKitty, server: LaptopPrometheus) -> None:
    forms = [
        {"groupby": groupby, "metadata": metadata}
        for groupby, metadata in product(
            ([], ["id"], ["project_id", "id"], ["nothing"]), ([], ["flavor"], ["none", "id"])
        )
    ]
    alike, _ = await _compare(real, server, _metrics_yml({"plain": forms, "missing": forms}))

    assert alike > 50


# --- numbers

FACTORS = ["1", "2", "0.1", "1/3", '"0.1"', "1/1048576", '"1e-3"', "1e3", "1.5e+3", "-7", "0", "0x10", "1_000", "010"]
OFFSETS = ["0", "-0.5", "1/3", '"0.1"', "1e-7", "12345678901"]
MUTATIONS = [
    "NONE", "NUMBOOL", "NOTNUMBOOL", "FLOOR", "CEIL",
    "MAP, mutate_map: {0: 1, 1: 2.50, 4.0: 0.1, 0.5: '7.0', -0.5: 1e3, 3.5: 123456789.123456}",
    "MAP, mutate_map: {true: true, false: 3, 4: 1e+2}",
]  # fmt: skip


def _conversions(metric: str, extra: str = "") -> str:
    """Every factor with every offset and mutation, written as people write them."""
    lines = ["metrics:", f"  {metric}:"]
    for number, (factor, offset, mutation) in enumerate(product(FACTORS, OFFSETS, MUTATIONS)):
        lines.append(
            f"    - {{unit: u, alt_name: n{number}, groupby: [id], factor: {factor}, offset: {offset}, "
            f"mutate: {mutation}{extra}}}"
        )
    return "\n".join(lines)


async def test_every_conversion_and_mutation_to_the_last_digit(real: CloudKitty, server: LaptopPrometheus) -> None:
    alike, failed = await _compare(real, server, _conversions("plain"))

    print(f"\n{alike} converted points are alike")
    assert (alike, failed) == (len(FACTORS) * len(OFFSETS) * len(MUTATIONS) * 9, 0)


def test_numbers_of_gnocchi_to_the_last_digit(real: CloudKitty) -> None:
    """Given floats as Gnocchi answers them; then factor, offset and mutation make the same 28 digits of them."""
    chance = random.Random(5)
    raw = [0.0, 1.0, 4.0, 0.1, 10.0, 13287936.0, -2.5, 1e15, 1e-12, *(chance.uniform(-1e9, 1e9) for _ in range(30))]
    text = _conversions("m", ", extra_args: {resource_type: x}")
    theirs = real.ask("gnocchi_numbers", metrics_yml=text, raw=raw)["quantities"]

    for metric in read(text, "metrics.yml").metrics:
        ours = [str(quantity(value, metric, "cloudkitty", GNOCCHI)) for value in raw]
        assert ours == theirs[metric.internal_key], metric


def test_what_gnocchi_has_no_number_of_is_no_quantity_here(real: CloudKitty) -> None:
    """Given NaN; then CloudKitty takes it as it is or as "on", or stops; here it is never a quantity."""
    text = (
        "metrics: {m: ["
        + ", ".join(
            f"{{unit: u, alt_name: {m}, mutate: {m}, extra_args: {{resource_type: x}}}}"
            for m in ("NONE", "NUMBOOL", "CEIL")
        )
        + "]}"
    )
    theirs = real.ask("gnocchi_numbers", metrics_yml=text, raw=[float("nan")])["quantities"]

    assert theirs == {
        "m@#CEIL": ["ValueError: cannot convert NaN to integer"],
        "m@#NONE": ["NaN"],
        "m@#NUMBOOL": ["1.0"],
    }
    for metric in read(text, "metrics.yml").metrics:
        with pytest.raises(QuantityError):
            quantity(float("nan"), metric, "cloudkitty", GNOCCHI)


# --- what is left out

EXPRESSIONS = [
    "False",
    "True",
    'datapoint.get("vol", {}).get("qty", 0) == 0',  # of CloudKitty's documentation
    'datapoint.get("metadata", {}).get("flavor") == "m1"',
    "datapoint['vol']['qty'] > 1 and datapoint['vol']['unit'] == 'u'",
    "datapoint['vol']['qty'] * 2 - 1 < 0 or datapoint['groupby']['id'].startswith('t')",
    "datapoint['groupby']['id'] in ('one', 'four')",
    "datapoint['metadata']['flavor']",
    "not datapoint['metadata']['flavor'].isalnum()",
    "1 <= datapoint['vol']['qty'] <= 4",
    "datapoint['vol']['qty'] % 1 == 0",
    "float(datapoint['vol']['qty']) / 3 > 0.1",
    "round(datapoint['vol']['qty'], 2) == 1",
    "len(datapoint['groupby']) == 6",
    "datapoint['groupby']['month'] == '1' and datapoint['groupby']['day_of_the_year'] == '5'",
    "datapoint['groupby']['week_of_the_year'] + datapoint['groupby']['year'] == '012026'",
    "int(datapoint['vol']['qty']) ** 2 == 16 if datapoint['vol']['qty'] < 100 else abs(-1) > 1",
    "datapoint['metadata']['nothing'] == 1",  # fails on both sides
    "datapoint['vol']['qty'] * 0.5 > 1",
    "datapoint['groupby']['id'] > 1",
    "1 / datapoint['vol']['qty'] > 0.5",  # fails for one point
]


async def test_skip_expressions_leave_out_the_same_points(real: CloudKitty, server: LaptopPrometheus) -> None:
    """Where CloudKitty's period fails for one point, here that point is put aside and the others are decided."""
    text = _metrics_yml(
        {"plain": [{"metadata": ["flavor"], "skip_datapoints_expression": text} for text in EXPRESSIONS]}
    )
    theirs, ours = _theirs(real, server, text, "P1"), await _ours(server, text)
    failing = []
    for number, expression in enumerate(EXPRESSIONS):
        their, our = theirs[f"plain@#plain {number}"], ours["P1", f"plain@#plain {number}"]
        assert isinstance(our, Answer)
        assert len(our.samples) + our.skipped + len(our.quarantined) == len(their["points"]) == 8
        if isinstance(their["kept"], str):
            failing.append(number)
            assert our.quarantined, f"{expression} fails there only: {their['kept']}"
        else:
            assert not our.quarantined, expression
            assert _points_of(our) == _expected([their["points"][n] for n in their["kept"]], "P1"), expression
    assert failing == [17, 18, 19, 20]


async def test_the_expression_of_the_installation_counts_for_metrics_without_their_own(
    real: CloudKitty, server: LaptopPrometheus
) -> None:
    default = "datapoint['vol']['qty'] < 1"
    text = _metrics_yml(
        {
            "plain": [
                {},
                {"skip_datapoints_expression": "False"},
                {"skip_datapoints_expression": "datapoint['vol']['qty'] > 1"},
            ]
        }
    )
    theirs, ours = _theirs(real, server, text, "P1", default_skip=default), await _ours(server, text, default)
    counts = []
    for number in range(3):
        their, our = theirs[f"plain@#plain {number}"], ours["P1", f"plain@#plain {number}"]
        assert isinstance(our, Answer)
        assert _points_of(our) == _expected([their["points"][n] for n in their["kept"]], "P1")
        counts.append(len(our.samples))
    assert counts[1] == 8
    assert len(set(counts)) == 3
