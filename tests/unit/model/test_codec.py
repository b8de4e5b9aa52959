"""Bytes and structs: content types, versions, and the checks that need nothing but the record itself."""

from __future__ import annotations

import itertools
from decimal import Decimal

import pytest

from rater.model.codec import (
    CONTENT_TYPE,
    JSON,
    MAX_DECIMALS,
    MSGPACK,
    content_type,
    decode_alert,
    decode_rated,
    decode_usage,
    decoder,
    encode_json,
    encode_msgpack,
    quantity_fault,
    rejected_headers,
)
from rater.model.errors import RejectedError
from rater.model.interval import Interval
from rater.model.rated import Alert, AlertKind, ClosedBy, FrameStatus, RatedFrame, RejectedHeaders
from rater.model.usage import Collection, CollectionFailed, FrameForced, GapAccepted, Sample, ScopePlan, Series

T = 1_767_225_600
COLLECTION = Collection(
    source="prom",
    scope_id="projÄ",
    metric="cpu",
    begin=T,
    end=T + 3600,
    attempt=1,
    collection_id="c",
    producer_id="p",
    sequence=7,
    covers=[Interval(T, T + 60)],
    series=[Series({"id": "vm1", "n": 1, "x": 1.5, "b": True, "none": None})],
    samples=[Sample(0, T, T + 60, Decimal("0.10")), Sample(0, T + 60, T + 60, Decimal("1E-30"))],
)
RECORDS = [
    COLLECTION,
    ScopePlan("prom", "A", T, None, ["cpu"]),
    ScopePlan("prom", "A", T, T + 1),
    CollectionFailed("prom", "A", "cpu", T, T + 1, "timeout"),
    FrameForced("A", T, "kim", "why"),
    GapAccepted("0f" * 16, "A", "cpu", "prom", T, T + 60, T + 120, "kim", "why"),
]
FRAME = RatedFrame(
    scope_id="A",
    period_begin=T,
    period_end=T + 3600,
    revision=0,
    status=FrameStatus.EMPTY,
    closed_by=ClosedBy.COMPLETE,
    weak=False,
    rule_version=1,
    closed_at=T,
    part=0,
    parts=1,
    lines=[],
    totals=[],
    coverage=[],
    gaps=[],
    quarantined=[],
)
ALERT = Alert("0" * 32, AlertKind.GAP_OPENED, "A", "cpu", "prom", T, T, T + 1, 0, T)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_usage_record_comes_back_from_both_forms(record: object) -> None:
    assert decode_usage(encode_json(record), JSON) == record
    assert decode_usage(encode_msgpack(record), MSGPACK) == record


def test_what_rater_publishes_comes_back_from_both_forms() -> None:
    for form, encode in ((JSON, encode_json), (MSGPACK, encode_msgpack)):
        assert decode_rated(encode(FRAME), form) == FRAME
        assert decode_alert(encode(ALERT), form) == ALERT


def test_the_text_of_a_collection_is_what_a_person_would_write() -> None:
    assert encode_json(COLLECTION).decode() == (
        '{"type":"collection","source":"prom","scope_id":"projÄ","metric":"cpu","begin":1767225600,"end":1767229200,'
        '"attempt":1,"collection_id":"c","producer_id":"p","sequence":7,"covers":[[1767225600,1767225660]],'
        '"series":[{"groupby":{"id":"vm1","n":1,"x":1.5,"b":true,"none":null}}],'
        '"samples":[[0,1767225600,1767225660,"0.10"],[0,1767225660,1767225660,"1E-30"]]}'
    )


def test_a_quantity_may_be_a_json_number_and_is_read_by_its_decimal_text() -> None:
    text = encode_json(COLLECTION).replace(b'"0.10"', b"0.1000000000000000055511151231257827")
    record = decode_usage(text, JSON)
    assert isinstance(record, Collection)
    assert str(record.samples[0].qty) == "0.1000000000000000055511151231257827"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((), JSON),
        (((CONTENT_TYPE, MSGPACK.encode()),), MSGPACK),
        ((("trace", b"1"), ("Content-Type", b"text/plain"), (CONTENT_TYPE, b"application/json")), "text/plain"),
        ((("trace", b"1"),), JSON),
        (((CONTENT_TYPE, b"\xfe"),), "\N{REPLACEMENT CHARACTER}"),
        (((CONTENT_TYPE, bytearray(b"a/b")),), "a/b"),
    ],
)
def test_the_first_content_type_header_counts(headers: tuple[tuple[str, bytes], ...], expected: str) -> None:
    assert content_type(headers) == expected


def test_an_unknown_content_type_names_those_that_are_known() -> None:
    with pytest.raises(RejectedError, match="'text/csv' is unknown: send application/json or application/msgpack"):
        decode_usage(b"", "text/csv")


@pytest.mark.parametrize(("form", "encode"), [(JSON, encode_json), (MSGPACK, encode_msgpack)])
def test_a_version_to_come_is_named_even_if_nothing_else_fits(form: str, encode: object) -> None:
    assert callable(encode)
    for record in ({"version": 2}, {"type": "usage", "version": 2}, {"version": 2, "samples": {"a": [1]}}):
        with pytest.raises(RejectedError, match="version 2 of usage record is unknown: this rater reads version 1"):
            decode_usage(encode(record), form)


def test_a_version_to_come_is_refused_even_if_everything_fits() -> None:
    text = encode_json({"type": "frame_forced", "scope_id": "A", "period_begin": T, "author": "a", "reason": ""})
    assert decode_usage(text, JSON) == FrameForced("A", T, "a", "")
    with pytest.raises(RejectedError, match="version 0 of usage record is unknown"):
        decode_usage(text[:-1] + b',"version":0}', JSON)
    with pytest.raises(RejectedError, match="version 3 of rated frame is unknown"):
        decode_rated(encode_json(FRAME).replace(b'"version":1', b'"version":3'), JSON)


def test_records_of_one_topic_are_not_taken_for_those_of_another() -> None:
    for read, record in itertools.product((decode_rated, decode_alert), RECORDS):
        with pytest.raises(RejectedError, match=r"this is no (rated frame|alert) as application/json"):
            read(encode_json(record), JSON)
    with pytest.raises(RejectedError, match="this is no usage record as application/msgpack: Invalid value 'alert'"):
        decode_usage(encode_msgpack(ALERT), MSGPACK)


def test_fields_to_come_are_passed_over_where_readers_are_lenient() -> None:
    text = encode_json(ALERT)[:-1]
    assert decode_alert(text + b',"colour":{"a":[1]}}', JSON) == ALERT


def test_nesting_without_end_is_refused() -> None:
    text = encode_json(ALERT)[:-1] + b',"colour":' + b"[" * 200_000
    with pytest.raises(RejectedError, match="this is no alert: nested too deep"):
        decode_alert(text, JSON)


def test_a_decoder_for_a_struct_without_version_reads_any() -> None:
    read = decoder(Interval, "interval")
    assert read(b"[1,2]", JSON) == Interval(1, 2)
    with pytest.raises(RejectedError, match="this is no interval as application/json"):
        read(b"[1]", JSON)


FAULTS = {
    "1": "",
    "-1e30": "",
    "1e30": "",
    "0e-100": "",
    "1e-100": "",
    "0e999999": "",
    "NaN": "is NaN: it must be a finite number",
    "sNaN": "is sNaN: it must be a finite number",
    "-Infinity": "is -Infinity: it must be a finite number",
    "1.00000000000000000000000000000000000000000000001e30": "is 1.000E+30: at most 1E+30 is taken",
    "-2e30": "is -2.000E+30: at most 1E+30 is taken",
    "1e-101": "has 101 decimals: at most 100 are taken",
    "0e-101": "has 101 decimals: at most 100 are taken",
    "1." + "0" * 101: "has 101 decimals: at most 100 are taken",
}


@pytest.mark.parametrize(("qty", "fault"), FAULTS.items(), ids=[text[:9] for text in FAULTS])
def test_which_quantities_are_taken(qty: str, fault: str) -> None:
    assert quantity_fault(Decimal(qty)) == fault


@pytest.mark.parametrize(("qty", "fault"), FAULTS.items(), ids=[text[:9] for text in FAULTS])
@pytest.mark.parametrize("others", [[], ["1"], ["1e30", "-1e30", "1e-100"], ["0", "-0"]])
def test_a_part_is_refused_for_one_quantity_among_many(qty: str, fault: str, others: list[str]) -> None:
    # given the quantity at each place among others
    for place in range(len(others) + 1):
        texts = [*others[:place], qty, *others[place:]]
        samples = [Sample(0, T, T, Decimal(text)) for text in texts]
        raw = encode_msgpack(_with(samples))

        # when, then
        if fault:
            with pytest.raises(RejectedError) as caught:
                decode_usage(raw, MSGPACK)
            assert str(caught.value) == f"samples[{place}] has a quantity that {fault}"
        else:
            assert decode_usage(raw, MSGPACK) == _with(samples)


def test_the_first_of_several_faults_is_named() -> None:
    late, early, far = Sample(0, T + 9, T, Decimal(1)), Sample(0, T - 1, T, Decimal(1)), Sample(5, T, T, Decimal(1))
    nan = Sample(0, T, T, Decimal("NaN"))
    named = {"ends": late, "begins": early, "names series": far, "has a quantity": nan}
    for first, second in itertools.permutations(named, 2):
        with pytest.raises(RejectedError, match=rf"samples\[1\] {first}"):
            decode_usage(encode_msgpack(_with([COLLECTION.samples[0], named[first], named[second]])), MSGPACK)


def test_as_many_decimals_as_are_allowed_over_the_greatest_part_stay_exact() -> None:
    samples = [Sample(0, T, T, Decimal("1e30")), *[Sample(0, T, T, Decimal(f"1e-{MAX_DECIMALS}"))] * 49_999]
    assert decode_usage(encode_msgpack(_with(samples)), MSGPACK) == _with(samples)


def _with(samples: list[Sample]) -> Collection:
    return Collection(
        source="prom",
        scope_id="A",
        metric="cpu",
        begin=T,
        end=T + 3600,
        attempt=1,
        collection_id="c",
        producer_id="p",
        sequence=7,
        series=[Series()],
        samples=samples,
    )


def test_headers_of_a_refused_record_are_text_and_leave_out_what_is_not_known() -> None:
    headers = RejectedHeaders(reason="größer", origin_topic="usage", origin_partition=0, origin_file="a.csv")
    assert rejected_headers(headers) == (
        ("reason", "größer".encode()),
        ("origin-topic", b"usage"),
        ("origin-partition", b"0"),
        ("origin-file", b"a.csv"),
    )


def test_a_long_reason_is_cut_at_2000_characters() -> None:
    ((_, reason),) = rejected_headers(RejectedHeaders(reason="ü" * 3000))
    assert reason.decode() == "ü" * 2000
