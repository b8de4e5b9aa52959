"""Exports, read back by others' readers: the same values in each form."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rater.store import (
    Batch,
    Store,
    StoreSettings,
    export_frames,
    export_gaps,
    export_lines,
    migrate,
    write,
    write_export,
)
from rater.store import export as export_module
from tests.unit.store.builders import HOUR, JANUARY, a_frame, a_gap_alert, a_hit_frame, a_line, store_frames

SMALLEST = "0." + "0" * 37 + "1"
LARGEST = "9" * 30 + "." + "9" * 37 + "8"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Two frames with lines, a hit one, an open and a resolved gap."""
    with Store(StoreSettings(f"chdb://{tmp_path}/clickhouse")) as opened:
        migrate(opened)
        store_frames(
            opened,
            a_hit_frame("a,\"b'\n"),
            a_frame("beta", lines=[a_line(1, price=SMALLEST), a_line(2, price=LARGEST)]),
            a_frame("beta", JANUARY + HOUR, lines=[a_line(1, qty="1.50", price="-1200")]),
        )
        batch = Batch()
        for alert in (a_gap_alert(True, 0), a_gap_alert(True, 0, gap=2), a_gap_alert(False, 1, gap=2)):
            batch.add_alert(alert)
        write(opened, batch)
        yield opened


def exported(store: Store, what: str, out: str, **filters: Any) -> bytes:
    stream = io.BytesIO()
    write_export(store, what, out, stream, **filters)  # type: ignore[arg-type]  # names from the test's parameters
    return stream.getvalue()


def from_jsonl(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.decode().splitlines()]


def from_csv(content: bytes) -> list[dict[str, Any]]:
    rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    return [{name: _parsed(value) for name, value in row.items()} for row in rows]


def _parsed(value: str) -> Any:
    if value in ("true", "false") or value[:1] in ("{", "["):
        return json.loads(value)
    return value


def from_parquet(content: bytes) -> list[dict[str, Any]]:
    table = pq.read_table(io.BytesIO(content))
    return [{name: _plain(value) for name, value in row.items()} for row in table.to_pylist(maps_as_pydicts="strict")]


def _plain(value: Any) -> Any:
    """What was read from Parquet as JSON would have it."""
    if isinstance(value, datetime):
        assert value.tzinfo is not None
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, Decimal):
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value


@pytest.mark.parametrize("what", ["lines", "frames", "gaps"])
@pytest.mark.parametrize("block", [1, 500])
def test_every_form_says_the_same(store: Store, monkeypatch: pytest.MonkeyPatch, what: str, block: int) -> None:
    monkeypatch.setattr(export_module, "ROWS_PER_BLOCK", block)

    of_json = from_jsonl(exported(store, what, "jsonl"))
    of_csv = from_csv(exported(store, what, "csv"))
    of_parquet = from_parquet(exported(store, what, "parquet"))

    assert of_parquet == of_json
    assert of_csv == [
        {name: value if isinstance(value, bool | list | dict) else _csv_text(value) for name, value in row.items()}
        for row in of_json
    ]


def _csv_text(value: Any) -> str:
    return "" if value is None else str(value)


def test_lines_are_exact_and_ordered(store: Store) -> None:
    rows = from_jsonl(exported(store, "lines", "jsonl", scope_id="beta"))

    assert [row["price"] for row in sorted(rows[:2], key=lambda row: str(row["groupby"]["id"]))] == [SMALLEST, LARGEST]
    assert rows[2] == {
        "scope_id": "beta",
        "period_begin": "2026-01-01T01:00:00Z",
        "revision": 0,
        "metric": "instance",
        "line_id": a_line(1).line_id,
        "qty": "1.5",
        "price": "-1200",
        "unit": "GiB",
        "groupby": {"id": "r1", "n": "1"},
        "metadata": {"flavor": "m1"},
        "rule_version": 3,
    }


def test_frames_carry_what_was_proven_and_what_is_missing(store: Store) -> None:
    [row] = from_jsonl(exported(store, "frames", "jsonl", end=JANUARY + 1))[:1]

    hour = {"begin": "2026-01-01T00:00:00Z", "end": "2026-01-01T01:00:00Z"}
    assert (row["status"], row["weak"], row["line_count"], row["closed_at"]) == (
        "partial",
        True,
        1,
        "2026-01-01T01:01:00Z",
    )
    assert row["totals"] == [{"metric": "instance", "unit": "GiB", "qty": "1", "price": "0.5", "n": 1}]
    assert row["coverage"][0]["covered"] == [hour]
    assert row["coverage"][0]["collections"][0] == {
        "collection_id": f"c/instance/{JANUARY}",
        "attempt": 0,
        **hour,
        "samples": 60,
    }
    assert [(gap["begin"], gap["end"]) for gap in row["gaps"]] == [("2026-01-01T00:01:00Z", "2026-01-01T00:10:00Z")]
    assert row["quarantined"][0]["groupby"] == {"id": "é", "n": "1"}


def test_gaps_may_be_the_open_ones(store: Store) -> None:
    stream = io.BytesIO()
    assert export_gaps(store, "jsonl", stream, open_only=True) == 1
    assert [row["resolved_at"] for row in from_jsonl(stream.getvalue())] == [None]


@pytest.mark.parametrize(("out", "content"), [("jsonl", b""), ("csv", b"scope_id,period_begin,")])
def test_nothing_is_a_file_without_rows(store: Store, out: str, content: bytes) -> None:
    found = exported(store, "lines", out, scope_id="nobody")
    assert found.startswith(content)
    assert found.count(b"\n") == (out == "csv")


def test_nothing_is_a_parquet_file_with_a_schema(store: Store) -> None:
    schema = pq.read_schema(io.BytesIO(exported(store, "lines", "parquet", scope_id="nobody")))
    assert (str(schema.field("price").type), str(schema.field("period_begin").type)) == (
        "decimal256(76, 38)",
        "timestamp[ms, tz=UTC]",  # Parquet has no coarser one; whole seconds all the same
    )


def test_progress_counts_rows(store: Store) -> None:
    seen: list[tuple[int, int | None]] = []
    export_lines(store, "csv", io.BytesIO(), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (4, 4)

    export_frames(store, "csv", io.BytesIO(), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3, 3)


def test_a_stream_that_cannot_tell_its_position_will_do(store: Store) -> None:
    class Pipe:
        def __init__(self) -> None:
            self.content = b""

        def write(self, data: bytes) -> int:
            self.content += bytes(data)
            return len(data)

        def flush(self) -> None:
            pass

    pipe = Pipe()
    assert write_export(store, "frames", "parquet", pipe) == 3  # type: ignore[arg-type]  # all that is needed of it
    assert pq.read_table(io.BytesIO(pipe.content)).num_rows == 3
