"""What POST /v2/dataframes takes and refuses, and which records become of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from itertools import chain
from typing import Any

import pytest

from rater.api.cloudkitty.calls import ApiFaultError
from rater.api.cloudkitty.unconfirmed import Unconfirmed
from rater.api.cloudkitty.v2_posting import NO_SCOPE, PART_BYTES, Point, read_frames, records_of
from rater.model.codec import MSGPACK, decode_usage, encode_json, encode_msgpack
from rater.model.posted import MAX_POSTED_BYTES, PostedLine, PostedLines
from rater.rating import RuleBook
from rater.reports import StoreView
from rater.store import Store
from tests.unit.api.cloudkitty.world import ANN, BOSS, World, filled_store, serving
from tests.unit.store.builders import HOUR, JANUARY, store_posts

POINT: dict[str, Any] = {
    "vol": {"unit": "GiB", "qty": 1.9},
    "rating": {"price": 2.5},
    "groupby": {"project_id": "A", "id": "x"},
    "metadata": {"flavor": "m1"},
}
BEGIN, END = "2026-01-01T00:00:00+00:00", "2026-01-01T00:30:00+00:00"


def frame(*points: Any, begin: Any = BEGIN, end: Any = END, metric: str = "cpu") -> dict[str, Any]:
    return {"period": {"begin": begin, "end": end}, "usage": {metric: list(points or (POINT,))}}


def body(*frames: Any) -> bytes:
    return json.dumps({"dataframes": frames or [frame()]}).encode()


def read(*frames: Any) -> list[Point]:
    return read_frames(body(*frames), "project_id")


def refused(sent: bytes) -> str:
    with pytest.raises(ApiFaultError) as fault:
        read_frames(sent, "project_id")
    assert fault.value.status == 400
    return str(fault.value)


def test_points_are_lines_of_the_scope_that_groupby_names() -> None:
    bare = {"vol": {"unit": "", "qty": "7"}, "groupby": {"n": 1.0, "x": None}, "metadata": {}}
    (first, second) = read(frame(), frame(bare, metric="net/in", begin="20260101T000000Z", end="2026-01-01T01:00:00.9"))
    assert first == Point(
        "A",
        PostedLine(
            0, "cpu", JANUARY, JANUARY + 1800, Decimal("1.9"), Decimal("2.5"), "GiB", POINT["groupby"], {"flavor": "m1"}
        ),
    )
    assert second == Point(
        NO_SCOPE,
        PostedLine(1, "net/in", JANUARY, JANUARY + HOUR, Decimal(7), Decimal(0), "undefined", {"n": 1.0, "x": None}),
    )


def test_numbers_are_what_their_texts_say() -> None:
    sent = body(frame({**POINT, "vol": {"unit": "u", "qty": 777777}, "rating": {"price": "1.50"}}))
    digits = b"0.1234567890123456789012345678901234567800000"
    ((_, line),) = read_frames(sent.replace(b"777777", digits), "project_id")
    assert (str(line.qty), str(line.price)) == ("0.12345678901234567890123456789012345678", "1.50")
    ((_, zero),) = read(frame({**POINT, "vol": {"unit": "u", "qty": "-0E-999"}}))
    assert str(zero.qty) == "0"


def point(**changed: Any) -> dict[str, Any]:
    return {**POINT, **changed}


AT = "['dataframes'][0]"
USAGE = f"{AT}['usage']['cpu'][0]"
REFUSED: dict[str, tuple[bytes, str]] = {
    "no json": (b"{", "The body is no JSON"),
    "nothing": (b"", "The body is no JSON"),
    "no utf-8": (b'"\xff"', "The body is no JSON"),
    "deep": (b"[" * 100_000, "The body is no JSON"),
    "infinite": (b'{"dataframes": Infinity}', "The body is no JSON: Infinity is no number"),
    "many digits": (b'{"dataframes": ' + b"9" * 5000 + b"}", "The body is no JSON"),
    "huge exponent": (b'{"dataframes": 1e99999999999999999999}', "The body is no JSON"),
    "a list": (b"[]", "expected a dictionary (path: '')"),
    "no frames": (b"{}", "required key not provided (path: '['dataframes']')"),
    "an empty list": (b'{"dataframes": []}', "Parameter dataframes must not be empty."),
    "no list": (b'{"dataframes": {}}', "expected a list (path: '['dataframes']')"),
    "another key": (b'{"dataframes": [], "x": 1}', "extra keys not allowed (path: '['x']')"),
    "a frame that is none": (body(7), f"expected a dictionary (path: '{AT}')"),
    "no period": (body({"usage": {}}), f"required key not provided (path: '{AT}['period']')"),
    "no end": (body({"usage": {}, "period": {"begin": BEGIN}}), f"not provided (path: '{AT}['period']['end']')"),
    "a period that is none": (body({"usage": {}, "period": []}), f"expected a dictionary (path: '{AT}['period']')"),
    "backwards": (body(frame(begin=END, end=BEGIN)), f"begin must be before end (path: '{AT}['period']')"),
    "no time": (body(frame(end=BEGIN)), "begin must be before end"),
    "a wrong time": (body(frame(begin="now")), f"expected a time such as 2026-01-01T00:00:00 (path: '{AT}['period']"),
    "a number for a time": (body(frame(begin=5)), "expected a time such as"),
    "before 1970": (body(frame(begin="1969-12-31")), "expected a time from 1970 to 2106"),
    "after 2106": (body(frame(end="2107-01-01")), "expected a time from 1970 to 2106"),
    "usage that is none": (body({**frame(), "usage": []}), f"expected a dictionary (path: '{AT}['usage']')"),
    "points that are none": (body({**frame(), "usage": {"cpu": 1}}), f"expected a list (path: '{AT}['usage']['cpu']')"),
    "an empty metric": (body(frame(metric="")), f"expected a text of 1 to 255 characters (path: '{AT}['usage']['']')"),
    "a long metric": (body(frame(metric="x" * 256)), "expected a text of 1 to 255 characters"),
    "a point that is none": (body(frame(None)), f"expected a dictionary (path: '{USAGE}')"),
    "no vol": (body(frame({"groupby": {}, "metadata": {}})), f"required key not provided (path: '{USAGE}['vol']')"),
    "a vol that is none": (body(frame(point(vol=1))), f"expected a dictionary (path: '{USAGE}['vol']')"),
    "no qty": (body(frame(point(vol={"unit": "u"}))), f"required key not provided (path: '{USAGE}['vol']['qty']')"),
    "no unit": (body(frame(point(vol={"qty": 1}))), f"required key not provided (path: '{USAGE}['vol']['unit']')"),
    "a unit that is none": (body(frame(point(vol={"unit": 1, "qty": 1}))), f"expected str (path: '{USAGE}['vol']["),
    "qty null": (body(frame(point(vol={"unit": "u", "qty": None}))), "expected a number"),
    "qty true": (body(frame(point(vol={"unit": "u", "qty": True}))), "expected a number"),
    "qty text": (body(frame(point(vol={"unit": "u", "qty": "much"}))), "expected a number"),
    "qty NaN": (body(frame(point(vol={"unit": "u", "qty": "NaN"}))), "has a quantity that is NaN"),
    "qty too large": (body(frame(point(vol={"unit": "u", "qty": 1e31}))), "at most 1E+30 is taken"),
    "a metric twice": (
        b'{"dataframes": [{"usage": {"cpu": [1], "cpu": []}}]}',
        "The body is no JSON: an object has 'cpu' twice",
    ),
    "a price next to nothing": (body(frame(point(rating={"price": "1e-99999999"}))), "99999999 decimals"),
    "a price of 39 decimals": (body(frame(point(rating={"price": "1e-39"}))), "has 39 decimals: at most 38 are taken"),
    "rating null": (body(frame(point(rating=None))), f"expected a dictionary (path: '{USAGE}['rating']')"),
    "price null": (body(frame(point(rating={"price": None}))), f"expected a number (path: '{USAGE}['rating']['price']"),
    "desc": (body(frame(point(desc={}))), f"extra keys not allowed (path: '{USAGE}['desc']')"),
    "groupby null": (body(frame(point(groupby=None))), f"expected a dictionary (path: '{USAGE}['groupby']')"),
    "a label that is a list": (body(frame(point(metadata={"x": [1]}))), f"null (path: '{USAGE}['metadata']['x']')"),
    "a label beyond 64 bits": (body(frame(point(metadata={"x": 2**70}))), "has a label that cannot be kept"),
    "half a pair": (body(frame(point(metadata={"x": "\ud800"}))), "half of a surrogate pair"),
    "half a pair in a name": (body(frame(point(groupby={"\ud800": 1}))), "half of a surrogate pair"),
    "a long scope": (body(frame(point(groupby={"project_id": "p" * 256}))), f"{USAGE}['groupby']['project_id']"),
    "a scope with NUL": (body(frame(point(groupby={"project_id": "a\0"}))), "without NUL"),
    "a long point": (body(frame(point(metadata={"x": "y" * PART_BYTES}))), "is longer than"),
}


@pytest.mark.parametrize(("sent", "said"), REFUSED.values(), ids=REFUSED)
def test_refused(sent: bytes, said: str) -> None:
    assert said in refused(sent)


def test_what_logs_say_of_it_quotes_nothing() -> None:
    for sent in (b"{31337", body(frame(point(vol={"unit": "u", "qty": 31337e40}), point(metadata={"x": [31337]})))):
        with pytest.raises(ApiFaultError) as told:
            read_frames(sent, "project_id")
        assert "31337" not in told.value.for_logs
    assert told.value.for_logs == "Invalid data : 2 faults, told to who sent it"


def test_all_faults_are_told_at_once() -> None:
    said = refused(body(frame(point(vol={}), begin="x"), {}, frame(point(rating={"cost": 1, "price": []}))))
    for fault in (
        f"expected a time such as 2026-01-01T00:00:00 (path: '{AT}['period']['begin']')",
        f"required key not provided (path: '{USAGE}['vol']['unit']')",
        f"required key not provided (path: '{USAGE}['vol']['qty']')",
        "required key not provided (path: '['dataframes'][1]['period']')",
        "required key not provided (path: '['dataframes'][1]['usage']')",
        "extra keys not allowed (path: '['dataframes'][2]['usage']['cpu'][0]['rating']['cost']')",
        "expected a number (path: '['dataframes'][2]['usage']['cpu'][0]['rating']['price']')",
    ):
        assert fault in said
    assert "and 950 more" in refused(b'{"dataframes": [' + b"1," * 10_000 + b"1]}")  # it stops looking


def test_records_are_of_one_scope_and_month_and_small_enough() -> None:
    # given
    labels = {"x": "\1" * 10_000}  # 60 kB as JSON
    points = [
        Point("AB"[n % 2], PostedLine(n, "m", begin, begin + 1, Decimal(n), metadata=labels))
        for n, begin in enumerate(JANUARY + (n % 3) * 31 * 24 * HOUR for n in range(60))
    ]

    # when
    records = records_of("a" * 32, "ann", points)

    # then
    found = {line.n: Point(record.scope_id, line) for record in records for line in record.lines}
    assert [found[n] for n in range(60)] == points
    assert sum(len(record.lines) for record in records) == 60
    for record in records:
        assert decode_usage(encode_msgpack(record), MSGPACK) == record
        assert len(encode_json(record)) <= PART_BYTES < MAX_POSTED_BYTES
    assert len(records) == 12


# --- over HTTP


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with filled_store() as opened:
        yield opened


class Log:
    """Takes what is written to `usage`."""

    def __init__(self) -> None:
        self.records: list[PostedLines] = []
        self.fault: ApiFaultError | None = None

    async def __call__(self, records: Any) -> None:
        for key, value in records:
            record = decode_usage(value, MSGPACK)
            assert isinstance(record, PostedLines)
            assert key == record.scope_id.encode()
            self.records.append(record)
        if self.fault:
            raise self.fault


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
async def world(store: Store, log: Log, tmp_path: Any) -> AsyncIterator[World]:
    async with serving(StoreView(store), RuleBook.empty(), tmp_path, post=log) as found:
        yield found


async def post(world: World, sent: bytes | None = None, token: str = BOSS, **headers: str) -> Any:
    sent_headers = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
    return await world.ask(
        "/v2/dataframes", method="POST", token=token, data=body() if sent is None else sent, headers=sent_headers
    )


async def test_an_answer_comes_after_the_log_has_it(world: World, log: Log) -> None:
    found = await post(world)
    assert (found.status, found.body) == (204, b"")
    (record,) = log.records
    assert (record.scope_id, record.author, len(record.lines)) == ("A", "boss", 1)
    await post(world)
    assert log.records[0].post_id != log.records[1].post_id
    log.fault = ApiFaultError(503, "Kafka is away", headers={"Retry-After": "2"})
    found = await post(world)
    assert (found.status, found.body, found.headers["Retry-After"]) == (503, {"message": "Kafka is away"}, "2")


async def test_a_key_makes_a_repetition_the_same(world: World, log: Log) -> None:
    shuffled = {**POINT, "groupby": dict(reversed(POINT["groupby"].items()))}
    for sent, key in ((None, "k1"), (body(frame(shuffled)), "k1"), (None, "k2"), (body(frame(), frame()), "k1")):
        assert (await post(world, sent, Idempotency_Key=key)).status == 204
    first, again, other_key, other_content = (record.post_id for record in log.records)
    assert first == again
    assert len({first, other_key, other_content}) == 3
    assert (await post(world, Idempotency_Key="k" * 256)).status == 400


async def test_what_was_not_confirmed_counts_once_when_it_is_sent_again(world: World, log: Log) -> None:
    """CloudKitty's client can send no key, and its user repeats what was answered 503."""
    log.fault = ApiFaultError(503, "Kafka is away")
    for sent in (body(), body(), body(frame(metric="net"))):
        assert (await post(world, sent)).status == 503
    log.fault = None
    for _ in range(3):
        assert (await post(world)).status == 204
    first, second, other, *later = (record.post_id for record in log.records)
    # the second one was a repetition of the first already; what is sent once more after an answer is another post
    assert first == second == later[0]
    assert len({first, other, *later}) == 4


def test_unconfirmed_posts_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Unconfirmed()
    known.keep("a", "1", now=0)
    known.keep("a", "2", now=1800)
    assert known.take("a", now=3600) == "2"
    assert known.take("a", now=3600) == ""
    monkeypatch.setattr("rater.api.cloudkitty.unconfirmed.MOST", 2)
    for name in "xyz":
        known.keep(name, name, now=0)
    assert [known.take(name, now=1) for name in "xyz"] == ["", "y", "z"]


async def test_a_key_that_is_no_text_is_refused(world: World, log: Log) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(world.url.rpartition(":")[2]))
    head = f"POST /v2/dataframes HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {BOSS}\r\nContent-Type: application/json\r\n"
    sent = body()
    writer.write(f"{head}Connection: close\r\nContent-Length: {len(sent)}\r\n".encode())
    writer.write(b"Idempotency-Key: caf\xe9\r\n\r\n" + sent)
    answer = await reader.read()
    assert b" 400 " in answer.splitlines()[0]
    assert b"the header Idempotency-Key is no UTF-8" in answer
    assert not log.records
    writer.close()


async def test_who_may_not_and_what_is_no_json(world: World, log: Log) -> None:
    found = await post(world, token=ANN)
    assert (found.status, found.body) == (403, {"message": "Policy doesn't allow dataframes:add to be performed."})
    assert (await post(world, token="nobody")).status == 401
    assert (await post(world, Content_Type="text/plain")).status == 415
    assert (await world.ask("/v2/dataframes", method="POST", token=BOSS)).status == 415
    found = await post(world, b'{"dataframes": []}')
    assert (found.status, found.body) == (400, {"message": "Parameter dataframes must not be empty."})
    assert (await post(world, b" " * 200_000)).status == 413
    assert not log.records
    assert (await post(world, body(frame(metric="x") | {"usage": {}}))).status == 204  # nothing to write
    assert not log.records


async def test_what_is_posted_is_given_back_as_it_came(world: World, store: Store) -> None:
    scope = "posted-here"
    groupby = {"project_id": scope, "id": "x", "month": "9"}
    lines = [Point(scope, line) for _, line in read(frame(point(groupby=groupby), point(groupby=groupby)))]
    unnamed = read(frame(point(groupby={"id": "y"}), begin="2026-01-02", end="2026-01-03"))
    store_posts(store, *chain(records_of("1" * 32, "", lines), records_of("2" * 32, "", unnamed)))

    query = {"begin": BEGIN, "end": "2026-02-01", "filters": f"project_id:{scope}"}
    found = await world.get("/v2/dataframes", query, BOSS)
    assert found == {"total": 2, "dataframes": [frame(point(groupby=groupby), point(groupby=groupby))]}
    old = await world.get("/v1/storage/dataframes", {"begin": "2026-01-02", "end": "2026-01-03"}, BOSS)
    assert old["dataframes"] == [
        {
            "begin": "2026-01-02T00:00:00",
            "end": "2026-01-03T00:00:00",
            "tenant_id": NO_SCOPE,
            "resources": [
                {"service": "cpu", "desc": {"id": "y", "flavor": "m1"}, "volume": "1.9", "rating": "2.5"},
            ],
        }
    ]
    summary = await world.get("/v2/summary", {**query, "groupby": "type,month"}, BOSS)
    assert summary["results"] == [[BEGIN, "2026-02-01T00:00:00+00:00", 3.8, 5.0, "cpu", "1"]]
