"""The arithmetic of source `gnocchi`: granules that become a quantity, resources that several had, dark time."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.errors import SourceError
from collectors.evidence import FOREVER
from collectors.gnocchi.answer import Group, Point, policy_of, seconds_of
from collectors.gnocchi.args import GnocchiArgs, combination, needed_methods, operation, read_extra_args
from collectors.gnocchi.darkness import Pace, dark, missing_by_scope, off_spans, pace_of
from collectors.gnocchi.granules import combined, overlap, shared
from collectors.gnocchi.items import Item, Reading, divided, grouped, latest_revisions, missing_granules
from collectors.gnocchi.resources import Piece, resources_of
from collectors.metrics_yml import read
from collectors.times import iso
from rater.model.document import DocumentError
from rater.model.interval import Interval, clip, overlaps, seconds, subtract

T, HOUR, STEP = 1_767_607_200, 3600, 300  # 2026-01-05T10:00:00Z
PERIOD = Interval(T, T + HOUR)
SEEN = Interval(T - HOUR, T + 2 * HOUR)
PACE = Pace(300.0, 300.0, 2.5)
ALWAYS = (0.0, float(FOREVER))

values = st.dictionaries(
    st.integers(0, 11).map(lambda number: T + number * STEP),
    st.floats(-1e6, 1e6).map(lambda value: round(value, 9)),
    min_size=1,
)
cuts = st.lists(st.integers(1, HOUR - 1), max_size=4, unique=True).map(sorted)


# --- extra_args


def _args(text: str) -> Any:
    return (
        read(f"metrics: {{cpu: {{unit: u, extra_args: {text}}}}}", "metrics.yml", read_extra_args).metrics[0].extra_args
    )


def test_extra_args_have_cloudkittys_defaults() -> None:
    assert _args("{resource_type: instance}") == GnocchiArgs("instance", "id", "max", "max", 3600, True, "")


@pytest.mark.parametrize(
    ("text", "path", "fault"),
    [
        ("{}", "metrics.cpu.extra_args", "'resource_type' is missing"),
        ("null", "metrics.cpu.extra_args", "Gnocchi needs at least the resource_type"),
        ("{resource_type: x, force_granularity: -1}", "metrics.cpu.extra_args.force_granularity", "must be from 0"),
        ("{resource_type: x, aggregation_method: avg}", "metrics.cpu.extra_args.aggregation_method", "expected one of"),
        ("{resource_type: x, granules: all}", "metrics.cpu.extra_args.granules", "unknown key 'granules'"),
    ],
)
def test_a_fault_is_named_with_its_place(text: str, path: str, fault: str) -> None:
    with pytest.raises(DocumentError) as refused:
        _args(text)
    (problem,) = refused.value.problems
    assert (problem.path, problem.line) == (path, 1)
    assert fault in problem.message


def test_a_metric_without_extra_args_is_named_too() -> None:
    with pytest.raises(DocumentError) as refused:
        read("metrics:\n  cpu:\n    unit: u\n", "metrics.yml", read_extra_args)
    assert (refused.value.problems[0].path, refused.value.problems[0].line) == ("metrics.cpu.extra_args", 3)


def test_placeholders_are_replaced_in_cloudkittys_order() -> None:
    query = "(aggregate RE_AGGREGATION_METHOD (metric METRIC_NAME AGGREGATION_METHOD))"
    args = GnocchiArgs("x", aggregation_method="rate:mean", re_aggregation_method="sum", custom_query=query)
    assert operation("cpu", args) == "(aggregate sum (metric cpu rate:mean))"
    assert needed_methods("cpu", args) == ["rate:mean"]
    assert operation("cpu", GnocchiArgs("x", aggregation_method="last")) == [
        "aggregate",
        "max",
        ["metric", "cpu", "last"],
    ]


@pytest.mark.parametrize(
    ("arguments", "how"),
    [
        ({"aggregation_method": "sum"}, "sum"),
        ({"aggregation_method": "count"}, "sum"),
        ({"aggregation_method": "rate:sum"}, "sum"),
        ({"aggregation_method": "rate:mean"}, "mean"),
        ({"aggregation_method": "rate:mean", "re_aggregation_method": "rate:max"}, "sum"),
        ({"aggregation_method": "last"}, "last"),
        ({"aggregation_method": "median"}, None),
        ({"aggregation_method": "95pct"}, None),
        ({"custom_query": "(metric a max)"}, None),
    ],
)
def test_how_granules_become_one_quantity(arguments: dict[str, Any], how: str | None) -> None:
    assert combination(GnocchiArgs("x", **arguments)) == how


# --- granules


@given(values)
def test_granules_together_are_what_one_of_that_length_would_be(of: dict[int, float]) -> None:
    ordered = [of[begin] for begin in sorted(of)]
    exact = [Fraction(Decimal(repr(value))) for value in ordered]
    assert Fraction(str(combined(ordered, "sum"))) == sum(exact)
    for how, value in (("max", max(ordered)), ("min", min(ordered)), ("last", ordered[-1]), ("first", ordered[0])):
        assert float(combined(ordered, how)) == value  # type: ignore[arg-type]  # one of them
    assert abs(Fraction(str(combined(ordered, "mean"))) - sum(exact) / len(exact)) <= Fraction(1, 10**20)


@given(values, cuts, st.sampled_from(["sum", "mean", "max", "min", "last", "first"]))
def test_shares_of_all_add_up_and_no_hour_counts_twice(of: dict[int, float], at: list[int], how: Any) -> None:
    """Whoever had a resource for a part of the period; where all granules are alike the shares are those of time."""
    edges = [T, *(T + cut for cut in at), T + HOUR]
    spans = [Interval(*pair) for pair in pairwise(edges)]
    shares = Fraction(0)
    for span in spans:
        weights = {begin: overlap(begin, STEP, [span]) for begin in of}
        if any(weights.values()):
            shares += Fraction(shared(of, weights, how))
    alike = dict.fromkeys(of, 3.0)
    weights = {begin: overlap(begin, STEP, spans[:1]) for begin in of}
    if how in ("sum", "mean"):
        exact = Fraction(shared(of, dict.fromkeys(of, Fraction(1)), how))
        assert abs(shares - exact) <= Fraction(1, 10**15)
    elif any(weights.values()):
        assert abs(Fraction(shared(alike, weights, how)) - 3 * sum(weights.values()) / len(of)) <= Fraction(1, 10**20)


def _reading(**changes: Any) -> Reading:
    fields: dict[str, Any] = {
        "names": ("id", "project_id"), "period": PERIOD, "granules": "all", "how": "max", "setting": "collect.x",
    } | changes  # fmt: skip
    return Reading(**fields)


def test_all_granules_or_the_first() -> None:
    group = _with(Group({"id": "a", "project_id": "p"}), [(T, 1.5), (T + 300, 2.5)])
    (every,), (first,) = grouped([group], _reading()), grouped([group], _reading(granules="first"))
    assert (every.raw, every.key, every.begins) == ("2.5", ("a", "p"), frozenset({T, T + 300}))
    assert first.raw == 1.5
    with pytest.raises(SourceError, match=r"set collect\.x"):
        grouped([group], _reading(how=None))


def test_granules_before_the_period_are_left_out() -> None:
    """A difference needs the granule before; what Gnocchi shows of that time is another period's."""
    group = _with(Group({"id": "a"}), [(T - 300, 7.0), (T, 1.0), (T + 300, 2.0)])
    (item,) = grouped([group], _reading(how="sum"))
    assert item.raw == "3"


def test_granules_of_two_lengths_are_no_answer() -> None:
    group = _with(Group({"id": "a"}), [(T, 1.0)], more=[Point(iso(T), 3600, 5.0)])
    with pytest.raises(SourceError, match="granules of several lengths"):
        grouped([group], _reading())


def _with(group: Group, points: list[tuple[int, float]], more: list[Point] | None = None) -> Group:
    made = [Point(iso(begin), STEP, value) for begin, value in points] + (more or [])
    measures = type(group.measures)(type(group.measures.measures)(made))
    return Group(group.group, measures)


def test_a_resource_that_two_had_is_divided_by_time() -> None:
    group = _with(Group({"id": "a"}), [(T + number * STEP, 4.0) for number in range(12)])
    spans = {("a", "p1"): [Interval(T, T + 1350)], ("a", "p2"): [Interval(T + 1350, T + HOUR)]}
    assert [item.raw for item in divided([group], {"a": spans}, _reading())] == ["1.5", "2.5"]
    assert [item.raw for item in divided([group], {"a": spans}, _reading(how="sum"))] == ["18", "30"]


def test_latest_revisions_take_all_of_a_resource() -> None:
    names = ("id", "revision_start", "project_id")
    items = [
        Item(("a", "2026-01-05T10:30:00", "p"), "0.2", frozenset({T})),
        Item(("a", "2026-01-05T09:00:00", "p"), 0.1, frozenset({T})),
        Item(("b", "2026-01-05T09:00:00", "p"), 7.0, frozenset({T})),
    ]
    exact = latest_revisions(items, _reading(names=names), like_cloudkitty=False)
    assert [(item.key[1], item.raw) for item in exact] == [("2026-01-05T10:30:00", "0.3"), ("2026-01-05T09:00:00", 7.0)]
    floats = latest_revisions(items, _reading(names=names), like_cloudkitty=True)
    assert floats[0].raw == 0.2 + 0.1
    assert latest_revisions(items, _reading(names=("project_id",)), like_cloudkitty=True) == items


def test_granules_that_were_measured_and_have_no_value() -> None:
    wanted = [T, T + 300, T + 900]
    assert missing_granules(wanted, 300, [PERIOD], {T}) == [T + 300, T + 900]
    assert missing_granules(wanted, 300, [Interval(T, T + 600)], {T}) == [T + 300]


# --- archive policies


def test_policies_as_gnocchi_shows_them() -> None:
    row = {
        "name": "p",
        "definition": [
            {"granularity": "1:00:00", "timespan": "90 days, 0:00:00"},
            {"granularity": "0:05:00", "timespan": "1 day, 0:00:00"},
        ],
        "aggregation_methods": ["max", "rate:mean", "last"],
    }  # fmt: skip
    policy = policy_of(row)
    assert [(one.granularity, one.timespan) for one in policy.definitions] == [(300, 86400), (3600, 90 * 86400)]
    assert (policy.finest(3600).granularity, policy.finest(2 * 86400).granularity) == (300, 3600)
    assert policy.finest(1e9).granularity == 3600
    assert policy.marker == "last"
    assert seconds_of("0:00:00.500000") == 0.5
    with pytest.raises(ValueError, match="no stretch of time"):
        seconds_of("soon")


# --- resources


def _row(begin: int, end: int | None, ended: int | None = None, **attributes: Any) -> dict[str, Any]:
    return {
        "id": "r", "revision_start": iso(begin), "revision_end": None if end is None else iso(end),
        "started_at": iso(T - HOUR), "ended_at": None if ended is None else iso(ended), "metrics": {"cpu": "m1"},
        "project_id": "p1", **attributes,
    }  # fmt: skip


def test_an_end_that_was_told_late_is_when_it_was() -> None:
    (resource,) = resources_of([_row(T - HOUR, T + 2400), _row(T + 2400, None, ended=T + 1200)])
    assert resource.ended_at == T + 1200
    assert [piece.span for piece in resource.pieces(PERIOD)] == [Interval(T, T + 1200)]
    assert [piece.span for piece in resource.shares(PERIOD)] == [Interval(T, T + 2400), Interval(T + 2400, T + HOUR)]


def test_the_first_revision_counts_from_the_start_of_the_resource() -> None:
    (resource,) = resources_of([{**_row(T + 600, None), "started_at": iso(T + 300)}])
    assert [piece.span for piece in resource.pieces(PERIOD)] == [Interval(T + 300, T + HOUR)]
    assert [piece.span for piece in resource.shares(PERIOD)] == [PERIOD]


def test_a_revision_that_two_pages_show_counts_once() -> None:
    rows = [_row(T - HOUR, None), _row(T - HOUR, T + 600), _row(T + 600, None, project_id="p2")]
    (resource,) = resources_of(rows)
    owners = [(piece.attributes["project_id"], piece.span) for piece in resource.pieces(PERIOD)]
    assert owners == [("p1", Interval(T, T + 600)), ("p2", Interval(T + 600, T + HOUR))]


def test_metrics_by_name_or_pattern() -> None:
    (resource,) = resources_of([{**_row(T, None), "metrics": {"net.in": "a", "net.out": "b", "cpu": "c"}}])
    assert resource.metric_ids("cpu") == ["c"]
    assert resource.metric_ids("net.*") == ["a", "b"]
    assert resource.metric_ids("disk") == []


# --- darkness


def test_two_points_lost_are_no_gap_and_three_are() -> None:
    every = list(range(SEEN.begin, SEEN.end, STEP))
    lost_one = [at for at in every if at != T + 600]
    lost_two = [at for at in every if at not in (T + 600, T + 900)]
    assert dark(lost_one, ALWAYS, PACE, SEEN, PERIOD) == []
    assert dark(lost_two, ALWAYS, PACE, SEEN, PERIOD) == [Interval(T + 600, T + 1200)]


def test_who_never_had_a_point_is_dark_as_long_as_it_lives() -> None:
    assert dark([], ALWAYS, PACE, SEEN, PERIOD) == [PERIOD]
    assert dark([], (T + 600.0, T + 2400.0), PACE, SEEN, PERIOD) == [Interval(T + 600, T + 2400)]
    assert dark([], (T + 3300.0, float(FOREVER)), PACE, Interval(T, T + HOUR + 300), PERIOD) == []


def test_granules_as_long_as_the_period_show_a_whole_one_that_is_missing() -> None:
    coarse = Pace(3600.0, 3600.0, 2.5)
    seen = Interval(T - 4 * HOUR, T + 5 * HOUR)
    every = list(range(seen.begin, seen.end, HOUR))
    assert dark(every, ALWAYS, coarse, seen, PERIOD) == []
    assert dark([at for at in every if at != T], ALWAYS, coarse, seen, PERIOD) == [PERIOD]


def test_measures_that_begin_late_and_end_early() -> None:
    middle = list(range(T + 1500, T + 2400, STEP))
    life = (T + 300.0, T + 3500.0)
    assert dark(middle, life, PACE, SEEN, PERIOD) == [Interval(T + 300, T + 1500), Interval(T + 2400, T + 3500)]


@given(st.sets(st.integers(0, 35)), st.integers(-4000, 4000), st.integers(0, 9000))
def test_dark_time_is_lived_and_has_no_point(numbers: set[int], born: int, length: int) -> None:
    points = sorted(SEEN.begin + number * STEP for number in numbers)
    life = (float(T + born), float(T + born + length))
    found = dark(points, life, PACE, SEEN, PERIOD)
    lived = clip([Interval(T + born, T + born + length)], PERIOD)
    assert subtract(found, lived) == []
    within = [point for point in points if point + STEP > life[0] and point < life[1]]
    assert not any(overlaps(Interval(point, point + STEP), hole) for point in within for hole in found)
    bright = subtract(lived, found)
    if not within and lived and seconds(lived) >= PACE.reach:
        assert bright == []


def test_the_pace_is_the_median_distance_not_below_the_granularity() -> None:
    points = [[0, 300, 600, 1800], [0, 300], [7]]
    assert pace_of(points, 60.0, 2.5, None).interval == 300
    assert pace_of(points, 3600.0, 2.5, None).interval == 3600
    assert pace_of(points, 60.0, 2.5, 120).interval == 120
    assert pace_of([], 60.0, 2.5, None).interval == 300


def test_the_gap_is_whose_the_resource_was() -> None:
    pieces = [
        Piece(Interval(T, T + 1800), {"project_id": "a"}),
        Piece(Interval(T + 1800, T + HOUR), {"project_id": None}),
    ]
    holes = [Interval(T + 1200, T + 2400)]
    assert missing_by_scope(holes, pieces, "project_id") == {"a": [Interval(T + 1200, T + 1800)]}
    known = [Interval(T + 1200, T + 1500)]
    assert missing_by_scope(holes, pieces, "project_id", known) == {"a": [Interval(T + 1500, T + 1800)]}


def test_a_state_lasts_to_the_next_one_and_not_for_ever() -> None:
    states = [(T, 1.0), (T + 300, 4.0), (T + 600, 4.0), (T + 3000, 1.0)]
    assert off_spans(states, [4.0], PACE) == [Interval(T + 300, T + 600 + 750)]
