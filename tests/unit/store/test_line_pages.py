"""Lines from a place on, on the real engine: every page together is everything, whatever happens in between."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from rater.model.posted import PostedLine, PostedLines
from rater.model.rated import FrameStatus
from rater.store import Attribute, Choice, Condition, Kind, ReadConflictError, Store, lines, migrate
from rater.store import line_pages as module
from rater.store.line_pages import LineKey, LinePageRequest, ListedLine, line_page
from tests.unit.store.builders import HOUR, JANUARY, a_frame, a_line, memory_store, store_frames, store_posts

ALL = Choice(0, 2**32 - 1)
METRIC = Attribute(Kind.METRIC)


@pytest.fixture
def store() -> Iterator[Store]:
    with memory_store() as store:
        migrate(store)
        for scope in ("alpha", "beta", "gamma"):
            for hour in (0, 1, 2, 900):
                begin = JANUARY + hour * HOUR
                found = [a_line(n, metric) for metric in ("disk", "instance") for n in range(3)]
                store_frames(store, a_frame(scope, begin, lines=found))
        store_frames(store, a_frame("beta", JANUARY + 3 * HOUR, status=FrameStatus.MISSING))
        store_frames(store, a_frame("alpha", JANUARY, 1, lines=[a_line(n, price="2") for n in range(4)]))
        yield store


def everything(store: Store, limit: int, **asked: Any) -> list[ListedLine]:
    """All pages, one after another."""
    found: list[ListedLine] = []
    after: LineKey | None = None
    while True:
        page = line_page(store, LinePageRequest(**{"choice": ALL, **asked, "limit": limit, "after": after}))
        assert len(page.rows) <= limit
        found += page.rows
        if page.next is None:
            return found
        after = page.next


@pytest.mark.parametrize("limit", [1, 2, 5, 7, 1000])
def test_all_pages_together_are_all_lines_in_order(store: Store, limit: int) -> None:
    found = everything(store, limit)
    assert [row.line for row in found] == list(lines(store))
    assert [row.key for row in found] == sorted({row.key for row in found})
    assert {row.period_end - row.line.period_begin for row in found} == {HOUR}


@pytest.mark.parametrize("limit", [1, 4, 1000])
def test_lines_are_chosen_by_scope_time_metric_and_label(store: Store, limit: int) -> None:
    choice = Choice(
        JANUARY + HOUR,
        JANUARY + 900 * HOUR,
        (Condition(METRIC, ("disk",)), Condition(Attribute(Kind.LABEL, "id"), ("r1", "r2"))),
    )
    found = everything(store, limit, choice=choice, scopes=("gamma", "alpha", "nobody"))
    wanted = [
        line
        for line in lines(store)
        if line.scope_id in ("alpha", "gamma")
        and HOUR <= line.period_begin - JANUARY < 900 * HOUR
        and line.metric == "disk"
        and line.groupby["id"] in ("r1", "r2")
    ]
    assert len(wanted) == 8
    assert [row.line for row in found] == wanted
    assert everything(store, limit, choice=ALL, scopes=()) == []


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_posted_lines_stand_behind_those_of_their_begin(store: Store, limit: int) -> None:
    mine = [
        PostedLine(n, metric, JANUARY + n % 2 * HOUR, JANUARY + n % 2 * HOUR + 60, Decimal(1), Decimal(2))
        for n, metric in enumerate(("cpu", "disk", "cpu", "ram"))
    ]
    posts = [PostedLines("alpha", "0" * 32, mine), PostedLines("zeta", "1" * 32, mine[:1])]
    store_posts(store, *posts)
    found = everything(store, limit)
    assert [row.key for row in found] == sorted({row.key for row in found})
    assert sum(row.posted for row in found) == sum(len(post.lines) for post in posts)
    assert [row.line for row in found if not row.posted] == list(lines(store))


def test_a_place_stays_while_frames_arrive_and_are_rated_again(store: Store) -> None:
    first = line_page(store, LinePageRequest(ALL, 2, ("beta",)))
    assert first.next is not None
    store_frames(store, a_frame("aaa", JANUARY, lines=[a_line(1)]))  # before the place
    again = [a_line(n, metric, price="7") for metric in ("disk", "instance") for n in range(3)]
    store_frames(store, a_frame("beta", JANUARY, 1, lines=again))
    rest = line_page(store, LinePageRequest(ALL, 1000, ("beta",), first.next)).rows
    keys = [row.key for row in (*first.rows, *rest)]
    assert keys == [row.key for row in everything(store, 1000, scopes=("beta",))]
    assert {row.line.revision for row in rest if row.line.period_begin == JANUARY} == {1}


@pytest.mark.parametrize("labels", [(), (Condition(Attribute(Kind.LABEL, "flavor"), ("m1",)),)])
def test_a_frame_without_all_its_lines_is_no_answer(
    store: Store, labels: tuple[Condition, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0)
    choice = msgspec.structs.replace(ALL, conditions=labels)
    store.command("DELETE FROM lines WHERE scope_id = 'beta' AND metric = 'disk' AND period_begin = 1767225600")
    assert len(line_page(store, LinePageRequest(choice, 100, ("alpha",))).rows) == 22
    with pytest.raises(ReadConflictError):
        line_page(store, LinePageRequest(choice, 100, ("beta",)))


def test_a_page_looks_at_no_more_than_so_many_lines(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SCANNED", 10)
    choice = msgspec.structs.replace(ALL, conditions=(Condition(Attribute(Kind.LABEL, "id"), ("none",)),))
    page = line_page(store, LinePageRequest(choice, 1))
    assert page.rows == []
    assert page.next is not None
    choice = msgspec.structs.replace(ALL, conditions=(Condition(Attribute(Kind.LABEL, "id"), ("r1",)),))
    found = everything(store, 1, choice=choice)
    assert [row.line for row in found] == [line for line in lines(store) if line.groupby["id"] == "r1"]


def test_a_large_frame_is_counted_where_it_is_begun_within(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEW_LINES", 1)
    monkeypatch.setattr(module, "RUN_LINES", 2)
    assert [row.line for row in everything(store, 2)] == list(lines(store))
