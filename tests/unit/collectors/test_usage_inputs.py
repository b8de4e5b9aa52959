"""What a replay reads: directories, packed files, standard input; and what it refuses to read."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cramjam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from collectors.errors import ReplayError
from collectors.replay.usage_file import Used
from collectors.replay.usage_inputs import Form, local_input, usage_inputs
from collectors.replay.usage_reader import open_file, open_input

PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zst": lambda plain: bytes(cramjam.zstd.compress(plain)),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
NOISE = random.Random(7)  # so that packed files are long enough to be cut somewhere


def _line(number: int = 0) -> bytes:
    line = {"scope_id": "p1", "metric": "m", "begin": "2026-01-01T00:00:00Z", "qty": "1",
            "groupby": {"id": f"{number}-{NOISE.random()}"}}  # fmt: skip
    return json.dumps(line).encode() + b"\n"


def _count(path: Path | str, form: Form | None = None) -> int:
    (source,) = usage_inputs([str(path)]).files
    with open_input(source, form) as file:
        return sum(isinstance(line.item, Used) for line in file.lines())


def _parquet(rows: int = 3) -> bytes:
    table = pa.table(
        {"scope_id": ["p1"] * rows, "metric": ["m"] * rows, "begin": ["2026-01-01T00:00:00Z"] * rows, "qty": [1] * rows}
    )
    held = io.BytesIO()
    pq.write_table(table, held)
    return held.getvalue()


CONTENT = {
    "jsonl": b"\n \n" + b"".join(map(_line, range(3))),
    "csv": b"\xef\xbb\xbfscope_id,metric,begin,qty\n" + b"p1,m,2026-01-01T00:00:00Z,1\n" * 3,
    "parquet": _parquet(),
}


@pytest.mark.parametrize("form", CONTENT)
@pytest.mark.parametrize("packing", ["", *PACK])
@pytest.mark.parametrize("name", ["usage.{form}{packing}", "usage.{form}", "usage", "usage.txt{packing}"])
def test_form_and_packing_are_known_by_the_name_or_the_first_bytes(
    tmp_path: Path, form: str, packing: str, name: str
) -> None:
    path = tmp_path / name.format(form=form, packing=packing)
    path.write_bytes(PACK.get(packing, bytes)(CONTENT[form]))

    assert _count(path) == 3


@pytest.mark.parametrize("form", CONTENT)
@pytest.mark.parametrize("packing", ["", *PACK])
@pytest.mark.parametrize("told", [True, False])
def test_standard_input(monkeypatch: pytest.MonkeyPatch, form: Any, packing: str, told: bool) -> None:
    reader, writer = os.pipe()
    os.write(writer, PACK.get(packing, bytes)(CONTENT[form]))
    os.close(writer)
    with open(reader, "rb") as pipe:  # noqa: PTH123 - a descriptor has no path
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(pipe))

        assert _count("-", form if told else None) == 3
        assert not pipe.closed


def test_a_directory_is_taken_in_order_and_what_is_no_usage_is_named(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a/z.csv.xz", "a/b/c.parquet", "c.ndjson.GZ", "_SUCCESS", "a/notes.txt", ".b.jsonl.crc"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    found = usage_inputs([str(tmp_path)])

    names = [file.name.removeprefix(f"{tmp_path}/") for file in found.files]
    assert names == ["a/b/c.parquet", "a/z.csv.xz", "b.jsonl", "c.ndjson.GZ"]
    (remark,) = found.remarks
    assert remark.startswith(f"{tmp_path}: left out, no usage file by its name: ")
    assert all(name in remark for name in ("_SUCCESS", "notes.txt", ".b.jsonl.crc"))


def test_what_is_not_there_or_holds_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match=r"none\.jsonl cannot be read: No such file"):
        usage_inputs([str(tmp_path / "none.jsonl")])
    (tmp_path / "readme").touch()
    with pytest.raises(ReplayError, match=r"holds no usage file: their names end in \.jsonl, .* \.xz if packed"):
        usage_inputs([str(tmp_path)])


def test_usage_that_would_count_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    path.touch()
    other = tmp_path / "other.jsonl"
    other.touch()
    for again in (path, tmp_path, f"{tmp_path}/../{tmp_path.name}/usage.jsonl"):
        with pytest.raises(ReplayError, match=r"usage\.jsonl is named twice, and its usage would count twice"):
            usage_inputs([str(path), str(again)])
    with pytest.raises(ReplayError, match="standard input is named twice"):
        usage_inputs(["-", "-"])
    (tmp_path / "usage.jsonl.gz").touch()
    with pytest.raises(ReplayError, match=r"usage\.jsonl and .*usage\.jsonl\.gz differ only in how they are packed"):
        usage_inputs([str(tmp_path)])
    assert len(usage_inputs([str(path), str(other)]).files) == 2


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("left", [0.0, 0.3, 0.99])
def test_a_packed_file_that_ends_early_is_an_error(tmp_path: Path, packing: str, left: float) -> None:
    whole = PACK[packing](b"".join(map(_line, range(5000))))
    path = tmp_path / f"usage.jsonl{packing}"
    path.write_bytes(whole[: int(len(whole) * left)])

    with pytest.raises(ReplayError, match=r"is (damaged after line \d+: |empty, which no).*[Nn]othing of it was publ"):
        _count(path)


@pytest.mark.parametrize("packing", [".gz", ".bz2", ".xz"])
def test_a_packed_file_with_a_wrong_byte_is_an_error(tmp_path: Path, packing: str) -> None:
    """zstd finds this only if whoever wrote the file put a checksum into it."""
    whole = bytearray(PACK[packing](b"".join(map(_line, range(5000)))))
    whole[len(whole) // 2] ^= 0x55
    path = tmp_path / f"usage.jsonl{packing}"
    path.write_bytes(whole)

    with pytest.raises(ReplayError, match=r"is damaged after line \d+"):
        _count(path)


def test_a_name_that_promises_a_packing_is_held_to_it(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl.gz"
    path.write_bytes(_line())

    with pytest.raises(ReplayError, match=r"is damaged after line 0: Not a gzipped file"):
        _count(path)


@pytest.mark.parametrize("packing", ["", ".gz"])
def test_a_damaged_parquet_file_is_an_error(tmp_path: Path, packing: str) -> None:
    whole = _parquet(20_000)
    path = tmp_path / f"usage.parquet{packing}"
    path.write_bytes(PACK.get(packing, bytes)(whole[: len(whole) // 2]))
    with pytest.raises(ReplayError, match=r"is damaged after row 0: Parquet magic bytes not found in footer"):
        _count(path)

    path.write_bytes(PACK.get(packing, bytes)(whole)[:-30])
    with pytest.raises(ReplayError, match="is damaged"):
        _count(path)


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    path.write_bytes(_line() * 3)

    with open_input(local_input(str(path))) as file:
        lines = file.lines()
        next(lines)
        with path.open("ab") as more:
            more.write(_line())
        with pytest.raises(ReplayError, match=r"changed while it was read\. Nothing of it was published"):
            list(lines)


def test_one_file_is_meant_where_one_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(_line())
    with open_file(str(tmp_path)) as file:
        assert len(list(file.lines())) == 1
    (tmp_path / "b.jsonl").touch()
    with pytest.raises(ReplayError, match="holds 2 usage files: name one of them"), open_file(str(tmp_path)):
        pass
