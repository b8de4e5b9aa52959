"""Bad input goes whole to `rejected` with its reason and origin; nothing else changes, and the log goes on."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from rater.engine import PartitionState, Record, apply, decode_snapshot, encode_snapshot
from rater.engine.state import Counts
from rater.model.codec import CONTENT_TYPE, JSON, MSGPACK, Headers, encode_json, encode_msgpack
from rater.model.interval import Interval
from rater.model.partition import partition_of
from rater.model.rated import Alert, AlertKind
from rater.model.usage import MAX_SAMPLES, Collection, FrameForced, QuarantinedItem, Sample, ScopePlan, Series
from tests.unit.engine.builders import (
    HOUR,
    VM1,
    Bench,
    T,
    collection,
    context,
    failed,
    forced,
    not_a_number,
    plan,
    push,
    sample,
)

HALF = HOUR // 2


def assert_refused(value: bytes, reason: str, *, key: bytes | None = b"A", form: str = JSON) -> None:
    """One refusal of the whole record, to a state that has known usage, which then takes a good record."""
    # given
    bench = Bench()
    bench.take(collection(qty="3"))
    before = _image(bench.state)

    # when
    bench.take_raw(value, key, form)

    # then
    (item,) = bench.state.outbox
    assert (item.topic, item.key, item.value) == ("rejected", key, value)
    headers = {name: text.decode() for name, text in item.headers}
    assert reason in headers.pop("reason")
    assert headers == {
        "origin-topic": "usage",
        "origin-partition": "0",
        "origin-offset": "1",
        "origin-timestamp-ms": str((T + HOUR) * 1000),
        "origin-content-type": form,
    }
    assert bench.state.next_offset == 2
    bench.rejected()
    assert _image(bench.state) == before
    assert sum(bench.state.counts.rejected.values()) == 1
    bench.take(collection(T + HOUR, T + 2 * HOUR))
    assert [frame.lines[0].qty for frame in bench.decide(T + 2 * HOUR)] == [3, 1]


def _copy(state: PartitionState) -> PartitionState:
    return decode_snapshot(encode_snapshot(state), 0, 1, context().settings)


def _image(state: PartitionState) -> PartitionState:
    """All of it but how far the log was read, and that a batch came which was refused."""
    copy = _copy(state)
    copy.next_offset = -1
    copy.last_ms = 0
    copy.counts = Counts()
    for scope in copy.scopes.values():
        scope.producers = {name: known for name, known in scope.producers.items() if known.seen}
        for known in scope.producers.values():
            known.refused = []
    return copy


def edited(old: str, new: str) -> bytes:
    """A good collection as JSON with one edit that a struct would not allow."""
    text = encode_json(collection()).decode()
    assert text.count(old) == 1, text
    return text.replace(old, new).encode()


UNREADABLE = {
    "no bytes": (b"", "truncated"),
    "no JSON": (b"\x00\x01\x02", "malformed"),
    "cut off": (encode_json(collection())[:-9], "truncated"),
    "half a character": (edited("tiny", "\\ud800"), "surrogate"),
    "nested without end": (b'{"type":"collection","covers":' + b"[" * 200_000, "usage record"),
    "another type of record": (b'{"type":"invoice"}', "Invalid value 'invoice'"),
    "no type": (b"{}", "missing required field `type`"),
    "a list": (b"[1,2]", "Expected `object`"),
    "an unknown field": (edited('"attempt":1', '"attempt":1,"colour":"red"'), "unknown field `colour`"),
    "a missing field": (edited('"attempt":1,', ""), "missing required field `attempt`"),
    "a version to come": (edited('"attempt":1', '"attempt":1,"version":2'), "version 2 of usage record is unknown"),
    "a version to come that looks different": (b'{"type":"collection","version":3,"rows":[]}', "version 3"),
    "a version that is none": (edited('"attempt":1', '"attempt":1,"version":"new"'), "Expected `int`, got `str`"),
    "a version of 5 000 digits": (b'{"type":"collection","version":1' + b"0" * 5000 + b"}", "out of range"),
    "no metric": (edited('"metric":"cpu"', '"metric":""'), "length >= 1"),
    "a text quantity": (edited('"1"', '"three"'), "Invalid decimal string"),
    "an empty quantity": (edited('"1"', '""'), "Invalid decimal string"),
    "no quantity": (edited(',"1"]', "]"), "length 4, got 3"),
    "a null quantity": (edited('"1"', "null"), "got `null`"),
    "a time with a fraction": (edited(f'"begin":{T}', f'"begin":{T}.5'), "Expected `int`, got `float`"),
    "a time before 1970": (edited(f'"begin":{T}', '"begin":-1'), ">= 0"),
    "a time after the year 9999": (edited(f'"end":{T + HOUR}', '"end":253402300801'), "<= 253402300800"),
    "a label that is a list": (edited('"tiny"', "[1]"), "got `array`"),
    "a number label beyond all bounds": (edited('"tiny"', "1e999"), "out of range"),
    "covers that is no range": (edited(f'"covers":[[{T},{T + HOUR}]]', f'"covers":[[{T}]]'), "length 2"),
}


@pytest.mark.parametrize(("value", "reason"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_cannot_be_read_is_refused(value: bytes, reason: str) -> None:
    assert_refused(value, reason)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "truncated"),
        (b"\xc1", "malformed"),
        (encode_msgpack(collection())[:-1], "truncated"),
        (encode_json(collection()), "Expected `object`, got `int`"),
        (b"\x82\xa4type\xaacollection\xa6source\xa1\xff", "utf-8"),
        (encode_msgpack({"type": "collection", "version": 9}), "version 9 of usage record is unknown"),
        (b"\x91" * 200_000, "usage record"),
    ],
    ids=["no bytes", "no msgpack", "cut off", "JSON", "not UTF-8", "a version to come", "nested without end"],
)
def test_what_cannot_be_read_as_msgpack_is_refused(value: bytes, reason: str) -> None:
    assert_refused(value, reason, form=MSGPACK)


def test_an_unknown_content_type_is_refused() -> None:
    assert_refused(encode_json(collection()), "content type 'text/csv' is unknown", form="text/csv")


def test_too_many_samples_are_refused() -> None:
    many = [Sample(0, T, T, Decimal(1))] * (MAX_SAMPLES + 1)
    assert_refused(encode_msgpack(collection(samples=many)), f"length <= {MAX_SAMPLES}", form=MSGPACK)


def test_as_many_samples_as_allowed_are_taken() -> None:
    bench = Bench()
    bench.take(collection(samples=[Sample(0, T, T, Decimal(1))] * MAX_SAMPLES), form=MSGPACK)
    assert bench.one(T + HOUR).lines[0].qty == MAX_SAMPLES


QUANTITIES = {
    "NaN": "is NaN: it must be a finite number",
    "-NaN": "is -NaN: it must be a finite number",
    "sNaN": "is sNaN: it must be a finite number",
    "Infinity": "is Infinity: it must be a finite number",
    "-inf": "is -Infinity: it must be a finite number",
    "1.0000000000000000000000000000000000000001e30": "is 1.000E+30: at most 1E+30 is taken",
    "-1e31": "is -1.000E+31: at most 1E+30 is taken",
    "1e999999": "is 1.000E+999999: at most 1E+30 is taken",
    "1e-101": "has 101 decimals: at most 100 are taken",
    "0e-101": "has 101 decimals: at most 100 are taken",
    "1." + "0" * 101: "has 101 decimals: at most 100 are taken",
    "1e-999999": "has 999999 decimals: at most 100 are taken",
}


@pytest.mark.parametrize(("qty", "reason"), QUANTITIES.items(), ids=[q[:12] for q in QUANTITIES])
def test_a_quantity_that_cannot_be_billed_is_refused_with_its_neighbours(qty: str, reason: str) -> None:
    part = collection(samples=[sample(T, "1"), sample(T, qty), sample(T, "2")])
    assert_refused(encode_json(part), f"samples[1] has a quantity that {reason}")


def test_two_infinities_are_refused() -> None:
    part = collection(samples=[sample(T, "Infinity"), sample(T, "-Infinity")])
    assert_refused(encode_json(part), "samples[0] has a quantity that is Infinity")


def test_a_msgpack_float_that_is_not_finite_is_refused() -> None:
    text = encode_msgpack(collection())
    nan = text.replace(b"\xa11", b"\xcb\x7f\xf8\0\0\0\0\0\0")  # the quantity "1", as a float
    assert_refused(nan, "samples[0] has a quantity that is NaN", form=MSGPACK)


@pytest.mark.parametrize(
    "qty", ["1e30", "-1e30", "1e-100", "0e999999", "-0", "0." + "0" * 99 + "1", "123456789012345678901234567890.5"]
)
def test_a_quantity_at_the_bounds_is_taken(qty: str) -> None:
    bench = Bench()
    bench.take(collection(qty=qty))
    assert bench.rejected() == []


def changed(**changes: Any) -> Collection:
    return collection(**changes)


CONTRADICTIONS = {
    "range reversed": (changed(begin=T + HOUR, end=T), "holds no time: begin must be before end"),
    "range empty": (changed(end=T), "holds no time"),
    "failure reversed": (failed(T + HOUR, T), "holds no time"),
    "plan reversed": (plan("cpu", begin=T + HOUR, until=T), "holds no time"),
    "part beyond parts": (changed(part=2, parts=2), "part 2 of 2 parts: parts count from 0"),
    "covers before the range": (changed(covers=[Interval(T - 1, T + 5)]), "does not lie within the range"),
    "covers after the range": (changed(covers=[Interval(T, T + HOUR + 1)]), "does not lie within the range"),
    "covers reversed": (changed(covers=[Interval(T + 9, T + 8)]), "does not lie within the range"),
    "covers empty": (changed(covers=[Interval(T + 9, T + 9)]), "does not lie within the range"),
    "series that is not there": (changed(samples=[sample(T, series=1)]), "samples[0] names series 1 of 1"),
    "sample before the range": (changed(samples=[sample(T), sample(T - 1)]), f"samples[1] begins at {T - 1}, outside"),
    "sample at the end": (changed(samples=[sample(T + HOUR)]), f"samples[0] begins at {T + HOUR}, outside the range"),
    "sample reversed": (changed(samples=[sample(T + 9, end=T + 8)]), f"samples[0] ends at {T + 8}, before it begins"),
    "unknown metric": (changed(metric="gpu"), "metric 'gpu' is unknown: declare it in metrics.yml"),
    "unknown metric failed": (failed(metric="gpu"), "metric 'gpu' is unknown"),
    "unknown metric planned": (plan("cpu", "gpu"), "metric 'gpu' is unknown"),
    "wrong unit": (changed(unit="GiB"), "unit is 'GiB', metric 'cpu' is declared in 'undefined'"),
    "no unit where there is one": (changed(metric="disk"), "unit is 'undefined', metric 'disk' is declared in 'GiB'"),
    "too many periods": (changed(end=T + 20_001 * HOUR, covers=[]), "spans more than 20000 periods of 3600 s"),
    "a failure of too many periods": (failed(T, T + 20_001 * HOUR), "spans more than 20000 periods"),
    "a plan of too many periods": (plan("cpu", until=T + 20_001 * HOUR), "spans more than 20000 periods"),
    "a plan since 1970": (plan("cpu", begin=0), "spans more than 20000 periods"),
    "a pushed sample over two periods": (
        push(sample(T, end=T + HALF), sample(T + HALF, end=T + HOUR + 1)),
        f"samples[1] spans periods: [{T + HALF}, {T + HOUR + 1})",
    ),
    "force within a period": (forced(T + 60), f"period_begin {T + 60} is not the begin of a period of 3600 s"),
}


@pytest.mark.parametrize(("record", "reason"), CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
@pytest.mark.parametrize("form", [JSON, MSGPACK])
def test_a_record_that_cannot_be_true_is_refused(record: Any, reason: str, form: str) -> None:
    encode = encode_json if form == JSON else encode_msgpack
    assert_refused(encode(record), reason, form=form)


LABELS = {"infinite": float("inf"), "not a number": float("nan"), "large": 2**64, "small": -(2**63) - 1}


@pytest.mark.parametrize("value", LABELS.values(), ids=LABELS.keys())
@pytest.mark.parametrize("where", ["groupby", "metadata", "quarantined"])
def test_a_number_label_that_not_every_format_can_write_is_refused(value: float, where: str) -> None:
    # given
    good, bad = {"id": "vm1"}, {"load": value}
    change: dict[str, Any] = {
        "groupby": {"series": [Series(bad, good)]},
        "metadata": {"series": [Series(good, bad)]},
        "quarantined": {"quarantined": [QuarantinedItem("NaN", "not a number", good, bad)]},
    }[where]
    form, encode = (JSON, encode_json) if isinstance(value, int) else (MSGPACK, encode_msgpack)

    # when, then
    assert_refused(encode(collection(**change)), f"label 'load' is {value}: a label must be a text", form=form)


@pytest.mark.parametrize("value", [2**64 - 1, -(2**63), 1.7e308, True, None, ""])
def test_other_label_values_are_taken_and_survive_a_snapshot(value: float | str | None) -> None:
    # given
    bench = Bench()
    labels = {"id": "vm1", "value": value}
    bench.take(collection(series=[Series(labels)], quarantined=[QuarantinedItem("NaN", "why", labels)]))

    # when
    bench.state = _copy(bench.state)

    # then
    frame = bench.one(T + HOUR)
    assert frame.lines[0].groupby == labels
    assert frame.quarantined[0].groupby == labels


@pytest.mark.parametrize("key", [None, b"", b"B", b"A ", b"\xff"])
def test_a_record_under_another_key_is_refused(key: bytes | None) -> None:
    assert_refused(encode_json(collection()), "it must be the scope_id 'A' in UTF-8", key=key)


def test_records_of_other_topics_are_refused() -> None:
    # given a frame and an alert of the engine itself
    bench = Bench()
    bench.take(plan("cpu"))
    bench.decide(T + 4 * HOUR)
    bench.take(collection(qty="5"))
    alert = Alert("0" * 32, AlertKind.GAP_OPENED, "A", "cpu", "prom", T, T, T + HOUR, 0, T)
    frame = bench.one(T + 4 * HOUR)

    # when they are sent to usage, then
    assert_refused(encode_json(alert), "Invalid value 'alert'")
    assert_refused(encode_json(frame), "Invalid value 'rated_frame'")


def test_a_scope_of_another_partition_is_refused() -> None:
    # given a partition that is not the one of scope A
    home = partition_of(b"A", 2)
    state = PartitionState(1 - home, 2, HOUR)
    value = encode_json(collection())

    # when
    apply(state, Record(5, T * 1000, b"A", value), context())

    # then
    (item,) = state.outbox
    assert item.value == value
    reason = dict(item.headers)["reason"].decode()
    assert reason.startswith(f"scope 'A' belongs to partition {home}, not {1 - home}")
    assert (state.scopes, state.next_offset) == ({}, 6)
    for record in (plan("cpu"), failed(), forced()):
        apply(state, Record(state.next_offset, 0, b"A", encode_json(record)), context())
    assert (state.scopes, len(state.outbox)) == ({}, 4)


def test_a_scope_of_this_partition_is_taken() -> None:
    state = PartitionState(partition_of(b"A", 2), 2, HOUR)
    apply(state, Record(5, T * 1000, b"A", encode_json(collection())), context())
    assert (list(state.scopes), state.outbox) == (["A"], [])


@pytest.mark.parametrize(
    "change",
    [
        {"parts": 3},
        {"covers": [Interval(T, T + HALF)]},
        {"proof": "weak"},
        {"begin": T + 60, "covers": [Interval(T + 60, T + HOUR)], "samples": []},
        {"end": T + HALF, "covers": [Interval(T, T + HALF)]},
    ],
    ids=["parts", "covers", "proof", "begin", "end"],
)
def test_a_part_that_contradicts_an_earlier_one_is_refused(change: dict[str, Any]) -> None:
    # given the first of two parts
    bench = Bench()
    bench.take(collection(part=0, parts=2, collection_id="one"))
    before = _image(bench.state)

    # when a second one says something else of the whole, twice
    wrong = collection(**{"part": 1, "parts": 2, "collection_id": "one", **change})
    bench.take(wrong, wrong)

    # then both are refused, and the right one still completes the collection
    reason = "part 1 contradicts an earlier part of collection"
    assert [reason in text for text in bench.rejected()] == [True, True]
    assert _image(bench.state) == before
    bench.take(collection(part=1, parts=2, qty="4", collection_id="one"))
    assert bench.one(T + HOUR).lines[0].qty == 5


def test_a_reason_is_cut_but_never_the_record() -> None:
    # given a record whose fault quotes a very long text
    value = edited('"1"', '"NaN' + "7" * 5000 + '"')
    bench = Bench()

    # when
    bench.take_raw(value)

    # then
    (item,) = bench.state.outbox
    assert item.value == value
    assert len(dict(item.headers)["reason"]) == 2000


@pytest.mark.parametrize(
    ("headers", "form"),
    [((), JSON), ((("Content-Type", JSON.encode()),), JSON), (((CONTENT_TYPE, b"\xff"),), "�")],
)
def test_the_content_type_is_that_of_the_header_and_json_without(headers: Headers, form: str) -> None:
    state = PartitionState(0, 1, HOUR)
    apply(state, Record(0, 0, b"A", b"", headers), context())
    assert dict(state.outbox[0].headers)["origin-content-type"].decode() == form


def test_names_that_are_too_long_are_refused() -> None:
    for record in (collection(source="s" * 256), ScopePlan("p" * 256, "A", T), FrameForced("A", T, "a" * 256, "")):
        assert_refused(encode_json(record), "length <= 255")


def test_a_frame_is_partial_for_a_quarantined_item_but_nothing_is_refused() -> None:
    bench = Bench()
    bench.take(collection(series=[VM1], quarantined=[not_a_number()]))
    assert bench.rejected() == []
    assert bench.one(T + HOUR).status.value == "partial"


def test_usage_of_a_time_to_come_is_refused() -> None:
    # given a clock that is a day ahead, at most
    bench = Bench()
    bench.take(collection(T + 23 * HOUR, T + 24 * HOUR), at=T)
    assert bench.rejected() == []
    # when the year is wrong
    bench.take(collection(T + 24 * HOUR, T + 25 * HOUR), at=T)
    # then
    (reason,) = bench.rejected()
    assert "ends more than 24 hours after it came" in str(reason)
