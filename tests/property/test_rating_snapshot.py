"""A rule book that travelled as bytes goes on exactly as the one it was made from, whatever stands in the log."""

from __future__ import annotations

import msgspec
import pytest
from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from rater.model.codec import encode_json
from rater.model.rules import Change, ModuleSet, RuleEvent
from rater.rating import RuleBook, fold, snapshot
from rater.rating.snapshot import BOOK_FORMAT, BookSnapshotError, decode_book, encode_book
from rater.rating.tables import Tables
from rater.stream.rules_reader import judge
from tests.property.test_rating_book import beginnings, begun, changes, content, events

modules = st.builds(ModuleSet, st.sampled_from(["hashmap", "pyscripts"]), st.booleans(), st.integers(1, 9))
# of a log: mostly the version that the book is at (None), sometimes another; or what nobody can read
garbage = st.binary(max_size=5) | st.just(b'{"type":"rule_event","version":7}') | st.just(b'{"type":"price_event"}')
writes = st.lists(
    st.tuples(
        st.none() | st.none() | st.none() | st.integers(0, 5), st.lists(changes | modules, min_size=1, max_size=3)
    )
    | garbage,
    max_size=15,
)
Write = tuple[int | None, list[Change]] | bytes


def record(offset: int, value: bytes) -> ConsumerRecord:
    return ConsumerRecord(
        topic="rules", partition=0, offset=offset, timestamp=offset * 1000, timestamp_type=0, key=None, value=value,
        checksum=None, serialized_key_size=-1, serialized_value_size=len(value), headers=(),
    )  # fmt: skip


def log_of(book: RuleBook, written: list[Write]) -> list[ConsumerRecord]:
    """A log after `book`, by people some of whom see the newest version."""
    found = []
    for write in written:
        if isinstance(write, bytes):
            value = write
        else:
            expected, steps = write
            event = RuleEvent(book.version if expected is None else expected, "ana", "", 1000, tuple(steps))
            book, _ = book.apply(event)
            value = encode_json(event)
        found.append(record(len(found), value))
    return found


def folded(book: RuleBook, records: list[ConsumerRecord]) -> tuple[RuleBook, list[object]]:
    after, outcomes = fold(book, [found.event for found in judge(records) if found.event is not None])
    return after, list(outcomes)


@given(beginning=beginnings, written=writes, share=st.floats(0, 1))
def test_a_log_read_from_a_snapshot_gives_the_book_that_all_of_it_gives(
    beginning: list[Change], written: list[Write], share: float
) -> None:
    start = begun(beginning)
    log = log_of(start, written)
    cut = round(share * len(log))

    whole, outcomes = folded(start, log)
    part, first = folded(start, log[:cut])
    part, rest = folded(decode_book(encode_book(part)), log[cut:])

    assert content(part) == content(whole)
    assert (part.version, [*first, *rest]) == (whole.version, outcomes)


@given(beginning=beginnings, steps=events)
def test_the_bytes_of_a_book_are_those_of_the_book_they_give(
    beginning: list[Change], steps: list[list[Change]]
) -> None:
    book = begun(beginning)
    for step in steps:
        book, _ = book.apply(RuleEvent(book.version, "ana", "", 1000, tuple(step)))
    raw = encode_book(book)
    assert encode_book(decode_book(raw)) == raw


def test_everything_that_a_book_is_made_of_travels() -> None:
    shape = msgspec.structs.fields(snapshot._Snapshot)
    assert {field.name for field in shape} == {"format", "version", *Tables.__slots__}


@pytest.mark.parametrize("raw", [b"", b"\x00", b"\xc1", bytes([0x91, BOOK_FORMAT]), encode_book(RuleBook.empty())[:-1]])
def test_bytes_that_are_no_book_are_refused(raw: bytes) -> None:
    with pytest.raises(BookSnapshotError, match=r"is broken .* read from the log"):
        decode_book(raw)


def test_a_book_of_another_format_is_refused_by_its_number() -> None:
    raw = msgspec.msgpack.encode([BOOK_FORMAT + 1, "who knows"])
    with pytest.raises(
        BookSnapshotError, match=rf"has format {BOOK_FORMAT + 1}, this rater reads format {BOOK_FORMAT}"
    ):
        decode_book(raw)
