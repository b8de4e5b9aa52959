"""Bodies of requests: what cannot be read, what is too large, and every fault with its place."""

from __future__ import annotations

import gzip
import zlib

import cramjam
import msgspec
import pytest

from rater.api.faults import MAX_FAULTS, RefusalError
from rater.api.reading import decompressed, read_push
from rater.client.wire import Problem
from rater.model.codec import JSON, MSGPACK

BODY = b'{"source":"m","samples":[]}'


def refused(body: bytes, form: str = JSON) -> Problem:
    with pytest.raises(RefusalError) as found:
        read_push(body, form)
    return found.value.problem


def places(problem: Problem) -> dict[str, str]:
    return {fault.place: fault.message for fault in problem.faults}


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "zstd", "", "identity"])
def test_every_encoding_gives_the_body(encoding: str) -> None:
    encoders = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": lambda b: bytes(cramjam.zstd.compress(b))}
    sent = encoders.get(encoding.lower(), bytes)(BODY)

    assert decompressed(sent, encoding, 1000) == BODY


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_ends_at_the_limit(encoding: str) -> None:
    plain = bytes(200_000_000)
    bomb = gzip.compress(plain) if encoding == "gzip" else bytes(cramjam.zstd.compress(plain))

    with pytest.raises(RefusalError, match="larger than 100000 bytes") as found:
        decompressed(bomb, encoding, 100_000)

    assert found.value.problem.status == 413


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (b"no gzip", "gzip", 400),
        (gzip.compress(BODY)[:-4], "gzip", 400),
        (gzip.compress(BODY) * 2, "gzip", 400),
        (b"no zstd", "zstd", 400),
        (bytes(cramjam.zstd.compress(BODY))[:-2], "zstd", 400),
        (BODY, "br", 415),
    ],
)
def test_what_is_no_such_encoding(body: bytes, encoding: str, status: int) -> None:
    with pytest.raises(RefusalError) as found:
        decompressed(body, encoding, 1000)

    assert found.value.problem.status == status


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"nonsense", b'{"source": "\xff"}'])
def test_what_is_no_json(body: bytes) -> None:
    assert refused(body).status == 400


def test_what_is_no_msgpack() -> None:
    assert refused(b"\xc1", MSGPACK).status == 400


def test_another_content_type() -> None:
    assert refused(BODY, "text/csv").status == 415


@pytest.mark.parametrize("encode", [msgspec.json.encode, msgspec.msgpack.encode])
def test_every_fault_has_its_place(encode) -> None:  # type: ignore[no-untyped-def]  # either encoder
    # given faults of all kinds among what is right
    good = {"scope_id": "A", "metric": "net", "begin": 1, "qty": "1"}
    body = {
        "sauce": "m",
        "sequences": {"A": -1},
        "samples": [good, {**good, "qty": "lots", "begin": "x" * 50, "colour": 1}, 7, {"scope_id": ""}],
        "collections": [{**good, "attempt": 1, "samples": [{"begin": 1.5}]}],
        "plans": {},
    }
    # when
    problem = refused(encode(body), JSON if encode is msgspec.json.encode else MSGPACK)
    # then
    assert problem.status == 422
    found = places(problem)
    assert set(found) == {
        "sauce",
        "sequences",
        "samples[1].qty",
        "samples[1].begin",
        "samples[1].colour",
        "samples[2]",
        "samples[3].scope_id",
        "samples[3].metric",
        "samples[3].begin",
        "samples[3].qty",
        "collections[0].qty",
        "collections[0].samples[0].begin",
        "collections[0].samples[0].qty",
        "collections[0].end",
        "collections[0].covers",
        "plans",
    }
    assert found["sauce"] == "is no field: use source, producer_id, sequences, samples, collections, plans"
    assert found["samples[3].metric"] == "is missing"


def test_many_faults_are_counted() -> None:
    problem = refused(msgspec.json.encode({"samples": [1] * 1000}))

    assert (len(problem.faults), problem.more_faults) == (MAX_FAULTS, 1000 - MAX_FAULTS)
    assert problem.detail == "nothing was written: 1000 faults"


def test_nested_too_deep_is_refused() -> None:
    assert refused(b'{"samples":' + b"[" * 100_000).status in (400, 422)


def test_a_number_is_read_exactly() -> None:
    push = read_push(
        b'{"samples":[{"scope_id":"A","metric":"m","begin":1,"qty":0.1000000000000000055511151231257827}]}', JSON
    )

    assert str(push.samples[0].qty) == "0.1000000000000000055511151231257827"
