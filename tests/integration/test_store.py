"""The store on the real engine: tables, revisions, gaps, ranges, exactness."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from rater.model.interval import Interval
from rater.model.rated import AlertKind, FrameStatus
from rater.model.usage import QuarantinedItem
from rater.store import (
    Batch,
    ReadConflictError,
    ScopeRow,
    Store,
    StoreSchemaError,
    StoreSettings,
    check_schema,
    counts,
    delete_superseded,
    frame_at,
    frames,
    gaps,
    lines,
    lines_at,
    migrate,
    migrations,
    missing_migrations,
    reused_numbers,
    revision_of,
    reworks,
    scopes,
    totals,
    usage,
    write,
)
from rater.store import queries as queries_module
from tests.unit.store.builders import (
    HOUR,
    JANUARY,
    a_collection,
    a_frame,
    a_gap_alert,
    a_hit_frame,
    a_line,
    a_rework_alert,
    store_frames,
)

TABLES = [
    "accepted_gaps",
    "audits",
    "source_alerts",
    "focus_settings",
    "frames",
    "gaps",
    "lines",
    "migrations",
    "posted",
    "retention",
    "reworks",
    "rule_events",
    "usage",
]
VIEWS = [
    "cost_by_day",
    "cost_by_hour",
    "cost_by_month",
    "coverage",
    "current_frames",
    "current_lines",
    "focus_cost_usage",
    "gap_states",
    "open_gaps",
    "posts",
    "rework_differences",
    "totals",
    "unrated_usage",
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store on disk."""
    with Store(StoreSettings(f"chdb://{tmp_path}/clickhouse")) as opened:
        migrate(opened)
        yield opened


def merged(store: Store) -> None:
    """Lets every background merge that may ever happen have happened."""
    for table in ("lines", "frames", "gaps", "usage", "posted", "reworks", "accepted_gaps", "source_alerts", "audits"):
        store.command(f"OPTIMIZE TABLE {table} FINAL")


# --- migrations


def test_migrations_are_applied_once_and_survive_reopening(tmp_path: Path) -> None:
    settings = StoreSettings(f"chdb://{tmp_path}/deep/below/clickhouse")
    with Store(settings) as store:
        with pytest.raises(StoreSchemaError, match="run `rater migrate`"):
            check_schema(store)
        assert [m.number for m in migrate(store)] == list(range(1, len(migrations()) + 1))
        assert migrate(store) == []
    with Store(settings) as store:
        check_schema(store)
        assert migrate(store) == []
        names = [name for [name] in store.rows("SHOW TABLES")]
        assert sorted(names) == sorted(TABLES + VIEWS)


def test_a_migration_that_changed_after_it_was_applied_is_refused(store: Store) -> None:
    known = migrations()
    known[1] = msgspec.structs.replace(known[1], checksum="0" * 64)
    with pytest.raises(StoreSchemaError, match="0002_frames"):
        migrate(store, known)


def test_tables_of_a_newer_rater_are_refused(store: Store) -> None:
    newest = len(migrations())
    with pytest.raises(StoreSchemaError, match=f"migration {newest}, this rater knows {newest - 1}"):
        migrate(store, migrations()[:-1])


def test_a_migration_interrupted_before_its_note_is_applied_again(store: Store) -> None:
    store.command("ALTER TABLE migrations DELETE WHERE number >= 2 SETTINGS mutations_sync = 1")
    store_frames(store, a_frame(lines=[a_line(1)]))

    assert [m.number for m in missing_migrations(store)] == [m.number for m in migrations()][1:]
    migrate(store)

    assert len(list(lines(store))) == 1


def test_the_ddl_is_found_in_schemas_too() -> None:
    at_root = Path(__file__).parents[2] / "schemas" / "clickhouse"
    assert sorted(path.name for path in at_root.glob("*.sql")) == [f"{m.number:04}_{m.name}.sql" for m in migrations()]


# --- what was written is read back


def test_frames_come_back_as_they_were(store: Store) -> None:
    plain, hit = a_frame("beta", lines=[a_line(1), a_line(2, "volume")]), a_hit_frame()
    store_frames(store, plain, hit)

    found = list(frames(store))

    for frame, row in zip((hit, plain), found, strict=True):
        given = msgspec.structs.asdict(frame)
        assert {name: given[name] for name in row.__struct_fields__ if name in given} == {
            name: getattr(row, name) for name in row.__struct_fields__ if name in given
        }
        assert row.line_count == len(frame.lines)


def test_until_when_a_scope_is_expected_is_kept(store: Store) -> None:
    ends = [None, JANUARY + HOUR, JANUARY + 100 * HOUR]
    hours = [
        msgspec.structs.replace(a_frame(period_begin=JANUARY + n * HOUR), expected_until=e) for n, e in enumerate(ends)
    ]

    store_frames(store, *hours)

    assert [row.expected_until for row in frames(store)] == ends


def test_numbers_are_kept_to_the_last_digit(store: Store) -> None:
    # given prices that fill the column, cancel each other out, and sum to what no float holds
    texts = [
        "9" * 30 + "." + "9" * 38,
        "-" + "9" * 30 + "." + "9" * 38,
        "0." + "0" * 37 + "1",
        "1e-7",
        "1E+30",
        "0.1",
        "0.2",
    ]
    store_frames(store, *(a_frame(f"s{n}", lines=[a_line(n, price=text)]) for n, text in enumerate(texts)))

    # when they are read and summed
    found = {line.groupby["n"]: line.price for line in lines(store)}
    [total] = totals(store)

    # then
    assert found == {str(n): Decimal(text) for n, text in enumerate(texts)}
    assert str(total.price) == "1" + "0" * 30 + "." + "3000001" + "0" * 30 + "1"
    assert (total.metric, total.unit, total.qty, total.n) == ("instance", "GiB", 7, 7)


def test_labels_are_the_text_that_rules_match(store: Store) -> None:
    line = msgspec.structs.replace(a_line(1), groupby={"a": True, "b": None, "c": 1.0, "d": "x"}, metadata={})
    store_frames(store, a_frame(lines=[line]))

    [found] = lines(store)

    assert (found.groupby, found.metadata) == ({"a": "True", "b": "None", "c": "1.0", "d": "x"}, {})


@pytest.mark.parametrize(
    "name", ["it's", 'a"b', "a\\b", "a\nb\tc", "{x:String}", "%(x)s", "'; DROP TABLE lines --", "é€𝄞", "a\0b"]
)
def test_no_text_means_anything_to_the_engine(store: Store, name: str) -> None:
    line = msgspec.structs.replace(a_line(1), groupby={name: name}, metric=name, unit=name)
    store_frames(store, a_frame(name, lines=[line]), a_frame("other", lines=[a_line(1)]))

    [frame] = frames(store, name)
    [found] = lines(store, name)

    assert (frame.scope_id, found.scope_id, found.metric, found.groupby) == (name, name, name, {name: name})
    assert [total.metric for total in totals(store, name)] == [name]
    assert revision_of(store, name, JANUARY) == 0


# --- ranges


def test_ranges_are_half_open_on_the_begin_of_the_period(store: Store) -> None:
    # given two scopes with four hours each over new year
    begins = [JANUARY + hour * HOUR for hour in (-2, -1, 0, 1)]
    for scope_id in ("beta", "alpha"):
        store_frames(store, *(a_frame(scope_id, begin, lines=[a_line(1), a_line(2)]) for begin in begins))

    def of(*bounds: object) -> list[tuple[str, int]]:
        return [(row.scope_id, row.period_begin) for row in frames(store, *bounds)]  # type: ignore[arg-type]

    # when, then
    everything = [(scope_id, begin) for scope_id in ("alpha", "beta") for begin in begins]
    assert of() == everything
    assert of("beta") == everything[4:]
    assert of("beta", begins[1], begins[3]) == everything[5:7]
    assert of(None, begins[3]) == [everything[3], everything[7]]
    assert of(None, None, begins[1]) == [everything[0], everything[4]]
    assert of("nobody") == of(None, begins[3] + 1) == of(None, -5, 0) == []
    assert of(None, 0, 2**40) == everything
    assert [(row.scope_id, row.period_begin) for row in lines(store, "beta", begins[1], begins[3])] == [
        (scope_id, begin) for scope_id, begin in everything[5:7] for _ in range(2)
    ]
    assert counts(store, "beta", begins[1], begins[3]) == (2, 4)
    assert [total.n for total in totals(store, "beta", begins[1], begins[3])] == [4]
    assert scopes(store) == [ScopeRow(name, begins[0], begins[3] + HOUR, 4) for name in ("alpha", "beta")]


def test_frames_may_be_chosen_by_status(store: Store) -> None:
    every = {status: a_frame(status.value, status=status) for status in FrameStatus}
    store_frames(store, *every.values())
    store_frames(store, a_frame("missing", revision=1, lines=[a_line(1)]))  # was missing, is rated

    assert [row.scope_id for row in frames(store, status=FrameStatus.RATED)] == ["missing", "rated"]
    assert list(frames(store, status=FrameStatus.MISSING)) == []
    some = frames(store, status=[FrameStatus.FAILED, FrameStatus.EMPTY])
    assert [row.scope_id for row in some] == ["empty", "failed"]


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_pages_do_not_show(store: Store, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    # given scopes of different size over two months
    for scope_id, hours in (("a", range(-3, 3)), ("b", range(1)), ("c", range(-1, 1)), ("d", ()), ("e", range(-9, 0))):
        made = [a_frame(scope_id, JANUARY + h * HOUR, lines=[a_line(n) for n in range(h % 3)]) for h in hours]
        if made:
            store_frames(store, *made)
    for gap in range(9):
        batch = Batch()
        batch.add_alert(a_gap_alert(True, 0, gap=gap, scope_id="ab"[gap % 2], period_begin=JANUARY + (gap - 4) * HOUR))
        write(store, batch)
    whole = list(frames(store)), list(lines(store)), list(gaps(store)), list(lines(store, begin=JANUARY - HOUR))

    # when the pages are tiny
    monkeypatch.setattr(queries_module, "PAGE_ROWS", rows)
    monkeypatch.setattr(queries_module, "PAGE_LINES", rows)

    # then
    paged = list(frames(store)), list(lines(store)), list(gaps(store)), list(lines(store, begin=JANUARY - HOUR))
    assert paged == whole
    assert [len(part) for part in whole] == [18, 17, 9, 9]


# --- revisions


def test_the_committed_revision_stays_while_the_next_one_is_written(store: Store) -> None:
    # given a committed revision of 100 lines
    old = a_frame(lines=[a_line(n) for n in range(100)])
    new = a_frame(revision=1, lines=[a_line(n, price="2") for n in range(80)])
    store_frames(store, old)

    # when 60 lines of the next one are in, without its frame row, whatever is merged
    half = Batch()
    half.add_lines(new, keep=60)
    write(store, half)
    merged(store)

    # then the old one stands
    assert [(row.revision, row.price) for row in lines(store)] == [(0, Decimal("0.5"))] * 100
    assert [total.price for total in totals(store)] == [50]

    # when it is there whole
    store_frames(store, new)
    merged(store)

    # then it alone counts, and a late row of the old frame changes nothing
    for _ in range(2):
        assert [(row.revision, row.price) for row in lines(store)] == [(1, Decimal(2))] * 80
        assert [(row.revision, row.line_count) for row in frames(store)] == [(1, 80)]
        assert [total.price for total in totals(store)] == [160]
        assert revision_of(store, "alpha", JANUARY) == 1
        store_frames(store, old)


def test_writing_again_changes_nothing(store: Store) -> None:
    frame = a_frame(lines=[a_line(n) for n in range(5)])
    for _ in range(3):
        store_frames(store, frame)

    assert len(list(lines(store))) == 5
    assert [total.n for total in totals(store)] == [5]
    assert counts(store) == (1, 5)


def test_superseded_lines_are_deleted_and_nothing_else(store: Store) -> None:
    # given three revisions of one frame, one of another over the month, and a next one half written
    for revision in range(3):
        store_frames(store, a_frame(revision=revision, lines=[a_line(n) for n in range(3)]))
    store_frames(store, a_frame("beta", JANUARY - HOUR, lines=[a_line(1)]))
    store_frames(store, a_frame("beta", JANUARY - HOUR, revision=1, lines=[a_line(2)]))
    half = Batch()
    half.add_lines(a_frame(revision=3, lines=[a_line(9)]))
    write(store, half)

    # when, then
    assert delete_superseded(store, 3600) == 0
    store.command("ALTER TABLE frames UPDATE inserted_at = now() - 100 WHERE 1 SETTINGS mutations_sync = 1")
    assert delete_superseded(store, 60) == 3
    assert delete_superseded(store, 60) == 0
    left = store.rows("SELECT scope_id, revision, count() FROM lines FINAL GROUP BY 1, 2 ORDER BY 1, 2")
    assert left == [("alpha", 2, 3), ("alpha", 3, 1), ("beta", 1, 1)]
    assert len(list(lines(store))) == 4


def test_lines_that_stay_incomplete_are_an_error_not_an_answer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries_module, "PAUSE_SECONDS", 0.001)
    batch = Batch()
    batch.add_lines(a_frame(lines=[a_line(1), a_line(2)]), keep=1)
    batch.add_frame(a_frame(lines=[a_line(1), a_line(2)]), 2)
    write(store, batch)

    with pytest.raises(ReadConflictError, match="alpha"):
        list(lines(store))


# --- gaps


@pytest.mark.parametrize("order", list(itertools.permutations([0, 1, 2, 3], 4))[::3])
@pytest.mark.parametrize("merging", [False, True])
def test_a_gap_is_one_row_in_whatever_order_its_alerts_come(
    store: Store, order: tuple[int, ...], merging: bool
) -> None:
    # given a gap that opened in revision 0, was resolved in 1, opened again in 4, and the first alert repeated
    alerts = [
        a_gap_alert(True, 0, 1000),
        a_gap_alert(False, 1, 2000),
        a_gap_alert(True, 4, 3000),
        a_gap_alert(True, 0, 1000),
    ]

    # when they come one by one
    for number in order:
        batch = Batch()
        batch.add_alert(alerts[number])
        write(store, batch)
        if merging:
            merged(store)

    # then it is open since the last opening
    [gap] = gaps(store, "alpha")
    assert (gap.is_open, gap.opened_revision, gap.opened_at, gap.resolved_at) == (True, 4, 3000, None)
    assert (gap.begin, gap.end, gap.gap_id, gap.reason) == (JANUARY + 60, JANUARY + 120, f"{1:032x}", "no answer")

    # when it is resolved
    batch = Batch()
    batch.add_alert(a_gap_alert(False, 5, 4000))
    write(store, batch)

    # then the row says both
    [gap] = gaps(store)
    assert (gap.is_open, gap.opened_at, gap.resolved_revision, gap.resolved_at) == (False, 3000, 5, 4000)
    assert (gap.reason, gap.resolution) == ("no answer", "collected")
    assert list(gaps(store, open_only=True)) == []


def test_a_resolution_may_come_before_the_opening(store: Store) -> None:
    for opened, revision in ((False, 1), (True, 0)):
        batch = Batch()
        batch.add_alert(a_gap_alert(opened, revision, 1000 + revision))
        batch.add_alert(a_gap_alert(True, 0, gap=2))
        write(store, batch)

    first, second = gaps(store)

    assert (first.is_open, first.opened_at, first.resolved_at) == (False, 1000, 1001)
    assert list(gaps(store, open_only=True)) == [second]


# --- usage, views


def test_usage_is_kept_as_it_was_collected(store: Store) -> None:
    batch = Batch()
    batch.add_collection(a_collection(samples=3))
    batch.add_collection(a_collection(samples=0, metric="volume", note="nothing there"))
    for _ in range(2):
        write(store, batch)

    found = store.rows(
        """SELECT metric, n, series, qty, arrayMap(x -> toUInt32(x), sample_begin), groupby['n'], covers, note
        FROM usage FINAL ORDER BY metric, n"""
    )

    covers = f"[[{JANUARY},{JANUARY + HOUR}]]"
    begins = [JANUARY, JANUARY + 60, JANUARY + 120]
    assert found == [
        ("instance", 0, '[{"id":"a","n":1},{"flavor":"m1"}]', ["0.50", "2.50"], begins[::2], "1", covers, ""),
        ("instance", 1, '[{"id":"b"},{"gone":true}]', ["1.50"], begins[1:2], "", "", ""),
        ("volume", 0, "", [], [], "", covers, "nothing there"),
    ]


def test_views_for_people(store: Store) -> None:
    store_frames(store, a_frame(lines=[a_line(1)]), a_frame("beta", lines=[a_line(1, price="7")]))
    store_frames(store, a_frame(revision=1, lines=[a_line(1), a_line(2, "volume")]))
    batch = Batch()
    batch.add_alert(a_gap_alert(True, 0))
    write(store, batch)

    assert store.rows("SELECT scope_id, metric, price FROM totals ORDER BY 1, 2") == [
        ("alpha", "instance", Decimal("0.5")),
        ("alpha", "volume", Decimal("0.5")),
        ("beta", "instance", Decimal(7)),
    ]
    assert store.rows("SELECT scope_id, revision, groupby['id'] FROM current_lines ORDER BY 1, 3") == [
        ("alpha", 1, "r1"),
        ("alpha", 1, "r2"),
        ("beta", 0, "r1"),
    ]
    assert store.rows(
        "SELECT metric, source, covered.begin[1], collection_ids FROM coverage WHERE scope_id = 'beta'"
    ) == [("instance", "prometheus", JANUARY, [f"c/instance/{JANUARY}"])]
    assert store.rows("SELECT toUInt32(gap_begin), gap_id FROM open_gaps") == [(JANUARY + 60, f"{1:032x}")]


# --- reworks and replaced revisions


def test_a_rework_of_a_frame_is_one_row_whatever_comes_how_often(store: Store) -> None:
    # given the answer to a request that was repeated and refused the second time, another refused one, in any order
    done, again = a_rework_alert(), a_rework_alert(AlertKind.REWORK_REFUSED)
    other = a_rework_alert(AlertKind.REWORK_REFUSED, rework_id="r2")
    same = a_rework_alert(period_begin=JANUARY + HOUR)
    same = msgspec.structs.replace(same, rework=msgspec.structs.replace(same.rework, revision=0))
    for alerts in ([done, other], [again, same], [done]):
        batch = Batch()
        assert all(batch.add_alert(alert) for alert in alerts)
        write(store, batch)

    for _ in range(2):
        # then each frame of each rework has one row, and what was done counts
        found = {(row.rework_id, row.period_begin): row for row in reworks(store)}
        assert {key: row.outcome for key, row in found.items()} == {
            ("r1", JANUARY): "done",
            ("r2", JANUARY): "refused",
            ("r1", JANUARY + HOUR): "unchanged",
        }
        row = found["r1", JANUARY]
        assert (row.author, row.requested, row.base_revision, row.revision) == ("ann", "new prices", 0, 1)
        assert (row.before, row.after) == (done.rework.before, done.rework.after)
        assert [r.rework_id for r in reworks(store, "alpha", JANUARY, JANUARY + 1, "r2")] == ["r2"]
        assert list(reworks(store, "beta")) == []
        assert store.rows(
            "SELECT metric, unit, toString(qty_difference), toString(price_difference) FROM rework_differences"
        ) == [("instance", "GiB", "0", "1.5")]
        # and also after every merge
        merged(store)


def test_a_replaced_revision_can_be_read_as_long_as_it_is_there(store: Store) -> None:
    # given two revisions, and what the second says of itself
    old, new = a_frame(lines=[a_line(1), a_line(2)]), a_frame(revision=1, lines=[a_line(1)])
    new = msgspec.structs.replace(new, digest="ab" * 16, rework_id="r1")
    store_frames(store, old)
    store_frames(store, new)
    # then both are there, whole
    assert [len(list(lines_at(store, "alpha", JANUARY, revision))) for revision in (0, 1, 2)] == [2, 1, 0]
    newest = frame_at(store, "alpha", JANUARY, 1)
    assert newest is not None
    assert newest == next(frames(store))
    assert (newest.digest, newest.rework_id) == ("ab" * 16, "r1")
    # and after merges the row of the old one is gone, without harm to the new one
    merged(store)
    assert frame_at(store, "alpha", JANUARY, 0) is None
    assert frame_at(store, "alpha", JANUARY, 1) == newest


def test_numbers_that_were_used_for_two_batches_of_a_scope_are_found(store: Store) -> None:
    # given a batch of several rows that is written twice, one of another hour under its number, and one of its own
    first = a_collection(producer_id="p", sequence=4, samples=3)
    other = msgspec.structs.replace(first, begin=JANUARY + HOUR, end=JANUARY + 2 * HOUR, collection_id="other")
    own = msgspec.structs.replace(first, sequence=5, collection_id="own")
    elsewhere = msgspec.structs.replace(own, scope_id="beta", collection_id="beta's")
    for part in (first, first, other, own, elsewhere):
        batch = Batch()
        batch.add_collection(part)
        write(store, batch)

    # when, then
    assert [(n.producer_id, n.sequence) for n in reused_numbers(store, "alpha")] == [("p", 4)]
    assert reused_numbers(store, "beta") == []


def test_usage_is_read_back_as_it_was_collected(store: Store) -> None:
    # given a collection with all there is to say
    said = {"note": "3.1", "proof": "weak", "quarantined": [QuarantinedItem("NaN", "is no number", {"id": "z"})]}
    part = a_collection(producer_id="p7", sequence=4, **said)
    batch = Batch()
    batch.add_collection(part)
    write(store, batch)
    # then its first row says it, and the others do not repeat it
    first, second = usage(store, "alpha", JANUARY, JANUARY + 1)
    assert (first.unit, first.producer_id, first.sequence, first.proof) == ("undefined", "p7", 4, "weak")
    assert (first.is_first, first.note, first.quarantined) == (True, "3.1", said["quarantined"])
    assert first.covers == [Interval(JANUARY, JANUARY + HOUR)]
    assert (second.is_first, second.note, second.covers, second.quarantined) == (False, "", [], [])
    assert second.proof == "weak"
