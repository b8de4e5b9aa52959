"""Replay of usage files: what is published of them, and what is refused."""

from __future__ import annotations

import gzip
import json
import random
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import cramjam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.errors import PublishError, ReplayError
from collectors.plans import PlanBook
from collectors.replay.journal import Journal
from collectors.replay.run import ReplayOptions, ReplayProgress, ReplayReport, replay
from collectors.times import iso
from rater.model.codec import MSGPACK, decode_usage
from rater.model.interval import Interval, clip, subtract, uncovered, union
from rater.model.metric import Catalog, MetricSpec
from rater.model.rated import RejectedHeaders
from rater.model.usage import ScopePlan

T = 1_767_225_600  # 2026-01-01T00:00:00Z
P = 3600
OPTIONS = ReplayOptions(attempt=5)


def _sample(at: int, scope_id: str = "p1", metric: str = "instance", qty: Any = "1", **more: Any) -> str:
    line = {"scope_id": scope_id, "metric": metric, "begin": iso(T + at), "qty": qty, **more}
    return json.dumps(line)


def _covers(begin: int, end: int, scope_id: str = "*", metric: str = "*") -> str:
    return json.dumps(
        {"covers": {"scope_id": scope_id, "metric": metric, "begin": iso(T + begin), "end": iso(T + end)}}
    )


async def _replay(log: Any, path: Path, *lines: str, **more: Any) -> ReplayReport:
    path.write_text("\n".join(lines) + "\n")
    options = more.pop("options", OPTIONS)
    plans = more.pop("plans", PlanBook())
    return await replay([str(path)], log, _read_back(plans), options, **more)


def _read_back(plans: PlanBook | None = None) -> Any:
    """A topic in which nothing lies but plans."""

    async def read(journal: Journal) -> Journal:
        journal.plans = plans or journal.plans
        return journal

    return read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.jsonl"


def _shape(log: Any) -> list[tuple[str, str, int, int, list[Interval], int]]:
    return [(d.scope_id, d.metric, d.begin - T, d.end - T, list(d.covers), len(d.samples)) for d in log.drafts]


async def test_each_covered_piece_is_a_collection_and_the_hole_is_none(log: Any, path: Path) -> None:
    """Given cover up to 00:40 and from 02:20; when replayed; then the hole from 00:40 to 02:20 stays open."""
    report = await _replay(
        log,
        path,
        _covers(0, 2400),
        _covers(2 * P + 1200, 3 * P),
        _sample(0, qty="1.50", unit="h", groupby={"id": "a"}),
        _sample(2 * P + 1800, unit="h"),
    )

    assert _shape(log) == [
        ("p1", "instance", 0, 2400, [(T, T + 2400)], 1),
        ("p1", "instance", 2 * P + 1200, 3 * P, [(T + 2 * P + 1200, T + 3 * P)], 1),
    ]
    first = log.drafts[0]
    assert (first.source, first.attempt, first.unit, str(first.samples[0].qty)) == ("replay", 5, "h", "1.50")
    assert first.series[0].groupby == {"id": "a"}
    assert log.plans == [ScopePlan("replay", "p1", T, T + 3 * P, ["instance"])]
    assert (report.samples, report.collections, report.rejected, report.begin, report.end) == (2, 2, 0, T, T + 3 * P)


async def test_samples_outside_the_cover_are_collections_that_prove_nothing(log: Any, path: Path) -> None:
    await _replay(log, path, _covers(600, 1200), _sample(0), _sample(600), _sample(1200), _sample(1800))

    assert _shape(log) == [
        ("p1", "instance", 0, 600, [], 1),
        ("p1", "instance", 600, 1200, [(T + 600, T + 1200)], 1),
        ("p1", "instance", 1200, 3600, [], 2),
    ]


async def test_a_star_covers_all_that_the_file_names_also_where_nothing_was_used(log: Any, path: Path) -> None:
    """Given two scopes, two metrics and cover for all; when replayed; then empty collections say 'true zero'."""
    await _replay(log, path, _covers(0, P), _sample(0), _sample(60, "p2", "volume"))

    assert [(d.scope_id, d.metric, len(d.samples)) for d in log.drafts] == [
        ("p1", "instance", 1),
        ("p1", "volume", 0),
        ("p2", "instance", 0),
        ("p2", "volume", 1),
    ]
    assert all(list(d.covers) == [(T, T + P)] for d in log.drafts)
    assert log.plans == [ScopePlan("replay", scope, T, T + P, ["instance", "volume"]) for scope in ("p1", "p2")]


async def test_stars_combine_with_names(log: Any, path: Path) -> None:
    await _replay(
        log, path,
        _covers(0, 600, "p1", "*"), _covers(600, 1200, "*", "volume"), _covers(1800, 2400, "p2", "instance"),
    )  # fmt: skip

    assert [(d.scope_id, d.metric, d.begin - T, d.end - T) for d in log.drafts] == [
        ("p1", "instance", 0, 600),
        ("p1", "volume", 0, 1200),
        ("p2", "instance", 1800, 2400),
        ("p2", "volume", 600, 1200),
    ]


async def test_covers_can_be_told_from_outside(log: Any, path: Path) -> None:
    options = ReplayOptions(attempt=1, source="import", covers=(Interval(T, T + 2 * P),))

    await _replay(log, path, _sample(0), options=options)

    assert _shape(log) == [
        ("p1", "instance", 0, P, [(T, T + P)], 1),
        ("p1", "instance", P, 2 * P, [(T + P, T + 2 * P)], 0),
    ]
    assert log.plans == [ScopePlan("import", "p1", T, T + 2 * P, ["instance"])]


async def test_a_file_of_the_missing_window_takes_nothing_out_of_the_plan(log: Any, path: Path) -> None:
    """Given a plan of two metrics; when a file with one of them fills a hole; then both are expected as before."""
    plans = PlanBook()
    plans.take(ScopePlan("replay", "p1", T, T + 3 * P, ["instance", "volume"]))

    await _replay(log, path, _covers(P, 2 * P, "p1", "instance"), _sample(P + 60), plans=plans)
    assert log.plans == []

    await _replay(log, path, _covers(2 * P, 4 * P, "p1", "network"), plans=plans)
    assert log.plans == [
        ScopePlan("replay", "p1", T + 2 * P, T + 3 * P, ["instance", "network", "volume"]),
        ScopePlan("replay", "p1", T + 3 * P, T + 4 * P, ["network"]),
    ]


async def test_a_sample_without_length_at_the_end_stands_for_its_period(log: Any, path: Path) -> None:
    await _replay(log, path, _sample(60), _sample(P + 1800))
    assert log.plans == [ScopePlan("replay", "p1", T + 60, T + 2 * P, ["instance"])]

    log.plans.clear()
    await _replay(log, path, _sample(60), _sample(P + 1800, end=iso(T + P + 2400)))
    assert log.plans == [ScopePlan("replay", "p1", T + 60, T + P + 2400, ["instance"])]


@pytest.mark.parametrize("qty", ["0.1000000000000000055511151231257827", "12345678901234567890.123456789", "-1E-20"])
async def test_quantities_are_exact_as_text_and_as_number(log: Any, path: Path, qty: str) -> None:
    line = _sample(0, qty="QTY")

    await _replay(log, path, line.replace("QTY", qty), line.replace('"QTY"', qty))

    assert [s.qty for s in log.drafts[0].samples] == [Decimal(qty)] * 2


BAD = [
    ("{", "this is no JSON"),
    ("\xff", "this is no JSON"),
    ("[]", "neither a sample nor a covers line: Expected `object`, got `array`"),
    ('{"scope_id":"p1"}', "Object missing required field `metric`"),
    (_sample(0, colour="red"), "Object contains unknown field `colour`"),
    (_sample(0, qty="NaN"), "qty is NaN: it must be a finite number"),
    (_sample(0, qty="Infinity"), "qty is Infinity: it must be a finite number"),
    (_sample(0, qty="1e31"), "at most 1E+30 is taken"),
    (_sample(0, qty="x"), "Invalid decimal string"),
    (_sample(0, qty=True), "Expected `decimal`, got `bool`"),
    (_sample(0, scope_id=""), "Expected `str` of length >= 1"),
    (_sample(0, begin="2026-01-01T00:00:00"), "begin '2026-01-01T00:00:00' has no offset from UTC"),
    (_sample(0, begin="2026-01-01T00:00:00.5Z"), "has a fraction of a second"),
    (_sample(0, begin="yesterday"), "begin 'yesterday' is no time"),
    (_sample(0, begin="1969-12-31T23:59:59Z"), "lies before 1970"),
    (_sample(0, end="2025-12-31T23:59:59Z"), "lies before begin"),
    (_sample(0, begin=1767225600), "Expected `str`, got `int`"),
    (_sample(0, groupby={"a": [1]}), "Expected `bool | int | float | str | null`, got `array`"),
    (_sample(0, groupby={"a": 2**64}), "label 'a' is an integer of more than 64 bits"),
    (_sample(0, groupby={"a": "x" * 600_000}), "the labels have 6000"),
    (_sample(0, unit="GiB"), "unit is 'GiB', metric 'instance' is declared in 'h'"),
    (_sample(0, metric="colour"), "metric 'colour' is unknown: declare it in metrics.yml"),
    (_covers(0, P, "p1", "colour"), "metric 'colour' is unknown"),
    (_covers(P, P), "holds no time"),
    ('{"covers":{"scope_id":"p1","metric":"instance"}}', "Object missing required field `begin`"),
    (
        '{"covers":{"scope_id":"*","metric":"*","begin":"2026-01-01T00:00:00Z","end":"2026-01-01T01:00:00Z",'
        '"source":"meter"}}',
        "covers what source 'meter' answered, but this file is replayed as 'replay'",
    ),
]


@pytest.mark.parametrize(("line", "reason"), BAD)
async def test_a_bad_line_goes_whole_to_rejected_and_the_rest_is_taken(
    log: Any, path: Path, line: str, reason: str
) -> None:
    raw = line.encode("latin-1")
    path.write_bytes(b"\n".join([_sample(0).encode(), raw, _sample(60).encode()]))

    report = await replay([str(path)], log, _read_back(), OPTIONS, Catalog([MetricSpec("instance", "h")]))

    assert [len(d.samples) for d in log.drafts] == [2]
    assert (report.samples, report.rejected) == (2, 1)
    (fault,) = report.faults
    assert fault.line == 2
    assert reason in fault.reason
    (rejected,) = log.rejected
    assert rejected == (
        raw,
        RejectedHeaders(fault.reason, origin_content_type="application/json", origin_file=str(path), origin_line=2),
    )


async def test_without_a_catalog_the_first_unit_of_a_metric_counts(log: Any, path: Path) -> None:
    report = await _replay(
        log,
        path,
        _covers(0, P, "p1", "instance"),
        _sample(0),
        _sample(1, unit="h"),
        _sample(2, unit="min"),
        _sample(3),
        _sample(4, metric="none"),
    )

    assert {d.metric: d.unit for d in log.drafts} == {"instance": "h", "none": "undefined"}
    assert [fault.line for fault in report.faults] == [4]
    assert "named earlier with unit 'h'" in report.faults[0].reason


async def test_a_metric_without_unit_in_the_file_has_that_of_the_catalog(log: Any, path: Path) -> None:
    await _replay(log, path, _sample(0), catalog=Catalog([MetricSpec("instance", "h")]))

    assert log.drafts[0].unit == "h"


async def test_a_line_too_long_is_refused_with_its_beginning(log: Any, path: Path) -> None:
    long = _sample(0, groupby={"a": "x" * 5_000_000})

    report = await _replay(log, path, long, _sample(60))

    assert "the line has 50" in report.faults[0].reason
    assert (report.samples, report.rejected) == (1, 1)
    assert len(log.rejected[0][0]) == 4 * 1024 * 1024


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\x89PNG\r\n\x1a\n\x00\x01", _covers(0, P).encode()])
async def test_a_file_that_names_nothing_is_an_error_and_publishes_nothing(
    log: Any, path: Path, content: bytes
) -> None:
    path.write_bytes(content)

    with pytest.raises(ReplayError, match="names no scope and metric, so nothing was published"):
        await replay([str(path)], log, _read_back(), OPTIONS)
    assert (log.drafts, log.plans, log.rejected) == ([], [], [])


async def test_a_file_that_is_not_there_is_an_error(log: Any, path: Path) -> None:
    with pytest.raises(ReplayError, match="cannot be read: No such file"):
        await replay([str(path)], log, _read_back(), OPTIONS)


async def test_a_time_far_off_is_an_error_and_publishes_nothing(log: Any, path: Path) -> None:
    with pytest.raises(ReplayError, match=r"reaches from 2026-01-01T00:00:00Z to .*is a time wrong"):
        await _replay(log, path, _sample(0), _sample(20_001 * P))
    assert log.plans == []


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
async def test_compressed_files(log: Any, tmp_path: Path, suffix: str) -> None:
    plain = b"\xef\xbb\xbf" + b"".join(_sample(60 * n).encode() + b"\r\n" for n in range(2000))
    packed = gzip.compress(plain) if suffix == ".gz" else bytes(cramjam.zstd.compress(plain))
    path = tmp_path / f"usage.jsonl{suffix}"
    path.write_bytes(packed)
    seen: list[ReplayProgress] = []

    report = await replay([str(path)], log, _read_back(), OPTIONS, watcher=seen.append)

    assert (report.samples, report.rejected) == (2000, 0)
    assert ReplayProgress("reading", len(packed), len(packed), 2000) in seen
    assert seen[-1] == ReplayProgress("publishing", 2000, 2000, 2000)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
async def test_a_truncated_file_publishes_nothing(log: Any, tmp_path: Path, suffix: str) -> None:
    plain = b"".join(_sample(60 * n).encode() + b"\n" for n in range(2000))
    packed = gzip.compress(plain) if suffix == ".gz" else bytes(cramjam.zstd.compress(plain))
    path = tmp_path / f"usage.jsonl{suffix}"
    path.write_bytes(packed[:-20])

    with pytest.raises(ReplayError, match=r"is damaged after line \d+: .* Nothing of it was published"):
        await replay([str(path)], log, _read_back(), OPTIONS)
    assert (log.drafts, log.plans) == ([], [])


async def test_csv(log: Any, tmp_path: Path) -> None:
    path = tmp_path / "usage.csv"
    path.write_bytes(
        b"scope_id,metric,begin,end,qty,unit,groupby.id,metadata.flavor\n"
        b'p1,instance,2026-01-01T00:00:00Z,2026-01-01T01:00:00Z,0.10,h,"a, ""b""\nc",\n'
        b"p1,instance,2026-01-01T00:00:00,,1,h,x,y\n"
        b"p1,instance,2026-01-01T00:10:00Z,,1\n"
        b"\n"
        b"p1,instance,2026-01-01T00:10:00Z,,\xff,h,x,y\n"
        b"p1,instance,2026-01-01T00:10:00Z,,2,h,7,small\n"
    )

    report = await replay([str(path)], log, _read_back(), OPTIONS)

    (draft,) = log.drafts
    found = [(draft.series[s.series].groupby, draft.series[s.series].metadata, str(s.qty)) for s in draft.samples]
    assert found == [({"id": 'a, "b"\nc'}, {}, "0.10"), ({"id": "7"}, {"flavor": "small"}, "2")]
    assert [(fault.line, fault.reason[:40]) for fault in report.faults] == [
        (4, "begin '2026-01-01T00:00:00' has no offse"),
        (5, "the row has 5 cells, the header has 8"),
        (7, "this is no text in UTF-8: invalid start "),
    ]
    assert log.rejected[1][0] == b"p1,instance,2026-01-01T00:10:00Z,,1"
    assert log.rejected[1][1].origin_content_type == "text/csv"


async def test_parquet(log: Any, tmp_path: Path) -> None:
    path = tmp_path / "usage.parquet"
    table = pa.table(
        {
            "scope_id": ["p1", "p1", "p1", None],
            "metric": ["instance"] * 4,
            "begin": pa.array([T, T + 60, T + 120, T], pa.timestamp("s", tz="UTC")),
            "qty": [0.1, float("nan"), 2.0, 1.0],
            "groupby.id": ["a", "b", None, "c"],
            "metadata.size": pa.array([None, 1.5, 7.0, None]),
        }
    )
    pq.write_table(table, path)

    report = await replay([str(path)], log, _read_back(), OPTIONS)

    (draft,) = log.drafts
    found = [(draft.series[s.series].groupby, draft.series[s.series].metadata, str(s.qty)) for s in draft.samples]
    assert sorted(found, key=str) == [({"id": "a"}, {}, "0.1"), ({}, {"size": 7.0}, "2.0")]
    assert [(fault.line, fault.reason[:30]) for fault in report.faults] == [
        (2, "qty is NaN: it must be a finit"),
        (4, "this is no sample: Object miss"),
    ]
    assert json.loads(log.rejected[0][0])["groupby.id"] == "b"


@pytest.mark.parametrize("name", ["usage.csv", "usage.parquet"])
async def test_columns_that_nobody_knows_are_named(log: Any, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("csv"):
        path.write_text("scope_id,metric,qty,groupby.,colour\np1,instance,1,x,red\n")
    else:
        pq.write_table(
            pa.table({"scope_id": ["p1"], "metric": ["m"], "qty": [1], "groupby.": [1], "colour": [1]}), path
        )
    with pytest.raises(ReplayError, match=r"columns unknown: 'groupby\.', 'colour'; missing: 'begin'\. A table has"):
        await replay([str(path)], log, _read_back(), OPTIONS)


async def test_a_damaged_parquet_file_is_an_error(log: Any, tmp_path: Path) -> None:
    (tmp_path / "usage.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(ReplayError, match="is damaged after row 0"):
        await replay([str(tmp_path / "usage.parquet")], log, _read_back(), OPTIONS)


async def test_a_broker_that_refuses_ends_the_replay(log: Any, path: Path) -> None:
    async def refuse(*_: object) -> None:
        raise PublishError("no room")

    log.send = refuse
    with pytest.raises(PublishError, match="no room"):
        await _replay(log, path, *(_sample(P * n) for n in range(500)))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
async def test_any_order_and_any_memory_give_the_same_collections(tmp_path_factory: Any, data: st.DataObject) -> None:
    """Given samples and covers; when the file is shuffled and memory is short; then each sample lies in one piece."""
    path = tmp_path_factory.mktemp("replay") / "usage.jsonl"
    samples = data.draw(
        st.lists(
            st.tuples(
                st.integers(0, 4 * P - 1), st.sampled_from(["p1", "p2"]), st.sampled_from("ab"), st.integers(0, 9)
            ),
            min_size=1,
            max_size=40,
        )
    )
    claims = data.draw(st.lists(st.tuples(st.integers(0, 4 * P), st.integers(1, 2 * P)), max_size=4))
    lines = [_sample(at, scope, metric, qty, groupby={"id": qty % 3}) for at, scope, metric, qty in samples]
    lines += [_covers(begin, begin + length) for begin, length in claims]
    random.Random(data.draw(st.integers(0, 9))).shuffle(lines)
    memory = data.draw(st.sampled_from([1, 7, 1000]))
    log = _Remembered()

    await _replay(log, path, *lines, options=ReplayOptions(attempt=1, memory_samples=memory))

    found = [
        (s.begin - T, d.scope_id, d.metric, int(s.qty), d.series[s.series].groupby["id"])
        for d in log.drafts
        for s in d.samples
    ]
    assert sorted(found) == sorted((*sample, sample[3] % 3) for sample in samples)
    claimed = union(Interval(T + begin, T + begin + length) for begin, length in claims)
    ranges: dict[tuple[str, str], list[Interval]] = defaultdict(list)
    for d in log.drafts:
        span = Interval(d.begin, d.end)
        assert d.begin // P == (d.end - 1) // P
        assert all(d.begin <= s.begin < d.end for s in d.samples)
        assert list(d.covers) == ([span] if not uncovered(span, claimed) else [])
        assert d.covers or (d.samples and not clip(claimed, span))
        assert not clip(ranges[d.scope_id, d.metric], span)
        ranges[d.scope_id, d.metric].append(span)
    for scope in {sample[1] for sample in samples}:
        for metric in {sample[2] for sample in samples}:
            assert subtract(claimed, ranges[scope, metric]) == []


class _Remembered:
    def __init__(self) -> None:
        self.drafts: list[Any] = []

    async def send(self, scope_id: str, records: list[bytes]) -> None:
        self.drafts += [decode_usage(record, MSGPACK) for record in records]

    async def plan(self, plan: Any) -> None:
        pass
