"""Pushes usage to rater over HTTP: gathered, numbered, repeated until it is acknowledged, counted once.

with Client("http://127.0.0.1:8889", source="meter", spool="/var/lib/meter") as client:
    client.push(Sample("projA", "requests", 1767225600, Decimal(12), groupby={"id": "gateway-1"}))
"""

from __future__ import annotations

from rater.client.async_client import AsyncClient
from rater.client.client import Client
from rater.client.errors import (
    BatchInfo,
    ClientError,
    ClosedError,
    InvalidItemError,
    NotAcknowledgedError,
    RefusedError,
    SpoolError,
)
from rater.client.wire import FaultItem, Problem
from rater.client.wire import PushedCollection as Collection
from rater.client.wire import PushedPlan as Plan
from rater.client.wire import PushedSample as Sample
from rater.client.wire import PushedValue as Value

__all__ = [
    "AsyncClient",
    "BatchInfo",
    "Client",
    "ClientError",
    "ClosedError",
    "Collection",
    "FaultItem",
    "InvalidItemError",
    "NotAcknowledgedError",
    "Plan",
    "Problem",
    "RefusedError",
    "Sample",
    "SpoolError",
    "Value",
]
