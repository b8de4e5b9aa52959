"""How an answer is cut into records."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.errors import PublishError
from collectors.parts import MAX_PART_BYTES, CollectionDraft, encode_parts
from rater.model.codec import MSGPACK, decode_usage
from rater.model.interval import Interval
from rater.model.usage import Collection, QuarantinedItem, Sample, Series


def _draft(samples: list[Sample], series: list[Series], **more: object) -> CollectionDraft:
    return CollectionDraft("s", "p1", "m", 0, 3600, 7, unit="u", series=series, samples=samples, **more)


def _decoded(draft: CollectionDraft, first: int = 0) -> list[Collection]:
    records = [decode_usage(record, MSGPACK) for record in encode_parts(draft, "c1", "me", first)]
    assert all(isinstance(record, Collection) for record in records)
    return records


@given(st.lists(st.integers(0, 5), max_size=3000), st.integers(0, 10**6))
def test_parts_hold_every_sample_once_and_stay_near_500(owners: list[int], first: int) -> None:
    """Given samples of six series; when cut; then the parts together are the answer, in order."""
    series = [Series({"id": str(number)}, {}) for number in range(6)]
    samples = [Sample(owner, at % 3600, 3600, Decimal(at)) for at, owner in enumerate(owners)]

    parts = _decoded(_draft(samples, series), first)

    assert [part.part for part in parts] == list(range(len(parts)))
    assert {part.parts for part in parts} == {len(parts)}
    assert [part.sequence for part in parts] == list(range(first, first + len(parts)))
    assert [(part.series[s.series], s.begin, s.qty) for part in parts for s in part.samples] == [
        (series[s.series], s.begin, s.qty) for s in samples
    ]
    if len(samples) > 750:
        assert all(250 <= len(part.samples) <= 751 for part in parts)
    else:
        assert len(parts) == 1


def test_an_empty_answer_is_one_part_with_its_coverage() -> None:
    (part,) = _decoded(_draft([], [], covers=[Interval(0, 1800)], proof="weak", note="nothing was used"))

    assert part.covers == [Interval(0, 1800)]
    assert (part.proof, part.note, part.collection_id, part.producer_id) == ("weak", "nothing was used", "c1", "me")


def test_long_labels_make_more_parts_each_below_the_limit() -> None:
    """Given 100 series of 50 kB labels; when cut; then no record is larger than the limit and nothing is lost."""
    series = [Series({"id": str(number), "text": "x" * 50_000}, {}) for number in range(100)]
    samples = [Sample(number, 0, 3600, Decimal(1)) for number in range(100)]

    records = encode_parts(_draft(samples, series), "c1", "me", 0)

    assert max(map(len, records)) <= MAX_PART_BYTES
    held = [part.series[s.series].groupby["id"] for part in _decoded(_draft(samples, series)) for s in part.samples]
    assert held == [str(number) for number in range(100)]


def test_an_item_too_large_for_any_part_is_an_error_that_names_it() -> None:
    draft = _draft([Sample(0, 0, 3600, Decimal(1))], [Series({"id": "x" * 2 * MAX_PART_BYTES}, {})])

    with pytest.raises(PublishError, match=r"scope 'p1', metric 'm' in \[0, 3600\) is larger"):
        encode_parts(draft, "c1", "me", 0)


def test_quarantined_items_are_spread_over_the_parts_too() -> None:
    items = [QuarantinedItem("NaN", "x" * 1900, {"id": str(number)}) for number in range(1200)]

    parts = _decoded(_draft([], [], quarantined=items))

    assert len(parts) > 1
    assert [item.groupby["id"] for part in parts for item in part.quarantined] == [str(n) for n in range(1200)]
