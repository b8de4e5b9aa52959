from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rater.store import Batch, UnstorableError, plain_text
from rater.store.blocks import amount_text, month_of, usage_rows
from tests.unit.store.builders import HOUR, JANUARY, a_collection, a_frame, a_gap_alert, a_line


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "0"),
        ("-0", "0"),
        ("0E-20", "0"),
        ("1.50", "1.5"),
        ("1200", "1200"),
        ("1.2E+3", "1200"),
        ("1E-38", "0." + "0" * 37 + "1"),
        ("-3.140", "-3.14"),
        ("1234567890123456789012345678901.10", "1234567890123456789012345678901.1"),
    ],
)
def test_a_number_has_one_plain_text(amount: str, text: str) -> None:
    assert plain_text(Decimal(amount)) == text


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30, places=38))
def test_plain_text_and_wire_text_keep_the_value(amount: Decimal) -> None:
    assert Decimal(plain_text(amount)) == amount == Decimal(amount_text(amount))
    assert "E" not in plain_text(amount)


@pytest.mark.parametrize(
    "amount", ["NaN", "Infinity", "-Infinity", "1E+31", "1000000000000000000000000000000.5", "1E-39", "0." + "1" * 39]
)
def test_what_the_column_would_cut_or_wrap_is_refused(amount: str) -> None:
    with pytest.raises(UnstorableError, match=r"cannot be stored|more than 38 decimals"):
        amount_text(Decimal(amount))


def test_superfluous_zeros_are_no_decimals() -> None:
    assert Decimal(amount_text(Decimal("1." + "0" * 60))) == 1


@pytest.mark.parametrize(
    ("instant", "month"), [(0, 197001), (JANUARY - 1, 202512), (JANUARY, 202601), (2**32 - 1, 210602)]
)
def test_the_month_of_an_instant(instant: int, month: int) -> None:
    assert month_of(instant) == month


@pytest.mark.parametrize(
    "changes",
    [
        {"period_begin": 2**32},
        {"period_end": 2**32},
        {"closed_at": -1},
        {"revision": 2**32},
        {"rule_version": -1},
        {"lines": [a_line(1), a_line(2, price="1E-40")]},
    ],
)
def test_a_frame_that_no_column_can_hold_adds_nothing(changes: dict[str, object]) -> None:
    # given a frame with one value out of range, and a batch with another frame in it
    frame = msgspec.structs.replace(a_frame(lines=[a_line(1)]), **changes)
    batch = Batch()
    batch.add_lines(a_frame("other", lines=[a_line(1)]))

    # when it is added
    def add() -> None:
        batch.add_lines(frame)
        batch.add_frame(frame, 1)

    with pytest.raises(UnstorableError):
        add()

    # then every column of the other frame still has one value
    assert all(len({len(column.values) for column in block}) == 1 for _, _, block in batch.blocks())


def test_one_block_per_table_and_month_lines_before_frames() -> None:
    # given frames of two months, an alert and a collection, added in some order
    batch = Batch()
    for period_begin in (JANUARY, JANUARY - HOUR, JANUARY + HOUR):
        frame = a_frame(period_begin=period_begin, lines=[a_line(1), a_line(2)])
        batch.add_lines(frame)
        batch.add_frame(frame, 2)
    batch.add_alert(a_gap_alert(True, 0))
    batch.add_collection(a_collection())

    # when it is cut into blocks
    cut = [(table.name, month, len(block[0].values)) for table, month, block in batch.blocks()]

    # then
    assert cut == [
        ("usage", 202601, 2),
        ("lines", 202512, 2),
        ("lines", 202601, 4),
        ("frames", 202512, 1),
        ("frames", 202601, 2),
        ("gaps", 0, 1),
    ]


def test_only_alerts_of_gaps_and_sources_are_kept() -> None:
    from rater.model.rated import AlertKind

    batch = Batch()
    kept = [batch.add_alert(a_gap_alert(True, 0, kind=kind)) for kind in AlertKind]

    of_gaps = {AlertKind.GAP_OPENED, AlertKind.GAP_RESOLVED, AlertKind.GAP_ACCEPTED}
    assert kept == [kind in of_gaps | {AlertKind.SOURCE_SILENT, AlertKind.SOURCE_BACK} for kind in AlertKind]


def test_usage_has_a_row_per_series_and_one_for_an_empty_answer() -> None:
    rows = usage_rows(a_collection(samples=3))
    empty = usage_rows(a_collection(samples=0))

    assert [row[-3:] for row in rows] == [
        ((JANUARY, JANUARY + 120), (JANUARY + 60, JANUARY + 180), ("0.50", "2.50")),
        ((JANUARY + 60,), (JANUARY + 120,), ("1.50",)),
    ]
    assert [row[-4] for row in rows] == [b'[{"id":"a","n":1},{"flavor":"m1"}]', b'[{"id":"b"},{"gone":true}]']
    assert [row[-4:] for row in empty] == [(b"", (), (), ())]


def test_samples_after_2106_are_refused() -> None:
    late = msgspec.structs.replace(
        a_collection(1), samples=[msgspec.structs.replace(a_collection().samples[0], end=2**32)]
    )
    with pytest.raises(UnstorableError, match="4294967296"):
        Batch().add_collection(late)
