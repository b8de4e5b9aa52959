"""The spool: what a restart finds, after an orderly end and after none."""

from __future__ import annotations

from pathlib import Path

import pytest

from rater.client.errors import BatchInfo, SpoolError
from rater.client.gather import Batch
from rater.client.spool import Spool, State
from rater.client.wire import Problem


def a_batch(number: int) -> Batch:
    return Batch(BatchInfo(number, "p", {"A": (number, number + 1)}, 5), b"\x00body")


def test_what_waits_is_found_again(tmp_path: Path) -> None:
    first = Spool(tmp_path)
    state, waiting = first.open()
    assert (state.sequences, state.batches, waiting) == ({}, 0, [])
    for number in (1, 2, 3):
        first.write(a_batch(number))
    first.done(2)
    first.close(None)

    second = Spool(tmp_path)
    again, waiting = second.open()
    assert waiting == [1, 3]
    assert second.read(3) == a_batch(3)
    # after a crash nobody knows which numbers were used: another producer
    assert again.producer_id != state.producer_id
    assert again.batches == 3
    second.close(None)


def test_an_orderly_end_lets_the_numbers_go_on_once(tmp_path: Path) -> None:
    first = Spool(tmp_path)
    first.open()
    first.close(State("p", {"A": 17}, 4))

    second = Spool(tmp_path)
    assert second.open() == (State("p", {"A": 17}, 4), [])
    second.close(None)  # a crash: its numbers may be in use

    third = Spool(tmp_path)
    assert third.open()[0].producer_id != "p"
    third.close(None)


def test_a_torn_write_is_no_request(tmp_path: Path) -> None:
    (tmp_path / "000000000007.batch.tmp").write_bytes(b"half")

    spool = Spool(tmp_path)

    assert spool.open()[1] == []
    assert not list(tmp_path.glob("*.tmp"))
    spool.close(None)


def test_it_belongs_to_one_process(tmp_path: Path) -> None:
    first = Spool(tmp_path)
    with pytest.raises(SpoolError, match="used by another process"):
        Spool(tmp_path)
    first.close(None)
    Spool(tmp_path).close(None)


def test_refused_requests_are_put_aside_with_the_reason(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.open()
    spool.write(a_batch(9))

    spool.refuse(a_batch(9), Problem("Wrong content", 422, "one fault"))

    spool.close(None)
    again = Spool(tmp_path)
    state, waiting = again.open()
    assert (waiting, state.batches) == ([], 9)
    assert "one fault" in (tmp_path / "refused" / "000000000009.json").read_text()
    again.close(None)


@pytest.mark.parametrize(("name", "content"), [("x.batch", b""), ("state.json", b"{")])
def test_what_is_not_ours_is_told(tmp_path: Path, name: str, content: bytes) -> None:
    spool = Spool(tmp_path)
    (tmp_path / name).write_bytes(content)

    with pytest.raises(SpoolError, match="not ours"):
        spool.open()
    spool.close(None)


def test_damage_is_told(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.write(a_batch(1))
    (tmp_path / "000000000001.batch").write_bytes(b"\x01")

    with pytest.raises(SpoolError, match="damaged"):
        spool.read(1)
    with pytest.raises(SpoolError, match="cannot be read"):
        spool.read(2)
    spool.close(None)


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SpoolError, match="cannot be used"):
        Spool(tmp_path / "file")
