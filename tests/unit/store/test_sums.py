"""Sums and points as the REST API asks for them, on the real engine, beside a slow reference in Python."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import pytest

import rater.store.pointing
import rater.store.posting
import rater.store.summing
from rater.model.labels import Labels
from rater.model.posted import PostedLine, PostedLines
from rater.model.rated import Line, RatedFrame
from rater.store import (
    Attribute,
    Choice,
    Condition,
    Kind,
    PointRow,
    PointsRequest,
    ReadConflictError,
    ScopeStateRow,
    Store,
    SumsRequest,
    export_lines,
    migrate,
    point_page,
    points,
    posted,
    posted_totals,
    scope_states,
    sums,
)
from tests.unit.store.builders import HOUR, JANUARY, a_frame, a_line, memory_store, store_frames, store_posts

SCOPES = ("alpha", "beta", "ga'mma")
METRICS = ("cpu", "net")
DAYS = 40
END = JANUARY + DAYS * 24 * HOUR
SCOPE, METRIC, PERIOD = Attribute(Kind.SCOPE), Attribute(Kind.METRIC), Attribute(Kind.PERIOD)
FLAVOR, AZ = Attribute(Kind.LABEL, "flavor"), Attribute(Kind.LABEL, "a'z")
EXACT = Context(prec=100)


class Entry(NamedTuple):
    """A point: of a frame, or posted with an end of its own."""

    scope_id: str
    begin: int
    line: Line | PostedLine
    end: int
    post: tuple[str, int] | None = None


def _lines(chance: random.Random) -> list[Line]:
    def labels(n: int) -> Labels:
        return {"id": f"r{n}"} | ({"a'z": chance.choice("xy")} if n % 2 else {})

    return [
        msgspec.structs.replace(
            a_line(number, metric),
            qty=Decimal(chance.randrange(1000)) / 7,
            price=Decimal(chance.randrange(10**9)).scaleb(-28),
            groupby=labels(number),
            metadata={"flavor": chance.choice(("m1", "m2"))},
        )
        for metric in METRICS
        for number in range(chance.randrange(3))
    ]


def _frames() -> list[RatedFrame]:
    chance = random.Random(7)
    begins = [JANUARY + HOUR * hour for hour in sorted(chance.sample(range(DAYS * 24), 60))]
    return [a_frame(scope, begin, lines=_lines(chance)) for scope in SCOPES for begin in begins]


def _posts() -> list[PostedLines]:
    """In periods that have frames and in others, of the same and of other lengths, several with the same times."""
    chance = random.Random(8)
    begins = [JANUARY, END - HOUR, *(frame.period_begin for frame in FRAMES[:9]), JANUARY + 1800, JANUARY + 7]

    def post(number: int) -> list[PostedLines]:
        by_month: dict[bool, list[PostedLine]] = {}
        for line in (line for n in range(8) for line in _lines(chance)):
            begin = chance.choice(begins)
            length = chance.choice((HOUR, HOUR, 60, 86_400))
            n = sum(map(len, by_month.values()))
            made = PostedLine(
                n, line.metric, begin, begin + length, line.qty, line.price, "GiB", line.groupby, line.metadata
            )
            by_month.setdefault(begin < JANUARY + 31 * 86_400, []).append(made)
        return [PostedLines(SCOPES[number % 4 % 3], f"{number:032x}", lines) for lines in by_month.values()]

    return [record for number in range(4) for record in post(number)]


FRAMES = _frames()
POSTS = _posts()
ENTRIES = [
    *(Entry(frame.scope_id, frame.period_begin, line, frame.period_end) for frame in FRAMES for line in frame.lines),
    *(Entry(post.scope_id, x.begin, x, x.end, (post.post_id, x.n)) for post in POSTS for x in post.lines),
]


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with memory_store() as opened:
        migrate(opened)
        old = [msgspec.structs.replace(a_line(9), price=Decimal(10**6))]
        store_frames(opened, *(a_frame(f.scope_id, f.period_begin, lines=old) for f in FRAMES[:50]))
        store_frames(opened, *(msgspec.structs.replace(frame, revision=1) for frame in FRAMES))
        store_posts(opened, *POSTS)
        for post in POSTS:  # delivered twice, in blocks that the engine does not know
            store_posts(opened, post)
        yield opened


def value(attribute: Attribute, entry: Entry, zone: str = "UTC", *, everywhere: bool = False) -> str:
    scope, begin, line = entry[:3]
    local = datetime.fromtimestamp(begin, UTC).astimezone(ZoneInfo(zone))
    match attribute.kind:
        case Kind.SCOPE:
            return scope
        case Kind.METRIC:
            return line.metric
        case Kind.PERIOD:
            return str(begin)
        case Kind.LABEL:
            labels = {**line.metadata, **line.groupby} if everywhere else line.groupby
            return str(labels.get(attribute.key, ""))
    form = {Kind.DAY: "%j", Kind.WEEK: "%U", Kind.MONTH: "%m", Kind.YEAR: "%Y"}[attribute.kind]
    text = local.strftime(form)
    return text if attribute.kind is Kind.WEEK else str(int(text))


def chosen(choice: Choice) -> list[Entry]:
    return [
        entry
        for entry in ENTRIES
        if choice.begin <= entry[1] < choice.end
        and all(value(c.attribute, entry, choice.time_zone, everywhere=True) in c.values for c in choice.conditions)
    ]


CHOICES = [
    Choice(JANUARY, END),
    Choice(JANUARY + 5 * HOUR, JANUARY + 20 * 24 * HOUR),
    Choice(JANUARY, END, (Condition(SCOPE, ("ga'mma", "beta")),)),
    Choice(JANUARY, END, (Condition(METRIC, ("net",)), Condition(Attribute(Kind.MONTH), ("2",)))),
    Choice(JANUARY, END, (Condition(FLAVOR, ("m2",)), Condition(SCOPE, ("alpha",)))),
    Choice(JANUARY, END, (Condition(AZ, ("", "x")), Condition(METRIC, ("cpu",)))),
    Choice(JANUARY, END, (Condition(AZ, ("') OR 1=1 --",)),)),
    Choice(0, 2**32),
]
GROUPS = [
    (),
    (SCOPE,),
    (METRIC, SCOPE),
    (PERIOD,),
    (Attribute(Kind.DAY), METRIC),
    (Attribute(Kind.YEAR), Attribute(Kind.WEEK), Attribute(Kind.MONTH)),
    (AZ, SCOPE),
    (FLAVOR,),
    (Attribute(Kind.DAY), AZ),
]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("groupby", GROUPS, ids=str)
def test_sums_are_those_of_the_points(store: Store, groupby: tuple[Attribute, ...], zone: str) -> None:
    for plain in CHOICES:
        choice = msgspec.structs.replace(plain, time_zone=zone)
        expected: dict[tuple[str, ...], tuple[Decimal, Decimal, int]] = {}
        bounds: dict[tuple[str, ...], set[int]] = {}
        for entry in chosen(choice):
            keys = tuple(value(attribute, entry, zone) for attribute in groupby)
            qty, price, n = expected.get(keys, (Decimal(0), Decimal(0), 0))
            line = entry[2]
            bounds.setdefault(keys, set()).update((entry.begin, entry.end))
            expected[keys] = (EXACT.add(qty, line.qty), EXACT.add(price, line.price), n + 1)
        # when
        page = sums(store, SumsRequest(choice, groupby))
        # then
        assert {row.keys: row.n for row in page.rows} == {keys: n for keys, (_, _, n) in expected.items()}
        assert {row.keys: row.price for row in page.rows} == {keys: price for keys, (_, price, _) in expected.items()}
        assert {row.keys: row.qty for row in page.rows} == {keys: qty for keys, (qty, _, _) in expected.items()}
        assert [row.keys for row in page.rows] == sorted(expected)
        assert all((row.begin, row.end) == (min(bounds[row.keys]), max(bounds[row.keys])) for row in page.rows)
        assert page.total == len(expected)
        part = sums(store, SumsRequest(choice, groupby, offset=1, limit=2))
        assert (part.total, part.rows) == (page.total, page.rows[1:3])
        assert sums(store, SumsRequest(choice, groupby, offset=10**6)).total == page.total


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_points_come_in_order_of_time_in_pages_or_all(store: Store, choice: Choice) -> None:
    expected = sorted(map(_place, chosen(choice)))

    everything = list(points(store, choice))

    assert [(row.period_begin, row.period_end, row.scope_id, row.posted, row.metric) for row in everything] == [
        entry[:5] for entry in expected
    ]
    assert sorted(map(_content, everything)) == sorted(
        (e.begin, e.end, e.scope_id, e.line.metric, e.line.price, *_labels(e.line.groupby, e.line.metadata))
        for e in chosen(choice)
    )
    for offset, limit in ((0, 5), (3, 10), (len(expected) - 2, 5), (len(expected) + 1, 5)):
        if offset >= 0:
            page = point_page(store, PointsRequest(choice, offset, limit))
            assert (page.total, page.rows) == (len(expected), everything[offset : offset + limit])


def _place(entry: Entry) -> tuple[Any, ...]:
    """By what points are sorted."""
    identity = entry.post or (entry.line.line_id if isinstance(entry.line, Line) else "")
    return (entry.begin, entry.end, entry.scope_id, entry.post is not None, entry.line.metric, identity)


def _labels(groupby: Labels, metadata: Labels) -> tuple[Any, ...]:
    return sorted(groupby.items()), sorted(metadata.items())


def _content(row: PointRow) -> tuple[Any, ...]:
    return (
        row.period_begin,
        row.period_end,
        row.scope_id,
        row.metric,
        row.price,
        *_labels({**row.groupby}, {**row.metadata}),
    )


def test_runs_that_are_cut_small_say_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = CHOICES[5]
    request = SumsRequest(choice, (AZ, METRIC))
    before = (sums(store, request), list(points(store, choice)), point_page(store, PointsRequest(choice, 5, 7)))

    monkeypatch.setattr(rater.store.summing, "RUN_FRAMES", 7)
    monkeypatch.setattr(rater.store.summing, "HEADS_AT_ONCE", 11)
    monkeypatch.setattr(rater.store.pointing, "RUN_LINES", 3)

    after = (sums(store, request), list(points(store, choice)), point_page(store, PointsRequest(choice, 5, 7)))
    assert after == before


def test_posted_lines_alone(store: Store) -> None:
    of_alpha = [entry for entry in ENTRIES if entry.scope_id == "alpha" and entry.post]
    rows = list(posted(store, "alpha", JANUARY, END))
    assert [(row.period_begin, row.post_id, row.n) for row in rows] == sorted(
        (entry.begin, *entry.post) for entry in of_alpha if entry.post
    )
    assert len({row.line_id for row in rows}) == len(rows)
    assert {(row.post_id, row.n): row.price for row in rows} == {entry.post: entry.line.price for entry in of_alpha}
    found = {row.metric: (row.qty, row.price, row.n) for row in posted_totals(store, "alpha", JANUARY, END)}
    assert found == {
        metric: (
            _exact(entry.line.qty for entry in of_alpha if entry.line.metric == metric),
            _exact(entry.line.price for entry in of_alpha if entry.line.metric == metric),
            sum(entry.line.metric == metric for entry in of_alpha),
        )
        for metric in METRICS
    }


def _exact(amounts: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total


def test_exports_have_posted_lines_after_the_others(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rater.store.posting, "PAGE_LINES", 10)
    target = io.BytesIO()
    told: list[tuple[int, int | None]] = []
    written = export_lines(store, "jsonl", target, progress=lambda *said: told.append(said))
    rows = [json.loads(text) for text in target.getvalue().splitlines()]
    assert written == len(rows) == len(ENTRIES)
    assert told[-1] == (len(ENTRIES), len(ENTRIES))
    from_posts = rows[-sum(len(post.lines) for post in POSTS) :]
    assert {(row["revision"], row["rule_version"]) for row in from_posts} == {(0, 0)}
    assert len({(row["scope_id"], row["period_begin"], row["line_id"]) for row in rows}) == len(rows)
    assert _exact(Decimal(row["price"]) for row in rows) == _exact(entry.line.price for entry in ENTRIES)
    of_one = io.BytesIO()
    export_lines(store, "jsonl", of_one, "beta", JANUARY, JANUARY + HOUR)
    assert len(of_one.getvalue().splitlines()) == sum(
        e.scope_id == "beta" and e.begin < JANUARY + HOUR for e in ENTRIES
    )


def test_lines_that_do_not_match_their_frame_are_never_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rater.store.summing, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(rater.store.pointing, "PAUSE_SECONDS", 0)
    with memory_store() as store:
        migrate(store)
        store_frames(store, a_frame(lines=[a_line(1), a_line(2)]))
        store.command("DELETE FROM lines WHERE groupby['id'] = 'r1'")
        choice = Choice(JANUARY, END)
        for ask in (
            lambda: sums(store, SumsRequest(choice, (AZ,))),
            lambda: point_page(store, PointsRequest(choice)),
            lambda: list(points(store, choice)),
            lambda: list(points(store, Choice(JANUARY, END, (Condition(AZ, ("",)),)))),
        ):
            with pytest.raises(ReadConflictError):
                ask()


def test_a_scope_is_rated_up_to_its_newest_period(store: Store) -> None:
    newest = max(frame.period_begin for frame in FRAMES)

    assert scope_states(store) == [ScopeStateRow(scope, newest) for scope in SCOPES]
