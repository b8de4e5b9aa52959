"""Costs in the columns of FOCUS, the FinOps Foundation's format: those that 1.0 requires and the mandatory ones of 1.2.

What FOCUS wants to know and rater does not (`store.focus`) stands in table `focus_settings`, so that the view
`focus_cost_usage` and the export say the same, whichever process answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pyarrow as pa

from rater.store._export_schemas import AMOUNT, TIME
from rater.store.blocks import LAST_INSTANT
from rater.store.choices import Choice
from rater.store.client import Column, Store
from rater.store.line_pages import LinePageRequest, ListedLine, line_page
from rater.store.queries import frames
from rater.store.rows import plain_text
from rater.store.settings import FocusSettings

__all__ = ["FOCUS", "focus_names", "focus_rows", "note_focus"]

PAGE_LINES = 10_000
_TEXTS = ("billing_currency", "provider", "publisher", "invoice_issuer", "resource_label")
_NEWEST = """
SELECT billing_currency, provider, publisher, invoice_issuer, resource_label, service_categories
FROM focus_settings
ORDER BY said_at DESC
LIMIT 1
"""
_TEXT = pa.string()

FOCUS = pa.schema(
    [
        ("AvailabilityZone", _TEXT),
        ("BilledCost", AMOUNT),
        ("BillingAccountId", _TEXT),
        ("BillingAccountName", _TEXT),
        ("BillingCurrency", _TEXT),
        ("BillingPeriodEnd", TIME),
        ("BillingPeriodStart", TIME),
        ("ChargeCategory", _TEXT),
        ("ChargeClass", _TEXT),
        ("ChargeDescription", _TEXT),
        ("ChargeFrequency", _TEXT),
        ("ChargePeriodEnd", TIME),
        ("ChargePeriodStart", TIME),
        ("CommitmentDiscountCategory", _TEXT),
        ("CommitmentDiscountId", _TEXT),
        ("CommitmentDiscountName", _TEXT),
        ("CommitmentDiscountStatus", _TEXT),
        ("CommitmentDiscountType", _TEXT),
        ("ConsumedQuantity", AMOUNT),
        ("ConsumedUnit", _TEXT),
        ("ContractedCost", AMOUNT),
        ("ContractedUnitPrice", AMOUNT),
        ("EffectiveCost", AMOUNT),
        ("InvoiceIssuerName", _TEXT),
        ("ListCost", AMOUNT),
        ("ListUnitPrice", AMOUNT),
        ("PricingCategory", _TEXT),
        ("PricingQuantity", AMOUNT),
        ("PricingUnit", _TEXT),
        ("ProviderName", _TEXT),
        ("PublisherName", _TEXT),
        ("RegionId", _TEXT),
        ("RegionName", _TEXT),
        ("ResourceId", _TEXT),
        ("ResourceName", _TEXT),
        ("ResourceType", _TEXT),
        ("ServiceCategory", _TEXT),
        ("ServiceName", _TEXT),
        ("SkuId", _TEXT),
        ("SkuPriceId", _TEXT),
        ("SubAccountId", _TEXT),
        ("SubAccountName", _TEXT),
        ("Tags", _TEXT),
        ("x_FrameStatus", _TEXT),
        ("x_LineId", _TEXT),
        ("x_Revision", pa.uint32()),
        ("x_RuleVersion", pa.uint32()),
    ]
)


def note_focus(store: Store) -> None:
    """Puts the settings where the view reads them, if they are not there. Raises StoreError."""
    wanted = store.settings.focus
    if focus_names(store) == wanted:
        return
    columns = [Column(name, "String", [getattr(wanted, name)]) for name in _TEXTS]
    columns.append(Column("service_categories", "Map(String, String)", [dict(wanted.service_categories)]))
    store.insert("focus_settings", columns, f"focus-{datetime.now(UTC).isoformat()}")


def focus_names(store: Store) -> FocusSettings | None:
    """What the store has of the settings; None if nobody has written them yet."""
    found = store.rows(_NEWEST)
    if not found:
        return None
    *texts, categories = found[0]
    return FocusSettings(**dict(zip(_TEXTS, texts, strict=True)), service_categories=categories)


def focus_rows(store: Store, scope_id: str | None, begin: int | None, end: int | None) -> Iterator[list[Any]]:
    """Lines of newest revisions, and posted ones, that begin within `[begin, end)`, by scope and begin.

    Values are in the order of FOCUS' columns, numbers as text. Raises StoreError, ReadConflictError among them.
    """
    names = focus_names(store) or FocusSettings()
    choice = Choice(begin or 0, LAST_INSTANT if end is None else end)
    statuses: dict[int, str] = {}
    scopes = None if scope_id is None else (scope_id,)
    reached: str | None = None
    request = LinePageRequest(choice, PAGE_LINES, scopes)
    while True:
        page = line_page(store, request)
        for row in page.rows:
            if row.line.scope_id != reached:
                reached = row.line.scope_id
                found = frames(store, reached, choice.begin, choice.end)
                statuses = {frame.period_begin: frame.status.value for frame in found}
            status = "posted" if row.posted else statuses.get(row.line.period_begin, "rated")
            yield list(_values(row, names, status).values())
        if page.next is None:
            return
        request = msgspec.structs.replace(request, after=page.next)


def _values(row: ListedLine, names: FocusSettings, status: str) -> dict[str, Any]:
    """A line by column, in the order of FOCUS."""
    line = row.line
    labels = {**line.metadata, **line.groupby}
    resource = labels.get(names.resource_label) or None
    price, qty = plain_text(line.price), plain_text(line.qty)
    month_begin, month_end = _month(line.period_begin)
    known: dict[str, Any] = {
        "BilledCost": price,
        "BillingAccountId": line.scope_id,
        "BillingCurrency": names.billing_currency,
        "BillingPeriodEnd": month_end,
        "BillingPeriodStart": month_begin,
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{line.metric} of {resource}" if resource else line.metric,
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodEnd": row.period_end,
        "ChargePeriodStart": line.period_begin,
        "ConsumedQuantity": qty,
        "ConsumedUnit": line.unit,
        "ContractedCost": price,
        "EffectiveCost": price,
        "InvoiceIssuerName": names.invoice_issuer or names.provider,
        "ListCost": price,
        "PricingCategory": "Standard",
        "PricingQuantity": qty,
        "PricingUnit": line.unit,
        "ProviderName": names.provider,
        "PublisherName": names.publisher or names.provider,
        "RegionId": labels.get("region") or None,
        "RegionName": labels.get("region") or None,
        "ResourceId": resource,
        "ResourceName": labels.get("name") or None,
        "ResourceType": line.metric if resource else None,
        "ServiceCategory": names.service_categories.get(line.metric, "Other"),
        "ServiceName": line.metric,
        "SkuId": line.metric,
        "Tags": json.dumps(labels, ensure_ascii=False, separators=(",", ":"), sort_keys=True),
        "x_FrameStatus": status,
        "x_LineId": line.line_id,
        "x_Revision": line.revision,
        "x_RuleVersion": line.rule_version,
    }
    return {name: known.get(name) for name in FOCUS.names}


def _month(instant: int) -> tuple[int, int]:
    """Begin and end of the month of an instant, in seconds since the epoch, UTC."""
    begin = datetime.fromtimestamp(instant, UTC).replace(day=1, hour=0, minute=0, second=0)
    end = begin.replace(year=begin.year + begin.month // 12, month=begin.month % 12 + 1)
    return int(begin.timestamp()), int(end.timestamp())
