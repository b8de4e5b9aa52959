"""Pages of frames, gaps and scopes, acceptances, and the health of sources, on the real engine."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from rater.model.rated import Alert, AlertKind, FrameStatus
from rater.reports import Selection, StoreView
from rater.store import Batch, Store, UnstorableError, migrate, write
from rater.store.health import AuditRow, SourceMetric, SourceRequest, StoredViolation, write_audit
from rater.store.pages import FramePageRequest, GapPageRequest, ScopePageRequest, gap_key
from tests.unit.store.builders import (
    HOUR,
    JANUARY,
    a_collection,
    a_frame,
    a_gap_alert,
    a_line,
    memory_store,
    store_frames,
)

END = 2**32 - 1


def accepted(gap: int, **changes: object) -> Alert:
    """That gap number `gap` is accepted."""
    alert = a_gap_alert(True, -1, JANUARY + 9000, gap, kind=AlertKind.GAP_ACCEPTED, reason="lost", author="kim")
    return msgspec.structs.replace(alert, **changes)


def silent(kind: AlertKind, raised_at: int, **changes: object) -> Alert:
    """What a collector says of its source."""
    alert = a_gap_alert(True, 0, raised_at, 77, kind=kind, scope_id="", metric="", source="prom", reason="timeout")
    return msgspec.structs.replace(alert, begin=JANUARY, end=raised_at, **changes)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with memory_store() as store:
        migrate(store)
        for hour in range(5):
            begin = JANUARY + hour * HOUR
            status = FrameStatus.PARTIAL if hour == 4 else FrameStatus.RATED
            store_frames(store, a_frame("alpha", begin, lines=[a_line(1)], status=status))
        store_frames(store, a_frame("beta", JANUARY, status=FrameStatus.MISSING))
        store_frames(store, a_frame("alpha", JANUARY, 1, lines=[a_line(1)]))
        batch = Batch()
        for gap in (1, 2, 3, 4):
            batch.add_alert(a_gap_alert(True, 0, gap=gap))
        batch.add_alert(a_gap_alert(False, 1, gap=3))
        batch.add_alert(accepted(2))
        batch.add_alert(accepted(3))
        batch.add_alert(a_gap_alert(True, 0, gap=5, scope_id="beta", source="push"))
        batch.add_alert(silent(AlertKind.SOURCE_SILENT, JANUARY + 100))
        batch.add_collection(a_collection())
        write(store, batch)
        yield store


def test_frames_by_pages_of_newest_revisions(store: Store) -> None:
    view = StoreView(store)
    first = view.frame_page(FramePageRequest("alpha", 0, END, 2))
    assert [(row.period_begin, row.revision) for row in first] == [(JANUARY, 1), (JANUARY + HOUR, 0)]
    rest = view.frame_page(FramePageRequest("alpha", first[-1].period_begin + 1, END, 9))
    assert [row.period_begin for row in rest] == [JANUARY + hour * HOUR for hour in (2, 3, 4)]
    partial = view.frame_page(FramePageRequest("alpha", 0, END, 9, (FrameStatus.PARTIAL,)))
    assert [row.period_begin for row in partial] == [JANUARY + 4 * HOUR]
    assert view.frame_page(FramePageRequest("nobody", 0, END, 9)) == []


def test_gaps_by_pages_states_and_filters(store: Store) -> None:
    view = StoreView(store)

    def numbers(**wanted: object) -> list[tuple[int, str]]:
        request = msgspec.structs.replace(GapPageRequest(0, END, 100), **wanted)
        return [(int(row.gap.gap_id, 16), row.state) for row in view.gap_page(request)]

    everything = [(1, "open"), (2, "accepted"), (3, "resolved"), (4, "open"), (5, "open")]
    assert numbers() == everything
    found, after = [], None
    while page := view.gap_page(GapPageRequest(0, END, 2, after=after)):
        found += [(int(row.gap.gap_id, 16), row.state) for row in page]
        after = gap_key(page[-1].gap)
    assert found == everything
    assert numbers(states=("open",)) == [(1, "open"), (4, "open"), (5, "open")]
    assert numbers(states=("accepted", "resolved")) == [(2, "accepted"), (3, "resolved")]
    assert numbers(scopes=("beta",)) == numbers(source="push") == [(5, "open")]
    assert numbers(scopes=()) == []
    assert numbers(metric="nothing") == []
    assert numbers(gap_id=f"{4:032x}") == [(4, "open")]
    assert numbers(begin=JANUARY + 60 * 4, end=JANUARY + 60 * 5) == [(4, "open")]
    [row] = view.gap_page(GapPageRequest(0, END, 1, gap_id=f"{2:032x}"))
    assert row.accepted is not None
    assert (row.accepted.author, row.accepted.reason, row.accepted.accepted_at) == ("kim", "lost", JANUARY + 9000)


def test_acceptances_of_a_time(store: Store) -> None:
    view = StoreView(store)
    assert [int(row.gap_id, 16) for row in view.accepted_gaps(Selection("alpha"))] == [2, 3]
    assert view.accepted_gaps(Selection("alpha", JANUARY + 1)) == []
    assert view.accepted_gaps(Selection("alpha", 0, JANUARY)) == []
    assert view.accepted_gaps(Selection("beta")) == []


def test_scopes_by_pages(store: Store) -> None:
    view = StoreView(store)
    [alpha] = view.scope_page(ScopePageRequest(1))
    assert (alpha.scope_id, alpha.begin, alpha.end, alpha.frames) == ("alpha", JANUARY, JANUARY + 5 * HOUR, 5)
    assert (alpha.last_complete, alpha.newest_status, alpha.open_gaps) == (JANUARY + 3 * HOUR, FrameStatus.PARTIAL, 2)
    [beta] = view.scope_page(ScopePageRequest(9, None, "alpha"))
    assert (beta.scope_id, beta.last_complete, beta.open_gaps) == ("beta", None, 1)
    assert [row.scope_id for row in view.scope_page(ScopePageRequest(9, ("beta", "nobody")))] == ["beta"]


def test_the_newest_word_about_a_source_counts(store: Store) -> None:
    view = StoreView(store)
    [said] = view.silent_sources(SourceRequest(JANUARY))
    assert (said.source, said.silent_from, said.reason) == ("prom", JANUARY, "timeout")
    batch = Batch()
    batch.add_alert(silent(AlertKind.SOURCE_BACK, JANUARY + 200))
    write(store, batch)
    assert view.silent_sources(SourceRequest(JANUARY)) == []
    assert view.source_metrics(SourceRequest(JANUARY)) == [
        SourceMetric("prometheus", "instance", JANUARY + HOUR, 1, 2, 120),
        SourceMetric("push", "instance", None, 0, 1, 60),
    ]


def test_the_last_audit_is_kept(store: Store) -> None:
    view = StoreView(store)
    assert view.last_audit() is None
    broken = StoredViolation("totals_are_sums", "alpha", JANUARY, "cpu", "1", "2", ["frames(scope_id=alpha)"])
    for at in (JANUARY, JANUARY + 3600):
        write_audit(store, AuditRow(at, 1.5, 0, 7, 3, {"usage is not stored": 2}, 1, [broken]))
    found = view.last_audit()
    assert found == AuditRow(JANUARY + 3600, 1.5, 0, 7, 3, {"usage is not stored": 2}, 1, [broken])


@pytest.mark.parametrize("alert", [accepted(1, period_begin=2**33), silent(AlertKind.SOURCE_BACK, 2**33)])
def test_a_time_that_does_not_fit_is_refused(alert: Alert) -> None:
    with pytest.raises(UnstorableError, match="cannot be stored"):
        Batch().add_alert(alert)
