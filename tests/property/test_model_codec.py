"""Wire records come back as they were, and no bytes at all can do more than be refused."""

from __future__ import annotations

import json
from decimal import Decimal

from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from rater.model.codec import (
    JSON,
    MSGPACK,
    decode_alert,
    decode_rated,
    decode_usage,
    encode_json,
    encode_msgpack,
    quantity_fault,
)
from rater.model.errors import RejectedError
from rater.model.interval import Interval
from rater.model.labels import Labels, canonical_series, line_id, series_labels
from rater.model.rated import (
    Alert,
    AlertKind,
    ClosedBy,
    CollectionRef,
    FrameStatus,
    Gap,
    Line,
    MetricCoverage,
    MetricTotal,
    QuarantinedPoint,
    RatedFrame,
)
from rater.model.schema import generate
from rater.model.usage import Collection, Sample, UsageRecord
from tests.property.wire import collections, labels, names, quantities, usage_records

SCHEMAS = {name: Draft202012Validator(json.loads(text)) for name, text in generate().items()}
small = st.integers(-1, 2**53)
ids = st.integers(0, 2**128 - 1).map(lambda n: f"{n:032x}")
spans = st.lists(st.builds(Interval, small, small), max_size=2)
frames = st.builds(
    RatedFrame,
    scope_id=names,
    period_begin=small,
    period_end=small,
    revision=small,
    status=st.sampled_from(FrameStatus),
    closed_by=st.sampled_from(ClosedBy),
    weak=st.booleans(),
    rule_version=small,
    closed_at=small,
    part=small,
    parts=small,
    lines=st.lists(st.builds(Line, ids, names, names, quantities, quantities, labels, labels), max_size=2),
    totals=st.lists(st.builds(MetricTotal, names, names, quantities, quantities, small), max_size=2),
    coverage=st.lists(
        st.builds(
            MetricCoverage,
            names,
            names,
            spans,
            spans,
            st.sampled_from(["proven", "weak"]),
            st.lists(st.builds(CollectionRef, names, small, small, small, small), max_size=1),
        ),
        max_size=1,
    ),
    gaps=st.lists(st.builds(Gap, ids, names, names, small, small, names), max_size=1),
    quarantined=st.lists(st.builds(QuarantinedPoint, names, names, names, names, labels, labels), max_size=1),
)
alerts = st.builds(
    Alert, ids, st.sampled_from(AlertKind), names, names, names, small, small, small, small, small, names
)


@given(usage_records)
def test_usage_comes_back_from_both_forms_and_is_valid(record: UsageRecord) -> None:
    text = encode_json(record)
    for found in (decode_usage(text, JSON), decode_usage(encode_msgpack(record), MSGPACK)):
        assert found == record
        assert encode_json(found) == text  # also where two values are equal and not the same: 1.0, True, -0
    assert list(SCHEMAS["usage.json"].iter_errors(json.loads(text))) == []


@given(frames, alerts)
def test_what_rater_publishes_comes_back_from_both_forms_and_is_valid(frame: RatedFrame, alert: Alert) -> None:
    for record, decode, schema in ((frame, decode_rated, "rated.json"), (alert, decode_alert, "alerts.json")):
        text = encode_json(record)
        assert encode_json(decode(text, JSON)) == encode_json(decode(encode_msgpack(record), MSGPACK)) == text
        assert decode(text, JSON) == record
        assert list(SCHEMAS[schema].iter_errors(json.loads(text))) == []


@given(st.binary(max_size=60), st.sampled_from([JSON, MSGPACK]))
@example(b"\xdf\xff\xff\xff\xff", MSGPACK)
@example(b'{"version":1e999}', JSON)
def test_any_bytes_are_read_or_refused(raw: bytes, form: str) -> None:
    _read_or_refuse(raw, form)


@given(usage_records, st.integers(0, 2000), st.binary(max_size=3), st.sampled_from([JSON, MSGPACK]))
def test_a_damaged_record_is_read_or_refused(record: UsageRecord, place: int, put: bytes, form: str) -> None:
    raw = encode_json(record) if form == JSON else encode_msgpack(record)
    place %= len(raw)
    _read_or_refuse(raw[:place] + put + raw[place + len(put) :], form)


def _read_or_refuse(raw: bytes, form: str) -> None:
    try:
        record = decode_usage(raw, form)
    except RejectedError:
        return
    assert decode_usage(encode_json(record), JSON) == record


texts = st.sampled_from(
    [
        "0",
        "1",
        "-1e30",
        "1e30",
        "1e-100",
        "0e9999",
        "NaN",
        "sNaN",
        "inf",
        "-inf",
        "1e31",
        "1e-101",
        "0e-101",
        "9e999999",
    ]
)


@given(st.lists(st.one_of(texts.map(Decimal), quantities, st.decimals()), max_size=5))
def test_a_part_is_taken_exactly_if_each_of_its_quantities_is(some: list[Decimal]) -> None:
    # given
    record = Collection("s", "A", "m", 0, 9, 1, "c", "p", 0, series=[], samples=[Sample(0, 0, 0, qty) for qty in some])
    raw = encode_msgpack({**json.loads(encode_json(record)), "series": [{}]})
    first = next((f"samples[{n}] has a quantity that {f}" for n, q in enumerate(some) if (f := quantity_fault(q))), "")

    # when
    try:
        decode_usage(raw, MSGPACK)
        reason = ""
    except RejectedError as fault:
        reason = str(fault)

    # then
    assert reason == first


@given(labels, labels, labels, labels, names, names)
def test_a_series_is_known_by_its_content(
    groupby: Labels, metadata: Labels, other: Labels, more: Labels, scope: str, metric: str
) -> None:
    series, second = canonical_series(groupby, metadata), canonical_series(other, more)
    back = series_labels(series)
    assert back == (groupby, metadata)
    assert canonical_series(*back) == series
    turned = dict(reversed(list(groupby.items()))), dict(reversed(list(metadata.items())))
    assert canonical_series(*turned) == series
    assert (line_id(scope, metric, series) == line_id(scope, metric, second)) is (series == second)
    assert line_id(scope, metric, series) != line_id(scope + metric, metric, series)


@given(collections())
def test_a_collection_survives_the_trip_of_a_pusher_by_hand(record: Collection) -> None:
    """JSON by a program that knows nothing of the structs: keys in another order, defaults spelled out."""
    fields = json.loads(encode_json(record))
    fields.setdefault("note", "")
    fields.setdefault("version", 1)
    turned = json.dumps(dict(reversed(list(fields.items()))), indent=1).encode()
    assert decode_usage(turned, JSON) == record
