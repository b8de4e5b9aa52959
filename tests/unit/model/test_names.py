"""Labels, line ids, the metric catalog, and the partition of a key."""

from __future__ import annotations

from hashlib import blake2b

import pytest

from rater.model.errors import RaterError, RejectedError
from rater.model.labels import canonical_series, check_labels, label_text, line_id, series_labels
from rater.model.metric import Aggregation, Catalog, CatalogError, Coverage, MetricSpec
from rater.model.partition import partition_of


def test_a_series_has_one_text_whatever_the_order_of_its_labels() -> None:
    series = canonical_series({"b": 1, "a": "ü"}, {"z": None, "y": True, "x": 1.0})
    assert series == '[{"a":"ü","b":1},{"x":1.0,"y":true,"z":null}]'.encode()
    assert series == canonical_series({"a": "ü", "b": 1}, {"x": 1.0, "y": True, "z": None})
    assert series_labels(series) == ({"a": "ü", "b": 1}, {"x": 1.0, "y": True, "z": None})


def test_values_of_different_types_are_different_labels() -> None:
    values = ["1", 1, 1.0, True, None, "", "true", 0, False]
    assert len({canonical_series({"v": value}, {}) for value in values}) == len(values)
    assert canonical_series({"v": 1}, {}) != canonical_series({}, {"v": 1})


@pytest.mark.parametrize(
    ("value", "text"), [("Abc", "Abc"), (1, "1"), (1.0, "1.0"), (True, "True"), (None, "None"), ("", "")]
)
def test_a_label_is_matched_by_the_text_python_gives_it(value: str | float | None, text: str) -> None:
    assert label_text(value) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 2**64, -(2**63) - 1])
def test_a_number_that_cannot_be_written_is_refused(value: float) -> None:
    with pytest.raises(RejectedError, match=f"label 'n' is {value}: a label must be a text, a finite number of 64"):
        check_labels({"a": "b", "n": value})
    for groupby, metadata in (({"n": value}, {}), ({}, {"n": value})):
        with pytest.raises(RejectedError):
            canonical_series(groupby, metadata)


def test_numbers_at_the_bounds_are_taken() -> None:
    check_labels({"a": 2**64 - 1, "b": -(2**63), "c": 1.7e308, "d": True})


def test_the_line_id_is_the_hash_of_scope_metric_and_series_and_never_changes() -> None:
    """The numbers are those that stand in every store: another result here loses the identity of all lines."""
    series = canonical_series({"id": "vm1"}, {"flavor": "tiny"})
    assert line_id("A", "cpu", series).hex() == "2fce554bb7ee94a01dbdf522401eeef2"
    text = b'["A","cpu",{"id":"vm1"},{"flavor":"tiny"}]'
    assert line_id("A", "cpu", series) == blake2b(text, digest_size=16).digest()
    assert line_id("", "", canonical_series({}, {})) == blake2b(b'["","",{},{}]', digest_size=16).digest()
    assert len({line_id(*names, series) for names in (("A", "cpu"), ("B", "cpu"), ("A", "gpu"), ("Ac", "pu"))}) == 4


def test_a_catalog_finds_metrics_by_their_public_name() -> None:
    cpu, disk = MetricSpec("cpu"), MetricSpec("disk", "GiB", Aggregation.MAX, Coverage.SAMPLES, 300)
    catalog = Catalog(iter([disk, cpu]))
    assert (catalog.get("cpu"), catalog.get("disk"), catalog.get("gpu")) == (cpu, disk, None)
    assert (catalog.names(), len(catalog)) == (["cpu", "disk"], 2)
    assert (cpu.unit, cpu.aggregation, cpu.proof, cpu.resolution) == (
        "undefined",
        Aggregation.SUM,
        Coverage.COLLECTION,
        60,
    )


def test_a_metric_declared_twice_is_an_error() -> None:
    with pytest.raises(CatalogError, match="metric 'cpu' is declared twice: give one of them another alt_name"):
        Catalog([MetricSpec("cpu"), MetricSpec("cpu", unit="h")])
    assert issubclass(CatalogError, RaterError)


@pytest.mark.parametrize(
    ("key", "expected"),
    [  # 32-bit murmur2 as Kafka's own clients give it: of their unit tests, and of tails of one, two and three bytes
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
        (b"", 275646681),
    ],
)
def test_keys_go_where_kafka_puts_them(key: bytes, expected: int) -> None:
    positive = expected & 0x7FFFFFFF
    for partitions in (1, 2, 8, 12, 1000):
        assert partition_of(key, partitions) == positive % partitions
    assert partition_of(key, 2**31) == positive
