"""Costs in FOCUS' columns: what is exported is what the view shows."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from decimal import Decimal

import msgspec
import pyarrow.parquet as pq
import pytest

from rater.model.posted import PostedLine, PostedLines
from rater.store import Store, StoreSettings, migrate, plain_text
from rater.store.export import export_focus
from rater.store.focus import FOCUS, focus_names, note_focus
from rater.store.settings import FocusSettings
from tests.unit.store.builders import HOUR, JANUARY, a_frame, a_hit_frame, a_line, store_frames, store_posts

NAMES = FocusSettings("EUR", "Clouds & Co", invoice_issuer="The bank", service_categories={"instance": "Compute"})
DECEMBER = JANUARY - HOUR


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with Store(StoreSettings("chdb://:memory:", focus=NAMES)) as store:
        migrate(store)
        named = msgspec.structs.replace(
            a_line(3, "volume"), groupby={"region": "north", "name": 'my "disk"'}, metadata={}
        )
        store_frames(
            store,
            a_frame(lines=[a_line(1, price="1E-38"), named]),
            a_frame(revision=1, lines=[a_line(1, price="7.10"), named]),
            a_frame(period_begin=DECEMBER, lines=[a_line(1)]),
            a_hit_frame("beta"),
        )
        line = PostedLine(0, "support", JANUARY, JANUARY + 60, Decimal(1), Decimal(5), "hour", {"id": "é"})
        store_posts(store, PostedLines("alpha", "0a" * 16, [line], author="ann"))
        yield store


def exported(store: Store, **asked: object) -> list[dict[str, str]]:
    out = io.BytesIO()
    export_focus(store, "csv", out, **asked)  # type: ignore[arg-type]  # scope_id, begin, end
    return list(csv.DictReader(io.StringIO(out.getvalue().decode())))


def test_the_export_is_what_the_view_shows(store: Store) -> None:
    names = ", ".join(FOCUS.names)
    shown = store.rows(f"SELECT {names} FROM focus_cost_usage")
    found = {key(row): row for row in exported(store)}

    assert [name for name, *_ in store.rows("DESCRIBE focus_cost_usage")] == FOCUS.names
    assert len(shown) == len(found) == 5
    for row in shown:
        plain = {name: text(value) for name, value in zip(FOCUS.names, row, strict=True)}
        assert found[key(plain)] == plain


def key(row: dict[str, str]) -> tuple[str, str, str]:
    return row["BillingAccountId"], row["ChargePeriodStart"], row["x_LineId"]


def text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return plain_text(value)
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if hasattr(value, "strftime") else str(value)


def test_a_line_says_what_it_cost_whom_and_for_what(store: Store) -> None:
    [instance, volume, post] = exported(store, scope_id="alpha", begin=JANUARY)

    said = ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost", "BillingCurrency", "BillingAccountId")
    assert [instance[name] for name in said] == ["7.1"] * 4 + ["EUR", "alpha"]
    assert [instance[f"BillingPeriod{name}"] for name in ("Start", "End")] == [
        "2026-01-01T00:00:00Z",
        "2026-02-01T00:00:00Z",
    ]
    assert (instance["ServiceCategory"], volume["ServiceCategory"]) == ("Compute", "Other")
    assert (instance["ResourceId"], instance["ResourceType"], volume["ResourceType"]) == ("r1", "instance", "")
    assert (volume["RegionId"], volume["ResourceName"]) == ("north", 'my "disk"')
    assert json.loads(volume["Tags"]) == {"name": 'my "disk"', "region": "north"}
    assert [instance[f"{name}"] for name in ("ProviderName", "PublisherName", "InvoiceIssuerName")] == [
        "Clouds & Co",
        "Clouds & Co",
        "The bank",
    ]
    assert (post["x_FrameStatus"], post["ChargePeriodEnd"], post["ConsumedUnit"]) == (
        "posted",
        "2026-01-01T00:01:00Z",
        "hour",
    )
    [december] = exported(store, end=JANUARY)
    assert (december["BillingPeriodStart"], december["BillingPeriodEnd"]) == (
        "2025-12-01T00:00:00Z",
        "2026-01-01T00:00:00Z",
    )


def test_parquet_has_the_same_and_exact_numbers(store: Store) -> None:
    out = io.BytesIO()
    assert export_focus(store, "parquet", out, "beta") == 1

    [row] = pq.read_table(io.BytesIO(out.getvalue())).to_pylist()
    assert (row["BilledCost"], row["x_FrameStatus"], row["SkuPriceId"]) == (Decimal("0.5"), "partial", None)


def test_settings_reach_the_view_once_and_again_when_they_change(store: Store) -> None:
    rows = "SELECT count() FROM focus_settings"
    assert (focus_names(store), store.rows(rows)) == (NAMES, [(1,)])
    migrate(store)
    note_focus(store)
    assert store.rows(rows) == [(1,)]
