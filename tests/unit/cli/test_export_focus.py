"""`rater export focus`: refused as a report is, while something is missing."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from rater.cli.app import cli
from rater.cli.export import IncompleteExportError
from rater.reports import BeyondRetentionError
from rater.store import Store, StoreSettings, enforce_retention, migrate
from rater.store.settings import RetentionSettings
from tests.unit.store.builders import HOUR, JANUARY, a_frame, a_hit_frame, a_line, store_frames


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    """Alpha is complete, beta is not; nothing of either is expected after the first hour of January."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RATER_STORE__DSN", "chdb://:memory:")
    with Store(StoreSettings("chdb://:memory:", retention=RetentionSettings(frames=1))) as store:
        migrate(store)
        for frame in (a_frame(lines=[a_line(1, price="7")]), a_hit_frame("beta")):
            store_frames(store, msgspec.structs.replace(frame, expected_until=JANUARY + HOUR))
        yield store


def export(*more: str) -> Result:
    return CliRunner().invoke(cli, ["export", "focus", "--month", "2026-01", "--out", "csv", *more])


def rows(result: Result) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(result.stdout)))


@pytest.mark.usefixtures("store")
def test_a_month_with_a_hole_is_refused_unless_that_is_wanted() -> None:
    # when a complete scope is asked for, then its costs are there
    done = export("--scope", "alpha")
    assert (done.exit_code, [row["BilledCost"] for row in rows(done)]) == (0, ["7"])

    # and of all scopes nothing is written, and each hole is named
    refused = export()
    assert refused.stdout == ""
    assert isinstance(refused.exception, IncompleteExportError)
    assert refused.exception.exit_status == 3
    assert "beta: instance from prometheus: 2026-01-01 00:01 to 2026-01-01 00:10 UTC (9 min)" in str(refused.exception)

    # and what there is comes with --incomplete, marked
    anyway = export("--incomplete")
    assert anyway.exit_code == 0
    assert [(row["BillingAccountId"], row["x_FrameStatus"]) for row in rows(anyway)] == [
        ("alpha", "rated"),
        ("beta", "partial"),
    ]
    assert "not in the costs: beta: instance" in anyway.stderr


def test_a_month_beyond_retention_is_refused(store: Store) -> None:
    store_frames(store, a_frame(period_begin=JANUARY + 90 * 24 * HOUR))
    enforce_retention(store, JANUARY + 100 * 24 * HOUR)

    for done in (export(), export("--scope", "alpha"), export("--incomplete")):
        assert isinstance(done.exception, BeyondRetentionError)
        assert done.stdout == ""


@pytest.mark.parametrize(
    "arguments", [("focus",), ("focus", "--from", "2026-01-01"), ("lines", "--month", "2026-01", "--incomplete")]
)
def test_what_cannot_be_meant_is_wrong_usage(arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(cli, ["export", *arguments]).exit_code == 2
