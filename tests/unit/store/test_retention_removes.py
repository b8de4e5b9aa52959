"""Months that leave the store, with stores that are changed: beside `test_retention`, where one is read."""

from __future__ import annotations

from typing import Any

import pytest

from rater.audit import Setup
from rater.audit.auditor import NO_USAGE, Auditor
from rater.model.interval import Interval
from rater.model.metric import Catalog, MetricSpec
from rater.reports import AuditRequest, StoreView, report_of
from rater.store import (
    Attribute,
    Batch,
    BeyondRetentionError,
    Choice,
    Kept,
    Kind,
    PointsRequest,
    StoreSchemaError,
    StoreUnavailableError,
    SumsRequest,
    enforce_retention,
    gaps,
    kept,
    posted,
    reworks,
    totals,
    write,
)
from rater.store.line_pages import LinePageRequest
from rater.store.settings import RetentionSettings
from tests.unit.store.builders import HOUR, JANUARY, a_collection, a_frame, a_line, store_frames
from tests.unit.store.test_retention import BEGINS, DECEMBER, FEBRUARY, NOVEMBER, NOW, filled, months


def test_usage_of_the_last_month_before_is_no_proof_against_a_frame() -> None:
    # given a frame of January of which one of two collections is there, since usage is whole from February on
    with filled(RetentionSettings(usage=1)) as store:
        store_frames(store, a_frame("beta", JANUARY, lines=[a_line(1), a_line(2, "volume")]))
        batch = Batch()
        samples = {"begin": JANUARY, "end": JANUARY + HOUR, "collection_id": f"c/instance/{JANUARY}"}
        batch.add_collection(a_collection(60, scope_id="beta", **samples))
        write(store, batch)
        enforce_retention(store, NOW)
        assert JANUARY in months(store, "usage")
        catalog = Catalog([MetricSpec("instance", unit="GiB"), MetricSpec("volume", unit="GiB")])
        auditor = Auditor(StoreView(store), Setup(HOUR, catalog), lambda: None, caught_up=True)

        assert list(auditor.run(AuditRequest("beta"))) == []
        assert auditor.counts.unchecked[NO_USAGE] == 1


def test_a_clock_that_is_years_ahead_removes_no_years() -> None:
    with filled(RetentionSettings(frames=1)) as store:
        assert enforce_retention(store, NOW + 10 * 366 * 86_400) == enforce_retention_of(NOW)
        assert (kept(store).frames, months(store, "frames")) == (FEBRUARY, [FEBRUARY])
    with filled(RetentionSettings(frames=1)) as store:
        store.command("TRUNCATE TABLE frames")
        assert enforce_retention(store, NOW) == []  # nothing says how late it is


def enforce_retention_of(now: int) -> list[str]:
    """What a store like the filled one loses at that second."""
    with filled(RetentionSettings(frames=1)) as store:
        return enforce_retention(store, now)


def test_nothing_is_removed_that_readers_are_not_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    with filled(RetentionSettings(frames=1)) as store:
        # given that somebody took back what was said, and it is said again
        enforce_retention(store, NOW)
        store.command("ALTER TABLE retention DELETE WHERE 1 SETTINGS mutations_sync = 2")
        assert kept(store).frames == 0
        enforce_retention(store, NOW)
        assert kept(store).frames == FEBRUARY
    with filled(RetentionSettings(frames=1)) as store:
        # when it is not taken
        monkeypatch.setattr(store, "insert", lambda *_: None)
        with pytest.raises(StoreSchemaError, match="so nothing was"):
            enforce_retention(store, NOW)
        assert months(store, "frames") == BEGINS


def test_a_month_that_cannot_be_removed_holds_nothing_else_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with filled(RetentionSettings(frames=1)) as store:
        real = store.command

        def command(statement: str, *more: Any) -> None:
            if "lines" in statement and "202512" in statement:
                raise StoreUnavailableError("too large to be dropped")
            real(statement, *more)

        monkeypatch.setattr(store, "command", command)
        with pytest.raises(StoreUnavailableError, match="too large"):
            enforce_retention(store, NOW)
        assert months(store, "lines") == [DECEMBER, FEBRUARY]
        assert months(store, "frames") == [FEBRUARY]


def test_tables_of_a_release_without_retention_lost_nothing() -> None:
    with filled(RetentionSettings()) as store:
        store.command("DROP TABLE retention")
        assert kept(store) == Kept()


def test_frames_go_with_all_that_is_said_of_them_and_reports_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with filled(RetentionSettings(frames=1, usage=1)) as store:
        # given a process that dies before it removes anything: it has said what it is about to do
        with monkeypatch.context() as dying:
            dying.setattr("rater.store.retention._months", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                enforce_retention(store, NOW)
        assert (kept(store).frames, months(store, "frames")) == (FEBRUARY, BEGINS)

        # when another one does it
        removed = enforce_retention(store, NOW)

        # then only February is there
        assert removed == [
            f"{table} of {month}"
            for table in ("lines", "posted", "frames", "usage")
            for month in ("2025-11", "2025-12", "2026-01")[: 2 if table == "usage" else 3]
        ]
        assert [months(store, table) for table in ("lines", "frames", "usage")] == [[FEBRUARY]] * 2 + [BEGINS[2:]]
        assert (list(gaps(store)), list(reworks(store)), store.rows("SELECT * FROM accepted_gaps")) == ([], [], [])
        assert list(posted(store, "alpha", 0, FEBRUARY)) == []
        assert [row.n for row in totals(store)] == [2, 1]

        # and time that is gone is neither empty nor a hole, also where only a part of it is
        view = StoreView(store)
        for begin in (NOVEMBER, JANUARY):
            with pytest.raises(BeyondRetentionError, match="periods before 2026-02-01 are beyond retention") as told:
                report_of(view, "alpha", Interval(begin, FEBRUARY + HOUR), NOW)
            assert told.value.exit_status == 3
        gone = Choice(NOVEMBER, FEBRUARY)
        for ask in (
            lambda: view.sums(SumsRequest(gone, (Attribute(Kind.METRIC),))),
            lambda: view.sums(SumsRequest(gone, (Attribute(Kind.LABEL, "flavor"),))),
            lambda: view.point_page(PointsRequest(gone)),
            lambda: view.line_page(LinePageRequest(gone, limit=10)),
            lambda: totals(store, None, NOVEMBER, FEBRUARY),
        ):
            with pytest.raises(BeyondRetentionError, match="ask for time from then on"):
                ask()
        assert report_of(view, "alpha", Interval(FEBRUARY, FEBRUARY + HOUR), NOW).frames == 1

        # and what comes late for such a month goes again
        store_frames(store, a_frame(period_begin=NOVEMBER, lines=[a_line(1)]))
        assert enforce_retention(store, NOW) == ["lines of 2025-11", "frames of 2025-11"]
