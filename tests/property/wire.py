"""Strategies for wire records: any text, label and number that a struct can hold."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import strategies as st

from rater.model.codec import MAX_MAGNITUDE
from rater.model.interval import Interval
from rater.model.labels import Labels, LabelValue
from rater.model.usage import (
    Collection,
    CollectionFailed,
    FrameForced,
    GapAccepted,
    QuarantinedItem,
    Sample,
    ScopePlan,
    Series,
)

FIRST, LAST = 0, 253_402_300_800

names = st.text(min_size=1, max_size=8)
label_values: st.SearchStrategy[LabelValue] = st.one_of(
    st.text(max_size=6),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
)
labels: st.SearchStrategy[Labels] = st.dictionaries(st.text(max_size=4), label_values, max_size=3)
quantities: st.SearchStrategy[Decimal] = st.one_of(
    st.decimals(-MAX_MAGNITUDE, MAX_MAGNITUDE, allow_nan=False, allow_infinity=False, places=9),
    st.builds(lambda digits, places: Decimal(digits).scaleb(-places), st.integers(), st.integers(0, 100)),
    st.sampled_from([Decimal(text) for text in ("0", "-0", "1e30", "1e-100", "0e-50", "1.500", "0e7")]),
).filter(lambda qty: -MAX_MAGNITUDE <= qty <= MAX_MAGNITUDE)


@st.composite
def collections(draw: st.DrawFn) -> Collection:
    begin = draw(st.integers(FIRST, LAST - 10))
    end = begin + draw(st.integers(1, 10))
    within = st.integers(begin, end - 1)
    series = draw(st.lists(st.builds(Series, labels, labels), min_size=1, max_size=3))
    samples = st.builds(
        lambda number, at, length, qty: Sample(number, at, at + length, qty),
        st.integers(0, len(series) - 1),
        within,
        st.integers(0, 3),
        quantities,
    )
    parts = draw(st.integers(1, 3))
    return Collection(
        source=draw(names),
        scope_id=draw(names),
        metric=draw(names),
        begin=begin,
        end=end,
        attempt=draw(st.integers(0, 2**53)),
        collection_id=draw(names),
        producer_id=draw(names),
        sequence=draw(st.integers(0, 2**53)),
        unit=draw(names),
        part=draw(st.integers(0, parts - 1)),
        parts=parts,
        covers=draw(st.lists(within.map(lambda at: Interval(at, min(at + 2, end))), max_size=3)),
        proof=draw(st.sampled_from(["proven", "weak"])),
        series=series,
        samples=draw(st.lists(samples, max_size=4).map(lambda some: [s for s in some if s.end <= LAST])),
        quarantined=draw(st.lists(st.builds(QuarantinedItem, names, names, labels, labels), max_size=2)),
        note=draw(st.text(max_size=9)),
    )


ranges = st.integers(FIRST, LAST - 9).flatmap(
    lambda begin: st.integers(begin + 1, begin + 9).map(lambda end: (begin, end))
)
plans = st.builds(
    lambda source, scope, span, is_open, metrics: ScopePlan(
        source, scope, span[0], None if is_open else span[1], metrics
    ),
    names,
    names,
    ranges,
    st.booleans(),
    st.lists(names, max_size=3),
)
failures = st.builds(
    lambda source, scope, metric, span, reason: CollectionFailed(source, scope, metric, *span, reason),
    names,
    names,
    names,
    ranges,
    st.text(max_size=9),
)
forces = st.builds(FrameForced, names, st.integers(FIRST, LAST), names, st.text(max_size=9))
acceptances = st.builds(
    lambda number, scope, metric, source, span, author, reason: GapAccepted(
        f"{number:032x}", scope, metric, source, span[0], *span, author, reason
    ),
    st.integers(0, 2**128 - 1),
    names,
    names,
    names,
    ranges,
    names,
    names,
)
usage_records = st.one_of(collections(), plans, failures, forces, acceptances)
