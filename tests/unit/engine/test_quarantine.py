"""Usage that is known but has no price: put aside and named, while its neighbours are rated."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from rater.engine import EngineContext, EngineSettings, PartitionState, apply, decide
from rater.model.codec import JSON, decode_rated
from rater.model.metric import Catalog, MetricSpec
from rater.model.rated import AlertKind, FrameStatus, MetricTotal, QuarantinedPoint
from rater.model.rules import MappingCreated, MappingRule, ModuleSet, RuleEvent, Service, ServiceCreated
from rater.model.usage import QuarantinedItem, Series
from rater.rating import Chain, RuleBook
from tests.unit.engine.builders import (
    GRACE,
    HOUR,
    HUGE,
    VM1,
    VM2,
    Bench,
    Log,
    T,
    collection,
    not_a_number,
    plan,
    price_list,
    quantities,
    sample,
)


def test_an_item_that_is_no_number_makes_its_frame_partial_and_its_neighbours_are_rated() -> None:
    # given an answer with one number and one NaN
    bench = Bench()
    bench.take(plan("cpu"), collection(qty="2", quarantined=[not_a_number("NaN", id="vm9")]), at=T + HOUR)

    # when
    frame = bench.one(T + HOUR)

    # then
    assert (frame.status, frame.gaps, quantities(frame)) == (FrameStatus.PARTIAL, [], {"vm1": 2})
    assert frame.quarantined == [QuarantinedPoint("cpu", "prom", "NaN", "not a finite number", {"id": "vm9"}, {})]
    (alert,) = bench.alerts()
    assert (alert.kind, alert.metric, alert.source, alert.revision) == (AlertKind.QUARANTINED, "cpu", "prom", 0)
    assert (alert.begin, alert.end, alert.raised_at) == (T, T + HOUR, T + HOUR)
    assert alert.reason == "1 point(s) have no price; the first: cpu NaN: not a finite number"


def test_a_frame_of_nothing_but_such_items_is_partial_and_not_empty_or_missing() -> None:
    for covers in ([], None):
        bench = Bench()
        change = {} if covers is None else {"covers": covers}
        bench.take(plan("cpu"), collection(qty=None, quarantined=[not_a_number()], **change), at=T + HOUR)
        assert bench.one(T + GRACE).status is FrameStatus.PARTIAL


def test_a_better_answer_clears_the_quarantine() -> None:
    # given
    bench = Bench()
    bench.take(plan("cpu"), collection(qty=None, quarantined=[not_a_number(id="vm1")]), at=T + HOUR)
    bench.one(T + HOUR)
    bench.alerts()

    # when
    bench.take(collection(attempt=2, qty="4"))
    frame = bench.one(T + HOUR)

    # then
    assert (frame.revision, frame.status, frame.quarantined, quantities(frame)) == (
        1,
        FrameStatus.RATED,
        [],
        {"vm1": 4},
    )
    assert bench.alerts() == []


def test_items_of_all_parts_are_kept_in_one_order_whatever_the_order_of_the_parts() -> None:
    # given
    items = [QuarantinedItem("NaN", "a", {"id": "1"}), QuarantinedItem("inf", "b", {"id": "2"})]
    for order in ((0, 1), (1, 0)):
        bench = Bench()
        bench.take(*(collection(part=n, parts=2, qty=None, quarantined=[items[n]]) for n in order))
        assert [point.value for point in bench.one(T + HOUR).quarantined] == ["NaN", "inf"]
        assert "2 point(s) have no price; the first: cpu NaN" in bench.alerts()[0].reason


def test_a_point_that_no_rule_can_read_is_put_aside() -> None:
    # given a threshold on label `size`, which is a text for one of two disks
    bench = Bench()
    bench.take(
        collection(
            metric="disk",
            unit="GiB",
            series=[Series({"id": "d1"}, {"size": "5"}), Series({"id": "d2"}, {"size": "large"})],
            samples=[sample(T, "10"), sample(T, "20", series=1)],
        )
    )

    # when
    frame = bench.one(T + HOUR)

    # then
    assert (frame.status, quantities(frame)) == (FrameStatus.PARTIAL, {"d1": 10})
    assert frame.totals == [MetricTotal("disk", "GiB", Decimal(10), Decimal(20), 1)]
    (point,) = frame.quarantined
    assert (point.metric, point.source, point.value, point.groupby) == ("disk", "", "20", {"id": "d2"})
    assert "field 'size' has thresholds, but its value 'large' is no number" in point.reason
    assert [alert.kind for alert in bench.alerts()] == [AlertKind.QUARANTINED]


def test_a_line_whose_point_can_no_longer_be_rated_is_repeated_with_zero() -> None:
    # given
    bench = Bench()
    bench.take(plan("cpu"), collection(), at=T + HOUR)
    bench.one(T + HOUR)

    # when a better answer has a quantity that no column holds
    bench.take(collection(attempt=2, samples=[sample(T, "1e30"), sample(T, "1")]))
    frame = bench.one(T + HOUR)

    # then
    assert (frame.revision, frame.status, frame.totals) == (1, FrameStatus.PARTIAL, [])
    assert (quantities(frame), len(frame.quarantined)) == ({"vm1": 0}, 1)


@pytest.mark.parametrize("sign", ["", "-"])
def test_a_quantity_beyond_the_bound_has_no_price(sign: str) -> None:
    # given two samples at the bound, whose sum is beyond it
    bench = Bench()
    bench.take(collection(series=[VM1, VM2], samples=[sample(T, f"{sign}1e30"), sample(T, f"{sign}1e30")]))

    # when
    frame = bench.one(T + HOUR)

    # then
    (point,) = frame.quarantined
    assert frame.lines == []
    assert point.value == f"{sign}2" + "0" * 30
    assert point.reason == "metric 'cpu': the quantity is beyond 1E+30"


def test_a_quantity_beyond_the_bound_by_its_last_digit_has_no_price() -> None:
    bench = Bench()
    bench.take(collection(samples=[sample(T, "1e30"), sample(T, "1e-38")]))
    assert len(bench.one(T + HOUR).quarantined) == 1


@pytest.mark.parametrize("qty", ["1.5e29", "-1.5e29"])
def test_a_price_beyond_the_bound_puts_the_point_aside(qty: str) -> None:
    # given flavor huge at 7 a unit
    bench = Bench()
    bench.take(collection(series=[HUGE, VM1], samples=[sample(T, qty), sample(T, "1", series=1)]))

    # when
    frame = bench.one(T + HOUR)

    # then
    assert quantities(frame) == {"vm1": 1}
    (point,) = frame.quarantined
    assert point.value == str(int(Decimal(qty)))
    assert re.fullmatch(r"metric 'cpu': its price -?1\.050*E\+30 is beyond 1E\+30", point.reason)


@pytest.mark.parametrize(("qty", "rated"), [("1e19", 1), ("10000000000000000001", 0), ("-1e19", 1)])
def test_a_price_at_the_bound_is_kept(qty: str, rated: int) -> None:
    # given 1e11 a unit
    service, mapping = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
    changes = (
        ModuleSet("hashmap", True),
        ServiceCreated(Service(service, "cpu")),
        MappingCreated(MappingRule(mapping, Decimal(10**11), service_id=service)),
    )
    event = RuleEvent(expected_version=0, author="test", reason="", created_at=0, changes=changes)
    book, _ = RuleBook.empty().apply(event)
    bench = Bench(Chain(book))

    # when
    bench.take(collection(qty=qty))
    frame = bench.one(T + HOUR)

    # then
    assert (len(frame.lines), len(frame.quarantined)) == (rated, 1 - rated)
    assert all(abs(line.price) == Decimal("1e30") for line in frame.lines)


def test_a_metric_that_has_left_the_catalog_is_still_rated() -> None:
    # given a state with usage of a metric that the next start does not know
    before = EngineContext(EngineSettings(), Catalog([MetricSpec("cpu")]))
    after = EngineContext(EngineSettings(), Catalog([]))
    state = PartitionState(0, 1, HOUR)
    apply(state, Log().add(collection(qty="3")), before)

    # when
    decide(state, T + HOUR, price_list(), after)

    # then
    frame = decode_rated(state.outbox[0].value, JSON)
    assert [(line.metric, line.unit, line.qty) for line in frame.lines] == [("cpu", "undefined", 3)]


def test_a_source_gone_mad_is_named_in_part_and_counted_as_a_whole() -> None:
    # given an answer with 600 items that are no numbers
    bench = Bench()
    items = [QuarantinedItem("NaN", "is no finite number", {"id": f"vm{n:03}"}) for n in range(600)]
    bench.take(collection(quarantined=items))

    # when its hour closes
    (frame,) = bench.decide(T + HOUR)

    # then 500 stand one by one, and the others as a number
    assert len(frame.quarantined) == 501
    assert [point.groupby["id"] for point in frame.quarantined[:500]] == [f"vm{n:03}" for n in range(500)]
    assert frame.quarantined[-1].reason.startswith("and 100 more points")
    assert frame.status is FrameStatus.PARTIAL
