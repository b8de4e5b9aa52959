"""Months that are kept no longer: what is removed, and what everybody who asks for them is told."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from rater.audit import Setup
from rater.audit.auditor import NO_LINES, Auditor
from rater.model.interval import Interval
from rater.model.metric import Catalog, MetricSpec
from rater.model.posted import PostedLine, PostedLines
from rater.model.rated import AlertKind
from rater.reports import AuditRequest, RemoteView, Selection, StoreView, View, report_of
from rater.reports.desk import serve_desk
from rater.rework.brackets import bracket_of
from rater.rework.material import materials
from rater.rework.values import Left, Wanted
from rater.store import (
    Attribute,
    Batch,
    BeyondRetentionError,
    Choice,
    Kept,
    Kind,
    PointsRequest,
    Store,
    StoreSettings,
    SumsRequest,
    enforce_retention,
    export_lines,
    kept,
    migrate,
    write,
)
from rater.store.line_pages import LinePageRequest
from rater.store.retention import kept_by
from rater.store.settings import RetentionSettings
from tests.unit.store.builders import (
    HOUR,
    JANUARY,
    a_collection,
    a_frame,
    a_gap_alert,
    a_line,
    a_rework_alert,
    store_frames,
    store_posts,
)


def instant(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


BEGINS = [instant(f"{month}-01") for month in ("2025-11", "2025-12", "2026-01", "2026-02")]
NOVEMBER, DECEMBER, _, FEBRUARY = BEGINS
NOW = instant("2026-03-15T12:00:00")
END = 2**32 - 1


def filled(retention: RetentionSettings) -> Store:
    """A frame with lines, usage and a post at the begin of each of four months; a gap and a rework in January."""
    store = Store(StoreSettings("chdb://:memory:", retention=retention))
    migrate(store)
    batch = Batch()
    for begin in BEGINS:
        store_frames(store, a_frame(period_begin=begin, lines=[a_line(1), a_line(2)]))
        line = PostedLine(0, "support", begin, begin + HOUR, Decimal(1), Decimal(5))
        store_posts(store, PostedLines("alpha", f"{begin:032x}", [line]))
        batch.add_collection(a_collection(0, begin=begin, end=begin + HOUR, covers=[]))
    batch.add_alert(a_gap_alert(True, 0))
    batch.add_alert(a_gap_alert(True, -1, kind=AlertKind.GAP_ACCEPTED, author="kim"))
    batch.add_alert(a_rework_alert())
    write(store, batch)
    return store


@pytest.fixture(scope="module")
def lines_gone() -> Iterator[Store]:
    """Lines of November and December are gone, and usage of November; frames are all there."""
    with filled(RetentionSettings(frames=24, lines=2, usage=2)) as store:
        enforce_retention(store, NOW)
        yield store


def months(store: Store, table: str) -> list[int]:
    column = "range_begin" if table == "usage" else "period_begin"
    return [row[0] for row in store.rows(f"SELECT DISTINCT toUInt32({column}) AS b FROM {table} ORDER BY b")]


def test_whole_months_before_the_running_one_are_kept() -> None:
    settings = RetentionSettings(frames=14, lines=1)
    assert kept_by(settings, NOW) == Kept(instant("2025-01-01"), FEBRUARY, 0)
    assert kept_by(settings, FEBRUARY) == Kept(instant("2024-12-01"), JANUARY, 0)
    assert kept_by(settings, FEBRUARY - 1) == Kept(instant("2024-11-01"), DECEMBER, 0)
    assert kept_by(RetentionSettings(frames=3), NOW).lines == DECEMBER
    assert kept_by(RetentionSettings(frames=1200), NOW).frames == 0
    with pytest.raises(ValueError, match="no longer than frames"):
        RetentionSettings(frames=2, lines=3)


def test_by_default_nothing_is_even_looked_for() -> None:
    with Store(StoreSettings("http://127.0.0.1:1/rater")) as unreachable:
        assert enforce_retention(unreachable, NOW) == []


def test_each_table_loses_its_months_once(lines_gone: Store) -> None:
    assert [months(lines_gone, table) for table in ("lines", "usage", "frames")] == [BEGINS[2:], BEGINS[1:], BEGINS]
    assert kept(lines_gone) == Kept(instant("2024-03-01"), JANUARY, JANUARY)
    assert enforce_retention(lines_gone, NOW) == []


def test_a_report_of_kept_frames_does_without_their_lines(lines_gone: Store) -> None:
    found = report_of(StoreView(lines_gone), "alpha", Interval(NOVEMBER, NOVEMBER + HOUR), NOW)
    assert found.metrics[0].lines == 2


def test_whoever_asks_for_removed_lines_is_told_so(lines_gone: Store) -> None:
    view, label = StoreView(lines_gone), Attribute(Kind.LABEL, "flavor")
    everything, rest = Choice(0, END), Choice(JANUARY, END)
    told = r"lines of periods before 2026-01-01 are beyond retention \(store\.retention\.lines\)"

    for ask in (
        lambda choice: list(view.lines(Selection("alpha", choice.begin, choice.end))),
        lambda choice: view.line_page(LinePageRequest(choice, 100)).rows,
        lambda choice: list(view.points(choice)),
        lambda choice: view.point_page(PointsRequest(choice, 0, 100)).rows,
        lambda choice: view.sums(SumsRequest(choice, (label,))).rows,
        lambda choice: export_lines(lines_gone, "csv", io.BytesIO(), None, choice.begin, choice.end),
    ):
        assert ask(rest)
        with pytest.raises(BeyondRetentionError, match=told):
            ask(everything)


def test_a_frame_without_its_lines_is_not_rated_again(lines_gone: Store) -> None:
    view, wanted = StoreView(lines_gone), Wanted("r1", "rerate", "ann", "new prices")
    [gone] = materials(view, "alpha", DECEMBER, DECEMBER + HOUR, HOUR)
    [there] = materials(view, "alpha", FEBRUARY, FEBRUARY + HOUR, HOUR)

    left = bracket_of(gone, wanted, Catalog([MetricSpec("instance", unit="GiB")]))

    assert isinstance(left, Left)
    assert left.reason == "its lines are beyond retention (store.retention.lines)"
    assert (gone.lines_gone, there.lines_gone, len(there.lines)) == (True, False, 2)


def test_an_audit_counts_what_it_cannot_check_and_raises_no_alarm(lines_gone: Store) -> None:
    catalog = Catalog([MetricSpec("instance", unit="GiB")])
    auditor = Auditor(StoreView(lines_gone), Setup(HOUR, catalog), lambda: None)
    found = list(auditor.run(AuditRequest(end=DECEMBER + HOUR)))

    assert (found, auditor.counts.unchecked[NO_LINES]) == ([], 2)


def test_readers_in_other_processes_are_told_the_same(lines_gone: Store, tmp_path: Path) -> None:
    async def main() -> None:
        async with serve_desk(StoreView(lines_gone), tmp_path / "desk.sock"):
            remote: View = RemoteView(tmp_path / "desk.sock")
            assert (await asyncio.to_thread(remote.kept)).lines == JANUARY
            with pytest.raises(BeyondRetentionError, match="2026-01-01"):
                await asyncio.to_thread(lambda: list(remote.lines(Selection())))

    asyncio.run(main())
