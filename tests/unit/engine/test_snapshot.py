"""The state as bytes and back, and the snapshots that nobody may go on from."""

from __future__ import annotations

import msgspec
import pytest

from rater.engine import (
    EngineSettings,
    PartitionState,
    SnapshotError,
    apply,
    check_catalog,
    decide,
    decode_snapshot,
    encode_snapshot,
)
from rater.engine.snapshot import SNAPSHOT_VERSION
from rater.model.errors import RaterError
from rater.model.metric import Aggregation, Catalog, MetricSpec
from tests.unit.engine.builders import HOUR, Bench, T, collection, failed, full_bench, push, sample

SETTINGS = EngineSettings()


def test_a_state_comes_back_as_it_was() -> None:
    # given
    state = full_bench().state
    scope = state.scopes["A"]
    for name in ("frames", "series", "plans", "seen", "producers", "evicted"):
        assert getattr(scope, name), f"nothing in {name}: the test lost its point"
    assert {item.topic for item in state.outbox} == {"alerts", "rejected", "rated"}

    # when
    raw = encode_snapshot(state)
    copy = decode_snapshot(raw, 0, 1, SETTINGS)

    # then
    assert copy == state
    assert encode_snapshot(copy) == raw


def test_a_state_that_came_back_goes_on_like_the_other() -> None:
    # given
    bench = full_bench()
    copy = decode_snapshot(encode_snapshot(bench.state), 0, 1, SETTINGS)

    # when the same records come to both
    for record in (collection(T + HOUR, T + 2 * HOUR, attempt=2, qty="3"), failed(), push(sample(T + HOUR + 90))):
        added = bench.log.add(record)
        for state in (bench.state, copy):
            apply(state, added, bench.context)

    # then
    counts = [decide(state, T + 9 * HOUR, bench.rules, bench.context) for state in (bench.state, copy)]
    assert counts[0] == counts[1] > 0
    assert copy.outbox == bench.state.outbox
    assert copy == bench.state


def test_the_empty_state_comes_back() -> None:
    state = PartitionState(3, 8, 3600)
    assert decode_snapshot(encode_snapshot(state), 3, 8, SETTINGS) == state


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "is broken: Input data was truncated"),
        (b"\xc1", "is broken"),
        (b"{}", "is broken: Expected `array`, got `int`"),
        (encode_snapshot(PartitionState(3, 8, 3600))[:-1], "is broken: Input data was truncated"),
        (msgspec.msgpack.encode([1, "state"]), "is broken: Expected `array`, got `str`"),
        (msgspec.msgpack.encode([1]), "is broken"),
    ],
)
def test_a_broken_snapshot_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(SnapshotError, match="the snapshot of partition 3 is broken") as caught:
        decode_snapshot(raw, 3, 8, SETTINGS)
    assert reason in str(caught.value)
    assert str(caught.value).endswith("See `rater recover`")


@pytest.mark.parametrize("version", [0, SNAPSHOT_VERSION + 1])
def test_a_snapshot_of_another_release_is_refused_before_it_is_read(version: int) -> None:
    raw = msgspec.msgpack.encode([version, {"anything": 1}])
    with pytest.raises(
        SnapshotError, match=f"has version {version}, this rater reads versions up to {SNAPSHOT_VERSION}"
    ):
        decode_snapshot(raw, 3, 8, SETTINGS)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (PartitionState(4, 8, 3600), "the snapshot for partition 3 is one of partition 4"),
        (PartitionState(3, 4, 3600), "topic usage had 4 partitions and now has 8"),
        (PartitionState(3, 8, 300), "the state was built with engine.period 300, rater.yaml says 3600"),
    ],
)
def test_a_snapshot_made_under_other_terms_is_refused(state: PartitionState, reason: str) -> None:
    with pytest.raises(SnapshotError, match=reason):
        decode_snapshot(encode_snapshot(state), 3, 8, SETTINGS)


def test_points_are_not_gone_on_with_under_another_aggregation() -> None:
    # given a state with a sum, and what was remembered of a metric that has left it
    bench = Bench()
    bench.take(collection())
    bench.state.aggregations["gone"] = Aggregation.MAX

    # then the same catalog takes it, also one that does not know the metric any more; the other one is forgotten
    check_catalog(bench.state, bench.context.catalog)
    check_catalog(bench.state, Catalog([]))
    assert bench.state.aggregations == {"cpu": Aggregation.SUM}

    # but one that would count instead is refused, with what to do
    with pytest.raises(SnapshotError, match="put `aggregation: sum` back"):
        check_catalog(bench.state, Catalog([MetricSpec("cpu", aggregation=Aggregation.COUNT)]))


def test_snapshot_errors_stand_in_the_tree_of_errors() -> None:
    assert issubclass(SnapshotError, RaterError)
