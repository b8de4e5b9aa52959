"""Posted lines: what is taken, what is refused and why, in both forms."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from rater.model.amounts import amount_fault
from rater.model.codec import (
    JSON,
    MSGPACK,
    check_key,
    decode_rated_record,
    decode_usage,
    encode_json,
    encode_msgpack,
    is_posted,
)
from rater.model.errors import RejectedError
from rater.model.posted import LAST_POSTED, MAX_POSTED_BYTES, PostedLine, PostedLines
from tests.unit.engine.builders import T
from tests.unit.model.test_codec import FRAME

POST = "0123456789abcdef" * 2


def line(n: int = 0, **changed: Any) -> PostedLine:
    values: dict[str, Any] = {"metric": "cpu", "begin": T, "end": T + 60, "qty": Decimal("1.5"), "price": Decimal(2)}
    return PostedLine(n, **(values | changed))


def posted(*lines: PostedLine, **changed: Any) -> PostedLines:
    return PostedLines(changed.pop("scope_id", "A"), POST, list(lines or [line()]), **changed)


def test_comes_back_from_both_forms() -> None:
    record = posted(line(), line(7, groupby={"id": "x", "n": 1}, metadata={"flavor": None}), author="ann")
    assert decode_usage(encode_json(record), JSON) == record
    assert decode_usage(encode_msgpack(record), MSGPACK) == record
    assert decode_rated_record(encode_json(record), JSON) == record
    assert decode_rated_record(encode_json(FRAME), JSON) == FRAME


def test_what_kind_a_record_is_can_be_told_without_reading_it() -> None:
    broken = posted(line(end=T))
    for value, form in ((encode_json(broken), JSON), (encode_msgpack(broken), MSGPACK)):
        assert is_posted(value, form)
    assert not is_posted(encode_json(FRAME), JSON)
    for value, form in ((b"nonsense", JSON), (b"{}", JSON), (encode_json(broken), "text/csv"), (b"\xc1", MSGPACK)):
        assert not is_posted(value, form)


def test_a_key_is_the_scope() -> None:
    check_key("é".encode(), "é")
    for key in (None, b"", b"A "):
        with pytest.raises(RejectedError, match="it must be the scope_id 'A' in UTF-8"):
            check_key(key, "A")


MONTH = 31 * 86400
REFUSED: dict[str, tuple[PostedLines, str]] = {
    "no time": (posted(line(end=T)), f"lines[0] lasts from {T} to {T}: begin must be before end"),
    "backwards": (posted(line(), line(1, end=T - 1)), "lines[1] lasts from"),
    "not finite": (posted(line(qty=Decimal("NaN"))), "lines[0] has a quantity that is NaN"),
    "infinite price": (posted(line(price=Decimal("-Infinity"))), "lines[0] has a price that is -Infinity"),
    "too large": (posted(line(price=Decimal("-1.1e30"))), "at most 1E+30 is taken"),
    "39 decimals": (posted(line(qty=Decimal("1e-39"))), "has a quantity that has 39 decimals: at most 38 are taken"),
    "a number twice": (posted(line(3), line(3)), "two lines have the same number n"),
    "two months": (posted(line(), line(1, begin=T + MONTH, end=T + MONTH + 1)), "the lines begin in several months"),
    "too many bytes": (posted(line(metadata={"x": "y" * MAX_POSTED_BYTES})), "bytes as JSON"),
    # control characters have six bytes each in JSON and one in msgpack
    "more bytes as JSON": (posted(line(metadata={"x": "\1" * (MAX_POSTED_BYTES // 5)})), "bytes as JSON"),
}


@pytest.mark.parametrize(("record", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused(record: PostedLines, reason: str) -> None:
    for value, form in ((encode_json(record), JSON), (encode_msgpack(record), MSGPACK)):
        with pytest.raises(RejectedError) as refused:
            decode_usage(value, form)
        assert reason in str(refused.value)


def test_a_label_that_not_every_format_can_write_is_refused() -> None:
    text = encode_json(posted(line(metadata={"x": 5}))).replace(b'"x":5', b'"x":36893488147419103232')
    with pytest.raises(RejectedError, match=r"lines\[0\] has a label that cannot be kept: label 'x' is 368934881474"):
        decode_usage(text, JSON)


@pytest.mark.parametrize("edit", [
    lambda r: r.update(post_id="x"), lambda r: r.update(lines=[]), lambda r: r.update(source="prometheus"),
    lambda r: r["lines"][0].update(end=LAST_POSTED + 1), lambda r: r["lines"][0].update(metric=""),
    lambda r: r["lines"][0].pop("qty"), lambda r: r["lines"][0].update(colour="red"), lambda r: r.update(scope_id=""),
])  # fmt: skip
def test_another_shape_is_refused(edit: Any) -> None:
    record = json.loads(encode_json(posted()))
    edit(record)
    with pytest.raises(RejectedError):
        decode_usage(json.dumps(record).encode(), JSON)


@pytest.mark.parametrize("text", ["0", "-0", "1e30", "-1e30", "1E+29", "1e-38", "12.50"])
def test_an_amount_that_is_stored_as_it_is(text: str) -> None:
    assert amount_fault(Decimal(text)) == ""


def test_a_zero_with_an_exponent_is_refused() -> None:
    assert amount_fault(Decimal("0E+99999")) == "is written 0E+99999: write 0"
