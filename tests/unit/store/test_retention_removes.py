"""Months that leave the store, with stores that are changed: beside `test_retention`, where one is read."""

from __future__ import annotations

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
    Kind,
    SumsRequest,
    enforce_retention,
    gaps,
    kept,
    posted,
    reworks,
    totals,
    write,
)
from rater.store.settings import RetentionSettings
from tests.unit.store.builders import HOUR, JANUARY, a_collection, a_frame, a_line, store_frames
from tests.unit.store.test_retention import BEGINS, FEBRUARY, NOVEMBER, NOW, filled, months


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


def test_frames_go_with_all_that_is_said_of_them_and_reports_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with filled(RetentionSettings(frames=1, usage=1)) as store:
        # given a process that dies before it removes anything: it has said what it is about to do
        with monkeypatch.context() as dying:
            dying.setattr("rater.store.retention._drop", lambda *_: 1 / 0)
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
        with pytest.raises(BeyondRetentionError, match="ask for time from then on"):
            view.sums(SumsRequest(Choice(NOVEMBER, FEBRUARY), (Attribute(Kind.METRIC),)))
        assert report_of(view, "alpha", Interval(FEBRUARY, FEBRUARY + HOUR), NOW).frames == 1

        # and what comes late for such a month goes again
        store_frames(store, a_frame(period_begin=NOVEMBER, lines=[a_line(1)]))
        assert enforce_retention(store, NOW) == ["lines of 2025-11", "frames of 2025-11"]
