"""Posted lines on the real engine: what changes while it is read, what comes twice, what SQL shows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest

import rater.store.pointing
from rater.model.posted import PostedLine, PostedLines
from rater.store import Batch, Choice, PointRow, PointsRequest, Store, migrate, point_page, posted, sums, totals, write
from rater.store.choices import SumsRequest
from rater.store.posting import BELIEVED_SECONDS, any_posted
from tests.unit.store.builders import HOUR, JANUARY, a_frame, a_line, memory_store, store_frames, store_posts

YEAR = Choice(JANUARY, JANUARY + 365 * 24 * HOUR)
LINE = PostedLine(0, "cpu", JANUARY, JANUARY + 60, Decimal(1), Decimal(2), groupby={"id": "a", "n": 1})


@pytest.fixture
def store() -> Iterator[Store]:
    with memory_store() as opened:
        migrate(opened)
        yield opened


def test_what_is_posted_while_a_page_is_read_is_read_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more line between the two statements: the page is that of before or of after, and nothing in between."""
    store_posts(store, PostedLines("alpha", "0" * 32, [LINE]))
    read = rater.store.pointing._lines

    def posted_meanwhile(*arguments: Any) -> list[PointRow]:
        monkeypatch.setattr(rater.store.pointing, "_lines", read)
        store_posts(store, PostedLines("alpha", "1" * 32, [LINE]))
        return read(*arguments)

    monkeypatch.setattr(rater.store.pointing, "_lines", posted_meanwhile)
    page = point_page(store, PointsRequest(YEAR))
    assert (page.total, len(page.rows)) == (2, 2)


def test_what_comes_twice_counts_once_whatever_the_record_is_cut_into(store: Store) -> None:
    more = PostedLine(1, "cpu", JANUARY, JANUARY + 60, Decimal("1e-38"), Decimal("-0.25"))
    for lines in ([LINE, more], [LINE], [more]):
        store_posts(store, PostedLines("alpha", "ab" * 16, lines, author="ann"))
    (row,) = sums(store, SumsRequest(YEAR)).rows
    assert (row.n, row.qty, row.price) == (2, Decimal("1." + "0" * 37 + "1"), Decimal("1.75"))
    assert [(found.n, found.author, found.groupby) for found in posted(store, "alpha", JANUARY, JANUARY + HOUR)] == [
        (0, "ann", {"id": "a", "n": "1"}),
        (1, "ann", {}),
    ]


def test_a_batch_of_several_months_is_one_block_each(store: Store) -> None:
    batch = Batch()
    for month in range(3):
        begin = JANUARY + 31 * 24 * HOUR * month
        batch.add_posted(PostedLines("a", f"{month:032x}", [PostedLine(0, "m", begin, begin + 1, Decimal(1))]))
    assert (len(list(batch.blocks())), batch.weight) == (3, 3)
    assert write(store, batch, "token") == {"posted": 3}


def test_no_insert_is_dropped_for_looking_like_one_before(store: Store) -> None:
    """Of a topic that was made anew the first offsets, and so the tokens of batches, are those of the old one."""
    post = PostedLines("a", "1" * 32, [LINE])
    for record in (post, PostedLines("a", "2" * 32, [LINE])):
        batch = Batch()
        batch.add_posted(record)
        write(store, batch, "token")
    assert len(list(posted(store, "a", JANUARY, JANUARY + HOUR))) == 2
    store.command("DELETE FROM posted WHERE scope_id = 'a'")
    for token in ("token", ""):  # the sink's offsets are set back
        batch = Batch()
        batch.add_posted(post)
        write(store, batch, token)
        assert len(list(posted(store, "a", JANUARY, JANUARY + HOUR))) == 1, token


def test_a_page_of_very_many_begins_is_read(store: Store) -> None:
    """Each is a key of the statement that reads the lines: of so long a scope 5 000 are more than it takes."""
    lines = [msgspec.structs.replace(LINE, n=n, begin=JANUARY + n, end=JANUARY + n + 1) for n in range(5000)]
    store_posts(store, PostedLines("s" * 250, "1" * 32, lines))
    page = point_page(store, PointsRequest(YEAR, limit=5000))
    assert [row.period_begin for row in page.rows] == [line.begin for line in lines]


def test_views_show_what_is_billed(store: Store) -> None:
    store_frames(store, a_frame("alpha", lines=[a_line(1)]))
    store_posts(store, PostedLines("alpha", "0" * 32, [LINE]))
    assert [(row.metric, row.price) for row in totals(store, "alpha")] == [("cpu", 2), ("instance", Decimal("0.5"))]
    assert store.rows("SELECT status, revision, n FROM totals ORDER BY status") == [("posted", 0, 1), ("rated", 0, 1)]
    lines = store.rows(
        "SELECT metric, revision, rule_version, groupby['id'], uniqExact(line_id) OVER () FROM current_lines ORDER BY 1"
    )
    assert lines == [("cpu", 0, 0, "a", 2), ("instance", 0, 3, "r1", 2)]


def test_what_another_process_posts_is_seen_after_a_moment(store: Store) -> None:
    assert not sums(store, SumsRequest(YEAR)).rows
    with memory_store() as other:  # the same engine, by another client
        store_posts(other, PostedLines("alpha", "0" * 32, [LINE]))
    store.posted_asked_at = time.monotonic() + 60
    assert not any_posted(store)
    store.posted_asked_at = time.monotonic() - 2 * BELIEVED_SECONDS
    assert any_posted(store)
    assert len(sums(store, SumsRequest(YEAR)).rows) == 1
    assert point_page(store, PointsRequest(YEAR)).total == 1
